// Products of a packed matrix with quantised activations, in tiles of row blocks × tokens. The including file defines
//   EK(tile)               sums of one tile over all k blocks: the integers of a k block, or of its halves, exactly,
//                          then scaled into float accumulators in the order of the k blocks
//   EK_TILE_TOKENS         4 or 8: tokens of the largest tile of one row block
//   EK_STREAMS             1 or 2: row blocks that a product of one or two tokens reads at once
// The halves of a k block are summed apart where they have scales of their own, either the activations' or, with 6
// bits, the weights'. The minimums are added once, with the last half.
// Tiles are inlined with constant numbers of row blocks and tokens, their product at most EK_TILE_TOKENS, and with
// constant bits, has_minimum and parts.
EK_INLINE void EK(rows)(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                        int32_t token, int tokens, float *y, size_t y_stride, bool accumulate,
                        const uint8_t *const *ahead) {
#define EK_OF(bits, has_minimum)                                                                                  \
  if (x->parts == 1)                                                                                              \
    EK(tile)(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, bits, has_minimum, 1, ahead);     \
  else                                                                                                            \
    EK(tile)(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, bits, has_minimum, 2, ahead)
  switch (w->bits) {
  case 4: EK_OF(4, true); break;
  case 5:
    if (w->has_minimum) {
      EK_OF(5, true);
    } else {
      EK_OF(5, false);
    }
    break;
  case 6: EK_OF(6, false); break;
  default: EK_OF(8, false); break;
  }
#undef EK_OF
}

// Up to so many tokens a product waits for its weights, as it does for one: what comes so many bytes later, or more, is
// asked for meanwhile.
enum { EK_FEW_TOKENS = 16, EK_BYTES_AHEAD = 8192 };

#define EK_TILE(row_blocks, tokens, from)                                                                         \
  EK(rows)(w, block, 1, row_blocks, x, first + (from), tokens, y + (size_t)(from) * y_stride, y_stride, accumulate,   \
           ahead)

static void EK(matmul)(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                       int32_t count, float *y, size_t y_stride, bool accumulate, const uint8_t *next) {
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

#if EK_STREAMS == 2
static void EK(matvec4)(const ek_matrix *w, int32_t begin, int32_t stride, int32_t steps, const ek_activations *x,
                        int32_t token, float *y, bool accumulate, const uint8_t *const next[4]) {
  const uint8_t *ahead[4];
  for (int32_t j = 0; j < steps; j++) {
    for (int s = 0; s < 4; s++)
      ahead[s] = j + 1 < steps || !next
                     ? w->data + (size_t)(begin + j + 1 + s * stride) * w->row_block_bytes : next[s];
    EK(rows)(w, begin + j, stride, 4, x, token, 1, y, 0, accumulate, ahead);
  }
}
#endif
