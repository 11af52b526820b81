/* Single steps of reading a program, each checked. */
#include "reader.h"

#include <stdarg.h>
#include <stdio.h>

int pa_fail(pa_error error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (error.text && error.size) vsnprintf(error.text, error.size, format, arguments);
    va_end(arguments);
    return -1;
}

const int64_t *pa_take(pa_reader *from, size_t count) {
    if (count > from->size - from->position) return NULL;
    const int64_t *record = from->integers + from->position;
    from->position += count;
    return record;
}

int pa_cut_short(const pa_reader *from) {
    return pa_fail(from->error, "program ends after %zu integers", from->size);
}

const float *pa_floats(const pa_reader *from, int64_t offset, int64_t count) {
    if (offset < 0 || count < 0 || (uint64_t)offset > from->values_size ||
        (uint64_t)count > from->values_size - (uint64_t)offset)
        return NULL;
    return from->values + offset;
}

int pa_make_shape(pa_shape *shape, int32_t kind, int64_t channels, int64_t height, int64_t width) {
    if (!within(channels, 1, MOST_SIZE) || !within(height, 1, MOST_SIZE) ||
        !within(width, 1, MOST_SIZE) || height * width > MOST_ELEMENTS ||
        channels * (height * width) > MOST_ELEMENTS)
        return -1;
    *shape = (pa_shape){kind, (int32_t)channels, (int32_t)height, (int32_t)width};
    return 0;
}
