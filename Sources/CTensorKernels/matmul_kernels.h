// Products of a packed matrix with quantised activations, in tiles of R row blocks × T tokens. The including file
// defines EK(name) and
//   EK_DOT_BLOCKS   a macro with the body below
// through EK(tile): sums of one k block for a tile, exact in integers, then scaled into float accumulators.

// Tiles are inlined with constant R and T, R * T <= 4.
EK_INLINE void EK(rows)(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                        int32_t token, int tokens, float *y, size_t y_stride, bool accumulate) {
  if (w->bits == 4) EK(tile4)(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate);
  else if (w->has_minimum) EK(tile8)(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, true);
  else EK(tile8)(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, false);
}

static void EK(matmul)(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                       int32_t count, float *y, size_t y_stride, bool accumulate) {
  int32_t block = begin;
  if (count <= 2)
    for (; block + 2 <= end; block += 2) {
      if (count == 1) EK(rows)(w, block, 1, 2, x, first, 1, y, y_stride, accumulate);
      else EK(rows)(w, block, 1, 2, x, first, 2, y, y_stride, accumulate);
    }
  for (; block < end; block++) {
    int32_t t = 0;
    for (; t + 4 <= count; t += 4)
      EK(rows)(w, block, 1, 1, x, first + t, 4, y + (size_t)t * y_stride, y_stride, accumulate);
    switch (count - t) {
    case 3: EK(rows)(w, block, 1, 1, x, first + t, 3, y + (size_t)t * y_stride, y_stride, accumulate); break;
    case 2: EK(rows)(w, block, 1, 1, x, first + t, 2, y + (size_t)t * y_stride, y_stride, accumulate); break;
    case 1: EK(rows)(w, block, 1, 1, x, first + t, 1, y + (size_t)t * y_stride, y_stride, accumulate); break;
    default: break;
    }
  }
}

static void EK(matvec4)(const ek_matrix *w, int32_t begin, int32_t stride, int32_t steps, const ek_activations *x,
                        int32_t token, float *y, bool accumulate) {
  for (int32_t j = 0; j < steps; j++) EK(rows)(w, begin + j, stride, 4, x, token, 1, y, 0, accumulate);
}
