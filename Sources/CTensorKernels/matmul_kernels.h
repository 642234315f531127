// Products of a packed matrix with quantised activations, in tiles of row blocks × tokens. The including file defines
//   EK(tile)               sums of one tile over all k blocks: the integers of a k block, or of its halves, exactly,
//                          then scaled into float accumulators in the order of the k blocks
//   EK_TILE_TOKENS         4 or 8: tokens of the largest tile of one row block
//   EK_STREAMS             1 or 2: row blocks that a product of one or two tokens reads at once
// The halves of a k block are summed apart where they have scales of their own, the activations' or the weights' (with
// two factors). Minimums are added with the last half, or with each where they have factors of halves.
// Tiles are inlined with constant numbers of row blocks and tokens, their product at most EK_TILE_TOKENS, into a
// function for each way to hold a matrix: in one function for all, the compiler takes four times as long.
#define EK_LAYOUTS(of)                                                                                            \
  of(2, 1, 2, 0) of(3, 0, 2, 0) of(4, 0, 0, 0) of(4, 1, 0, 0) of(4, 1, 1, 0) of(4, 0, 0, 1) of(4, 0, 1, 1)          \
  of(5, 0, 0, 0) of(5, 1, 0, 0) of(5, 1, 1, 0) of(6, 0, 2, 0) of(8, 0, 0, 0)
#define EK_IS(bits_, has_minimum_, factors_, levels_)                                                             \
  (w->bits == bits_ && w->has_minimum == has_minimum_ && w->factors == factors_ && !w->levels == !levels_)

// Up to so many tokens a product waits for its weights, as it does for one: what comes so many bytes later, or more, is
// asked for meanwhile.
enum { EK_FEW_TOKENS = 16, EK_BYTES_AHEAD = 8192 };

#define EK_TILE(row_blocks, tokens, from)                                                                         \
  EK(tile)(w, block, 1, row_blocks, x, first + (from), tokens, y + (size_t)(from) * y_stride, y_stride, accumulate,   \
           bits, has_minimum, factors, levels, parts, ahead)

EK_INLINE void EK(walk)(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                        int32_t count, float *y, size_t y_stride, bool accumulate, const uint8_t *next, int bits,
                        bool has_minimum, int factors, bool levels, int parts) {
  int32_t block = begin;
  if (count <= 0) return;
  const uint8_t *places[2], *after = w->data + (size_t)end * w->row_block_bytes;
  if (!next) next = after;
#define EK_NEXT(row_blocks)                                                                                       \
  const uint8_t *const *ahead = count <= EK_FEW_TOKENS ? places : NULL;                                             \
  for (int s = 0; s < row_blocks; s++) {                                                                           \
    size_t step = row_blocks * w->row_block_bytes;                                                                 \
    places[s] = w->data + (size_t)(block + s) * w->row_block_bytes + (EK_BYTES_AHEAD + step - 1) / step * step;       \
    if (places[s] >= after) places[s] = next + (places[s] - after);                                                \
  }
#if EK_TILE_TOKENS == 8
  // Where arithmetic is what takes the time, a tile of 2 * 4 takes nine tenths of that of 1 * 8, whose activations are
  // loaded for one row block at a time. It begins to pay where weights are not waited for.
  if (count > EK_FEW_TOKENS)
    for (; block + 2 <= end; block += 2) {
      const uint8_t *const *ahead = NULL;
      int32_t t = 0;
      for (; t + 4 <= count; t += 4) EK_TILE(2, 4, t);
      if (count - t == 3) EK_TILE(2, 3, t);
      else if (count - t == 2) EK_TILE(2, 2, t);
      else if (count - t == 1) EK_TILE(2, 1, t);
    }
#endif
#if EK_STREAMS == 2
  if (count <= EK_TILE_TOKENS / 2)
    for (; block + 2 <= end; block += 2) {
      EK_NEXT(2);
      if (count == 1) EK_TILE(2, 1, 0);
      else EK_TILE(2, 2, 0);
    }
#endif
  for (; block < end; block++) {
    EK_NEXT(1);
    int32_t t = 0;
    for (; t + EK_TILE_TOKENS <= count; t += EK_TILE_TOKENS) {
      EK_TILE(1, EK_TILE_TOKENS, t);
      ahead = NULL;
    }
    switch (count - t) {
#if EK_TILE_TOKENS == 8
    case 7: EK_TILE(1, 7, t); break;
    case 6: EK_TILE(1, 6, t); break;
    case 5: EK_TILE(1, 5, t); break;
    case 4: EK_TILE(1, 4, t); break;
#endif
    case 3: EK_TILE(1, 3, t); break;
    case 2: EK_TILE(1, 2, t); break;
    case 1: EK_TILE(1, 1, t); break;
    default: break;
    }
  }
#undef EK_NEXT
}

#define EK_MATMUL(bits, has_minimum, factors, levels)                                                             \
  static __attribute__((noinline)) void EK(matmul_##bits##has_minimum##factors##levels)(                              \
      const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first, int32_t count, float *y, \
      size_t y_stride, bool accumulate, const uint8_t *next) {                                                        \
    if (x->parts == 1)                                                                                            \
      EK(walk)(w, begin, end, x, first, count, y, y_stride, accumulate, next, bits, has_minimum, factors, levels, 1);  \
    else                                                                                                          \
      EK(walk)(w, begin, end, x, first, count, y, y_stride, accumulate, next, bits, has_minimum, factors, levels, 2);  \
  }
EK_LAYOUTS(EK_MATMUL)

static void EK(matmul)(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                       int32_t count, float *y, size_t y_stride, bool accumulate, const uint8_t *next) {
#define EK_CALL(bits, has_minimum, factors, levels)                                                               \
  if (EK_IS(bits, has_minimum, factors, levels))                                                                  \
    return EK(matmul_##bits##has_minimum##factors##levels)(w, begin, end, x, first, count, y, y_stride, accumulate,   \
                                                           next);
  EK_LAYOUTS(EK_CALL)
#undef EK_CALL
}

#if EK_STREAMS == 2
EK_INLINE void EK(walk4)(const ek_matrix *w, int32_t begin, int32_t stride, int32_t steps, const ek_activations *x,
                         int32_t token, float *y, bool accumulate, const uint8_t *const next[4], int bits,
                         bool has_minimum, int factors, bool levels, int parts) {
  const uint8_t *ahead[4];
  for (int32_t j = 0; j < steps; j++) {
    for (int s = 0; s < 4; s++)
      ahead[s] = j + 1 < steps || !next
                     ? w->data + (size_t)(begin + j + 1 + s * stride) * w->row_block_bytes : next[s];
    EK(tile)(w, begin + j, stride, 4, x, token, 1, y, 0, accumulate, bits, has_minimum, factors, levels, parts, ahead);
  }
}

static void EK(matvec4)(const ek_matrix *w, int32_t begin, int32_t stride, int32_t steps, const ek_activations *x,
                        int32_t token, float *y, bool accumulate, const uint8_t *const next[4]) {
#define EK_CALL(bits, has_minimum, factors, levels)                                                               \
  if (EK_IS(bits, has_minimum, factors, levels)) {                                                                \
    if (x->parts == 1)                                                                                            \
      EK(walk4)(w, begin, stride, steps, x, token, y, accumulate, next, bits, has_minimum, factors, levels, 1);       \
    else                                                                                                          \
      EK(walk4)(w, begin, stride, steps, x, token, y, accumulate, next, bits, has_minimum, factors, levels, 2);       \
    return;                                                                                                       \
  }
  EK_LAYOUTS(EK_CALL)
#undef EK_CALL
}
#endif
