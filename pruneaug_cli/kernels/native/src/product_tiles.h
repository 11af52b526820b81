/* The tiles of product.c that fetch ahead as PA_FETCH says, and their table PA_TILES, by height and
 * width - 1. Both names are undefined at the end. */
#define PA_JOIN_NAMES(a, b, c, d) a##_##b##x##c##_##d
#define PA_NAME(R, V, table) PA_JOIN_NAMES(tile, R, V, table)
#define PA_TILE(R, V)                                                                          \
    static void PA_NAME(R, V, PA_TILES)(const pa_product *p, int32_t strip, int64_t at) { \
        tile(p, strip, at, R, V, 0, PA_FETCH);                                                  \
    }

PA_TILE(8, 1)
PA_TILE(6, 1) PA_TILE(6, 2)
PA_TILE(4, 1) PA_TILE(4, 2) PA_TILE(4, 3)
PA_TILE(3, 1) PA_TILE(3, 2) PA_TILE(3, 3) PA_TILE(3, 4)
PA_TILE(2, 1) PA_TILE(2, 2) PA_TILE(2, 3) PA_TILE(2, 4) PA_TILE(2, 5) PA_TILE(2, 6)
PA_TILE(1, 1) PA_TILE(1, 2) PA_TILE(1, 3) PA_TILE(1, 4) PA_TILE(1, 5) PA_TILE(1, 6)
#if PA_ACCUMULATORS >= 24
PA_TILE(8, 2) PA_TILE(8, 3)
PA_TILE(6, 3) PA_TILE(6, 4)
PA_TILE(4, 4) PA_TILE(4, 5) PA_TILE(4, 6)
PA_TILE(3, 5) PA_TILE(3, 6)
#endif

/* In place of a tile of no rows: the widest, with the position behind it. */
static void PA_NAME(0, 0, PA_TILES)(const pa_product *p, int32_t strip, int64_t at) {
    tile(p, strip, at, TAIL_ROWS, TAIL_WIDTH, 1, PA_FETCH);
}

#define PA_AT(R, V) [V - 1] = PA_NAME(R, V, PA_TILES)
static const tile_function PA_TILES[9][6] = {
    [0] = {PA_NAME(0, 0, PA_TILES)},
    [1] = {PA_AT(1, 1), PA_AT(1, 2), PA_AT(1, 3), PA_AT(1, 4), PA_AT(1, 5), PA_AT(1, 6)},
    [2] = {PA_AT(2, 1), PA_AT(2, 2), PA_AT(2, 3), PA_AT(2, 4), PA_AT(2, 5), PA_AT(2, 6)},
#if PA_ACCUMULATORS >= 24
    [3] = {PA_AT(3, 1), PA_AT(3, 2), PA_AT(3, 3), PA_AT(3, 4), PA_AT(3, 5), PA_AT(3, 6)},
    [4] = {PA_AT(4, 1), PA_AT(4, 2), PA_AT(4, 3), PA_AT(4, 4), PA_AT(4, 5), PA_AT(4, 6)},
    [6] = {PA_AT(6, 1), PA_AT(6, 2), PA_AT(6, 3), PA_AT(6, 4)},
    [8] = {PA_AT(8, 1), PA_AT(8, 2), PA_AT(8, 3)},
#else
    [3] = {PA_AT(3, 1), PA_AT(3, 2), PA_AT(3, 3), PA_AT(3, 4)},
    [4] = {PA_AT(4, 1), PA_AT(4, 2), PA_AT(4, 3)},
    [6] = {PA_AT(6, 1), PA_AT(6, 2)},
    [8] = {PA_AT(8, 1)},
#endif
};
#undef PA_AT
#undef PA_TILE
#undef PA_NAME
#undef PA_JOIN_NAMES
#undef PA_FETCH
#undef PA_TILES
