/* The ONNX Runtime operators `pruneaug::Region0` ... `pruneaug::Region63`.
 *
 * All are one kernel under 64 names: a model-local function is unique by domain and name, and every
 * region of a file carries its own function body for runtimes without this library.
 *
 * Node: inputs `values` (float32) and `masks` (uint8), both constant, then the region's inputs
 * (float32); attribute `program` (INTS); float32 outputs. The format of the three constants is
 * documented in kernels/encoding.py; pa_region_create validates it. Whatever a file holds, the
 * answer is an OrtStatus with a message, never undefined behaviour.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ort_abi.h"
#include "region.h"

enum {
    REGIONS = 64,   /* operator names; export/ gives each region of a file its own */
    CONSTANTS = 2,  /* values, masks: the node inputs before those of the region */
    MAX_PORTS = 64, /* inputs or outputs of one region; keeps compute() free of allocation */
    MAX_RANK = 8,   /* rank of a tensor of rows; planes have rank 4 */
    MESSAGE = 512,
};

typedef struct {
    int32_t kind;
    int64_t dims[3]; /* planes: C, H, W; rows: F */
} port;

typedef struct {
    const OrtApi *api;
    pa_region *region;
    size_t input_count, output_count;
    port inputs[MAX_PORTS], outputs[MAX_PORTS];
} region_kernel;

/* Leading sizes of a tensor of rows, so that outputs keep them: (2, 5, F) becomes (2, 5, F'). */
typedef struct {
    size_t rank;
    int64_t dims[MAX_RANK];
} shape;

#define RETURN_IF_FAILED(call)       \
    do {                             \
        OrtStatus *failure = (call); \
        if (failure)                 \
            return failure;          \
    } while (0)

/* ---- creating a kernel ---------------------------------------------------------------------- */

/* Bytes of the character at `text`; 0 when they are none of UTF-8. */
static size_t character(const unsigned char *text) {
    size_t size = *text < 0x80 ? 1 : *text >= 0xf0 ? 4 : *text >= 0xe0 ? 3 : 2;
    if (*text >= 0xf5 || (*text >= 0x80 && *text < 0xc2)) return 0;
    for (size_t i = 1; i < size; i++)
        if (text[i] >> 6 != 2) return 0;
    return size;
}

/* A file may hold any bytes as a name; those who read a message expect UTF-8. */
static void make_readable(char *name) {
    for (unsigned char *at = (unsigned char *)name; *at;) {
        size_t size = character(at);
        if (size == 0 || *at < ' ') *at = '?';
        at += size ? size : 1;
    }
}

static OrtStatus *refuse_node(const OrtApi *api, const OrtKernelInfo *info, const char *reason) {
    char name[128] = "", message[MESSAGE];
    size_t size = sizeof name;
    OrtStatus *failure = api->KernelInfo_GetNodeName(info, name, &size);
    if (failure) { /* a longer name than fits: the reason matters more */
        api->ReleaseStatus(failure);
        name[0] = '\0';
    }
    make_readable(name);
    snprintf(message, sizeof message, "pruneaug: node '%s': %s", name, reason);
    return api->CreateStatus(ORT_INVALID_ARGUMENT, message);
}

static OrtStatus *read_program(const OrtApi *api, const OrtKernelInfo *info, int64_t **program,
                               size_t *size) {
    OrtStatus *failure = api->KernelInfoGetAttributeArray_int64(info, "program", NULL, size);
    if (failure) {
        api->ReleaseStatus(failure);
        return refuse_node(api, info, "expected an attribute 'program' of integers");
    }
    *program = malloc(*size ? *size * sizeof **program : 1);
    if (!*program)
        return api->CreateStatus(ORT_FAIL, "pruneaug: out of memory");
    return api->KernelInfoGetAttributeArray_int64(info, "program", *program, size);
}

static OrtStatus *read_constant(const OrtApi *api, const OrtKernelInfo *info, size_t index,
                                const void **data, size_t *count) {
    static const char *const reasons[CONSTANTS] = {
        "input 0 (values) must be an initializer of the model",
        "input 1 (masks) must be an initializer of the model",
    };
    const OrtValue *value = NULL;
    OrtTensorTypeAndShapeInfo *described = NULL;
    int is_constant = 0;
    RETURN_IF_FAILED(api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
    if (!is_constant || !value)
        return refuse_node(api, info, reasons[index]);
    RETURN_IF_FAILED(api->GetTensorTypeAndShape(value, &described));
    OrtStatus *failure = api->GetTensorShapeElementCount(described, count);
    api->ReleaseTensorTypeAndShapeInfo(described);
    /* the interface has no read-only accessor this old; nothing is written through it */
    return failure ? failure : api->GetTensorMutableData((OrtValue *)value, (void **)data);
}

static OrtStatus *make_region(const OrtApi *api, const OrtKernelInfo *info, const int64_t *program,
                              size_t size, pa_region **region) {
    const void *values = NULL, *masks = NULL;
    size_t values_size = 0, masks_size = 0;
    char reason[MESSAGE / 2] = "";
    RETURN_IF_FAILED(read_constant(api, info, 0, &values, &values_size));
    RETURN_IF_FAILED(read_constant(api, info, 1, &masks, &masks_size));
    if (pa_region_create(program, size, values, values_size, masks, masks_size, region, reason,
                         sizeof reason))
        return refuse_node(api, info, reason);
    return NULL;
}

static OrtStatus *check_ports(const OrtApi *api, const OrtKernelInfo *info,
                              const region_kernel *kernel) {
    size_t inputs = 0, outputs = 0;
    char reason[MESSAGE / 2];
    RETURN_IF_FAILED(api->KernelInfo_GetInputCount(info, &inputs));
    RETURN_IF_FAILED(api->KernelInfo_GetOutputCount(info, &outputs));
    if (inputs != kernel->input_count + CONSTANTS || outputs != kernel->output_count) {
        snprintf(
            reason, sizeof reason,
            "the program has %zu inputs and %zu outputs, the node %zu (after values and masks) "
            "and %zu",
            kernel->input_count, kernel->output_count, inputs > CONSTANTS ? inputs - CONSTANTS : 0,
            outputs);
        return refuse_node(api, info, reason);
    }
    if (kernel->input_count > MAX_PORTS || kernel->output_count > MAX_PORTS)
        return refuse_node(api, info, "a region has at most 64 inputs and 64 outputs");
    return NULL;
}

static void destroy_kernel(void *opaque) {
    region_kernel *kernel = opaque;
    if (!kernel)
        return;
    pa_region_destroy(kernel->region);
    free(kernel);
}

static OrtStatus *fill_kernel(region_kernel *kernel, const OrtKernelInfo *info) {
    int64_t *program = NULL;
    size_t size = 0;
    OrtStatus *failure = read_program(kernel->api, info, &program, &size);
    if (!failure)
        failure = make_region(kernel->api, info, program, size, &kernel->region);
    free(program);
    if (failure)
        return failure;
    kernel->input_count = pa_region_inputs(kernel->region);
    kernel->output_count = pa_region_outputs(kernel->region);
    RETURN_IF_FAILED(check_ports(kernel->api, info, kernel));
    for (size_t i = 0; i < kernel->input_count; i++)
        pa_region_input(kernel->region, i, &kernel->inputs[i].kind, kernel->inputs[i].dims);
    for (size_t i = 0; i < kernel->output_count; i++)
        pa_region_output(kernel->region, i, &kernel->outputs[i].kind, kernel->outputs[i].dims);
    return NULL;
}

static OrtStatus *create_kernel(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                                void **out) {
    (void)op;
    region_kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel)
        return api->CreateStatus(ORT_FAIL, "pruneaug: out of memory");
    kernel->api = api;
    OrtStatus *failure = fill_kernel(kernel, info);
    if (failure) {
        destroy_kernel(kernel);
        kernel = NULL;
    }
    *out = kernel;
    return failure;
}

/* ---- running it ----------------------------------------------------------------------------- */

static void write_shape(char *out, size_t size, const int64_t *dims, size_t rank) {
    size_t used = 0;
    for (size_t i = 0; i < rank && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)dims[i]);
}

static OrtStatus *refuse_shape(const OrtApi *api, size_t index, const port *expected,
                               const int64_t *dims, size_t rank) {
    char found[128] = "", message[MESSAGE];
    const int64_t *d = expected->dims;
    write_shape(found, sizeof found, dims, rank);
    if (expected->kind == PA_PLANES)
        snprintf(message, sizeof message,
                 "pruneaug: region input %zu: expected shape (N, %lld, %lld, %lld), got (%s)",
                 index, (long long)d[0], (long long)d[1], (long long)d[2], found);
    else
        snprintf(message, sizeof message,
                 "pruneaug: region input %zu: expected shape (..., %lld), got (%s)", index,
                 (long long)d[0], found);
    return api->CreateStatus(ORT_INVALID_ARGUMENT, message);
}

static int fits(const port *expected, const int64_t *dims, size_t rank) {
    if (expected->kind == PA_ROWS)
        return rank >= 1 && dims[rank - 1] == expected->dims[0];
    return rank == 4 && memcmp(dims + 1, expected->dims, sizeof expected->dims) == 0;
}

/* Product of the leading sizes; cannot overflow, since the tensor's elements exist in memory,
 * unless one of them is zero. */
static int64_t count_samples(const port *expected, const int64_t *dims, size_t rank) {
    int64_t samples = 1;
    size_t leading = expected->kind == PA_PLANES ? 1 : rank - 1;
    for (size_t i = 0; i < leading; i++)
        if (dims[i] == 0)
            return 0;
    for (size_t i = 0; i < leading; i++)
        samples *= dims[i];
    return samples;
}

static OrtStatus *read_dims(const OrtApi *api, const OrtValue *value, size_t index,
                            int64_t dims[MAX_RANK], size_t *rank) {
    OrtTensorTypeAndShapeInfo *info = NULL;
    RETURN_IF_FAILED(api->GetTensorTypeAndShape(value, &info));
    OrtStatus *failure = api->GetDimensionsCount(info, rank);
    if (!failure && *rank > MAX_RANK) {
        char message[MESSAGE];
        snprintf(message, sizeof message,
                 "pruneaug: region input %zu: expected at most %d dimensions, got %zu", index,
                 (int)MAX_RANK, *rank);
        failure = api->CreateStatus(ORT_INVALID_ARGUMENT, message);
    }
    if (!failure)
        failure = api->GetDimensions(info, dims, *rank);
    api->ReleaseTensorTypeAndShapeInfo(info);
    return failure;
}

static OrtStatus *bind_input(const region_kernel *kernel, const OrtKernelContext *context,
                             size_t index, const float **data, shape *found, int64_t *samples) {
    const OrtApi *api = kernel->api;
    const port *expected = &kernel->inputs[index];
    const OrtValue *value = NULL;
    RETURN_IF_FAILED(api->KernelContext_GetInput(context, index + CONSTANTS, &value));
    if (!value)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "pruneaug: a region input is missing");
    RETURN_IF_FAILED(read_dims(api, value, index, found->dims, &found->rank));
    if (!fits(expected, found->dims, found->rank))
        return refuse_shape(api, index, expected, found->dims, found->rank);
    *samples = count_samples(expected, found->dims, found->rank);
    return api->GetTensorMutableData((OrtValue *)value, (void **)data);
}

/* Bind all inputs; `first` becomes the shape of the first, whose leading sizes outputs inherit. */
static OrtStatus *bind_inputs(const region_kernel *kernel, const OrtKernelContext *context,
                              const float **inputs, shape *first, int64_t *samples) {
    RETURN_IF_FAILED(bind_input(kernel, context, 0, &inputs[0], first, samples));
    for (size_t i = 1; i < kernel->input_count; i++) {
        shape other;
        int64_t others = 0;
        RETURN_IF_FAILED(bind_input(kernel, context, i, &inputs[i], &other, &others));
        if (others != *samples) {
            char message[MESSAGE];
            snprintf(message, sizeof message,
                     "pruneaug: region input %zu has %lld samples, input 0 has %lld", i,
                     (long long)others, (long long)*samples);
            return kernel->api->CreateStatus(ORT_INVALID_ARGUMENT, message);
        }
    }
    return NULL;
}

static OrtStatus *bind_output(const region_kernel *kernel, OrtKernelContext *context, size_t index,
                              const shape *first, int64_t samples, float **data) {
    const port *made = &kernel->outputs[index];
    OrtValue *value = NULL;
    shape out;
    if (made->kind == PA_PLANES) {
        out = (shape){4, {samples, made->dims[0], made->dims[1], made->dims[2]}};
    } else if (kernel->inputs[0].kind == PA_ROWS) {
        out = *first;
        out.dims[out.rank - 1] = made->dims[0];
    } else {
        out = (shape){2, {samples, made->dims[0]}};
    }
    RETURN_IF_FAILED(
        kernel->api->KernelContext_GetOutput(context, index, out.dims, out.rank, &value));
    return kernel->api->GetTensorMutableData(value, (void **)data);
}

typedef struct {
    const OrtApi *api;
    const OrtKernelContext *context;
} pool;

/* The engine's loop on the session's own threads. */
static void run_parallel(void *state, void (*task)(void *context, size_t index), void *context,
                         size_t count) {
    const pool *threads = state;
    OrtStatus *failure =
        threads->api->KernelContext_ParallelFor(threads->context, task, count, 0, context);
    if (!failure)
        return;
    threads->api->ReleaseStatus(failure); /* refused before starting: no task has run */
    for (size_t i = 0; i < count; i++)
        task(context, i);
}

static OrtStatus *compute(void *opaque, OrtKernelContext *context) {
    region_kernel *kernel = opaque;
    const float *inputs[MAX_PORTS];
    float *outputs[MAX_PORTS];
    shape first;
    int64_t samples = 0;
    char reason[MESSAGE] = "";
    RETURN_IF_FAILED(bind_inputs(kernel, context, inputs, &first, &samples));
    for (size_t i = 0; i < kernel->output_count; i++)
        RETURN_IF_FAILED(bind_output(kernel, context, i, &first, samples, &outputs[i]));
    if (samples == 0)
        return NULL;
    pool threads = {kernel->api, context};
    pa_parallel parallel = {&threads, run_parallel};
    if (pa_region_run(kernel->region, samples, inputs, outputs, &parallel, reason, sizeof reason))
        return kernel->api->CreateStatus(ORT_FAIL, reason);
    return NULL;
}

/* ---- describing the operators --------------------------------------------------------------- */

typedef struct {
    OrtCustomOp op; /* first, so that the address of one is the address of the other */
    char name[16];
} region_op;

static const char *op_name(const OrtCustomOp *op) {
    return ((const region_op *)op)->name;
}

static const char *op_provider(const OrtCustomOp *op) {
    (void)op;
    return NULL;
}

static int input_type(const OrtCustomOp *op, size_t index) {
    (void)op;
    return index == 1 ? ORT_TENSOR_UINT8 : ORT_TENSOR_FLOAT;
}

static size_t input_types(const OrtCustomOp *op) {
    (void)op;
    return CONSTANTS + 1;
}

static int output_type(const OrtCustomOp *op, size_t index) {
    (void)op;
    (void)index;
    return ORT_TENSOR_FLOAT;
}

static int input_characteristic(const OrtCustomOp *op, size_t index) {
    (void)op;
    return index < CONSTANTS ? ORT_REQUIRED : ORT_VARIADIC;
}

static int output_characteristic(const OrtCustomOp *op, size_t index) {
    (void)op;
    (void)index;
    return ORT_VARIADIC;
}

static int memory_type(const OrtCustomOp *op, size_t index) {
    (void)op;
    (void)index;
    return ORT_MEMORY_DEFAULT;
}

/* Also: one output type, variadic arguments of one type, first version of the operators. */
static int one(const OrtCustomOp *op) {
    (void)op;
    return 1;
}

static size_t one_type(const OrtCustomOp *op) {
    (void)op;
    return 1;
}

static int no_end_version(const OrtCustomOp *op) {
    (void)op;
    return INT32_MAX;
}

static region_op region_ops[REGIONS];

static void describe(region_op *described, int index) {
    snprintf(described->name, sizeof described->name, "Region%d", index);
    described->op = (OrtCustomOp){
        .version = ORT_INTERFACE_VERSION,
        .GetName = op_name,
        .GetExecutionProviderType = op_provider,
        .GetInputType = input_type,
        .GetInputTypeCount = input_types,
        .GetOutputType = output_type,
        .GetOutputTypeCount = one_type,
        .KernelDestroy = destroy_kernel,
        .GetInputCharacteristic = input_characteristic,
        .GetOutputCharacteristic = output_characteristic,
        .GetInputMemoryType = memory_type,
        .GetVariadicInputMinArity = one,
        .GetVariadicInputHomogeneity = one,
        .GetVariadicOutputMinArity = one,
        .GetVariadicOutputHomogeneity = one,
        .CreateKernelV2 = create_kernel,
        .KernelComputeV2 = compute,
        .GetStartVersion = one,
        .GetEndVersion = no_end_version,
    };
}

static OrtStatus *make_domain(const OrtApi *api, OrtCustomOpDomain **domain) {
    RETURN_IF_FAILED(api->CreateCustomOpDomain("pruneaug", domain));
    for (int i = 0; i < REGIONS; i++) {
        OrtStatus *failure = api->CustomOpDomain_Add(*domain, &region_ops[i].op);
        if (failure) {
            api->ReleaseCustomOpDomain(*domain);
            return failure;
        }
    }
    return NULL;
}

/* Runs when the library is loaded, before anybody can call it from two threads. */
__attribute__((constructor)) static void describe_all(void) {
    for (int i = 0; i < REGIONS; i++)
        describe(&region_ops[i], i);
}

/* The entry point ONNX Runtime looks for. One domain serves every session of the process and lives
 * as long as the library: sessions keep pointers into it. */
PA_EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    static _Atomic(OrtCustomOpDomain *) shared;
    const OrtApi *api = base->GetApi(ORT_INTERFACE_VERSION);
    if (!api) {
        char message[MESSAGE];
        snprintf(message, sizeof message,
                 "pruneaug: the operators need ONNX Runtime 1.17 or newer, this is %s",
                 base->GetVersionString());
        return base->GetApi(1)->CreateStatus(ORT_FAIL, message);
    }
    OrtCustomOpDomain *domain = atomic_load(&shared);
    if (!domain) {
        OrtCustomOpDomain *none = NULL;
        RETURN_IF_FAILED(make_domain(api, &domain));
        if (!atomic_compare_exchange_strong(&shared, &none,
                                            domain)) { /* another thread was first */
            api->ReleaseCustomOpDomain(domain);
            domain = none;
        }
    }
    return api->AddCustomOpDomain(options, domain);
}
