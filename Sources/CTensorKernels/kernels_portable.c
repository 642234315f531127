// Plain C for processors without a kernel of their own, and the twin that the others are tested against.
#include "CTensorKernels.h"

#include <math.h>

#include "half.h"

#pragma clang diagnostic ignored "-Wpsabi"

#define EK(name) portable_##name

typedef float portable_v8 __attribute__((vector_size(32)));
static inline __attribute__((always_inline)) portable_v8 portable_load_half(const uint16_t *p) {
  portable_v8 v;
  for (int i = 0; i < 8; i++) v[i] = half_bits_to_float(p[i]);
  return v;
}
static inline __attribute__((always_inline)) void portable_put_half(uint16_t *p, portable_v8 v) {
  for (int i = 0; i < 8; i++) p[i] = float_to_half_bits(v[i]);
}
#define EK_LOAD_HALF(p) portable_load_half(p)
#define EK_STORE_HALF(p, v) portable_put_half(p, v)
#define EK_KEEP_ORDER(v) ((void)0)
#define EK_NEARNESS 3
#include "vector_kernels.h"

// Four quads of a half of a k block, 64 bytes each, as CTensorKernels.h describes them.
EK_INLINE void portable_unpack(const uint8_t *at, const ek_matrix *w, int half, int8_t v[4][64]) {
  const int subtracted = w->has_minimum || w->levels ? 0 : 1 << (w->bits - 1);
  switch (w->bits) {
  case 2:
    at += 64 * half;
    for (int i = 0; i < 256; i++) v[i / 64][i % 64] = (int8_t)(at[i % 64] >> i / 64 * 2 & 3);
    break;
  case 3:
    for (int i = 0; i < 256; i++) {
      const int quad = i / 64, low = at[64 * half + i % 64] >> 2 * quad & 3;
      v[quad][i % 64] = (int8_t)((low | (at[128 + i % 64] >> (4 * half + quad) & 1) << 2) - subtracted);
    }
    break;
  case 4:
    at += 128 * half;
    for (int i = 0; i < 128; i++) {
      const int low = at[i] & 15, high = at[i] >> 4;
      v[i / 64 * 2][i % 64] = w->levels ? w->levels[low] : (int8_t)(low - subtracted);
      v[i / 64 * 2 + 1][i % 64] = w->levels ? w->levels[high] : (int8_t)(high - subtracted);
    }
    break;
  case 5:
    for (int i = 0; i < 64; i++) {
      const uint8_t lines[5] = {at[i], at[64 + i], at[128 + i], at[192 + i], at[256 + i]};
      const int quads[8] = {lines[0] & 31, lines[1] & 31, lines[2] & 31, lines[3] & 31, lines[4] & 31,
                            lines[0] >> 5 | (lines[1] >> 5 & 3) << 3, lines[2] >> 5 | (lines[3] >> 5 & 3) << 3,
                            lines[4] >> 5 | lines[1] >> 7 << 3 | lines[3] >> 7 << 4};
      for (int j = 0; j < 4; j++) v[j][i] = (int8_t)(quads[4 * half + j] - subtracted);
    }
    break;
  case 6:
    at += 192 * half;
    for (int i = 0; i < 64; i++) {
      for (int j = 0; j < 3; j++) v[j][i] = (int8_t)((at[64 * j + i] & 63) - subtracted);
      v[3][i] = (int8_t)((at[i] >> 6 << 4 | at[64 + i] >> 6 << 2 | at[128 + i] >> 6) - subtracted);
    }
    break;
  default: memcpy(v, at + 256 * half, 256); break;
  }
}

static inline float portable_half(const uint8_t *at) {
  uint16_t bits;
  memcpy(&bits, at, 2);
  return half_bits_to_float(bits);
}

// One row block and one token at a time; the tile's sizes are not used for anything but counting.
EK_INLINE void portable_tile(const ek_matrix *w, int32_t block, const ek_activations *x, int32_t token, float *y,
                             bool accumulate) {
  const size_t k_blocks = (size_t)w->k_blocks, quant_bytes = 64 * (size_t)w->bits;
  const int groups = w->factors == 2 ? 2 : x->parts, of_each = w->has_minimum ? 2 : 1;
  const size_t factor_bytes = (size_t)(16 * w->factors * of_each);
  const uint8_t *base = w->data + (size_t)block * w->row_block_bytes, *after = base + k_blocks * quant_bytes;
  float acc[16] = {0};
  for (size_t k = 0; k < k_blocks; k++) {
    const int8_t *q = x->quants + ((size_t)token * k_blocks + k) * 32;
    const size_t at = ((size_t)token * k_blocks + k) * (size_t)x->parts;
    const uint8_t *scales = after + k * 32, *minimums = scales + k_blocks * 32;
    if (w->factors) {
      scales = after + k_blocks * factor_bytes + k / 8 * 32 * (size_t)of_each;
      minimums = scales + 32;
    }
    for (int group = 0; group < groups; group++) {
      int32_t dot[16] = {0};
      for (int half = group; half < (groups == 1 ? 2 : group + 1); half++) {
        int8_t v[4][64];
        portable_unpack(base + k * quant_bytes, w, half, v);
        for (int quad = 0; quad < 4; quad++)
          for (int row = 0; row < 16; row++)
            for (int i = 0; i < 4; i++) dot[row] += v[quad][4 * row + i] * q[16 * half + 4 * quad + i];
      }
      const int8_t *factors = (const int8_t *)after + k * factor_bytes + (w->factors == 2 ? 16 * group : 0);
      for (int row = 0; row < 16; row++) {
        float scale = portable_half(scales + 2 * row);
        if (w->factors) scale *= (float)factors[row];
        acc[row] += (float)dot[row] * (scale * x->scales[at + (size_t)(x->parts == 1 ? 0 : group)]);
      }
      if (!w->has_minimum || (w->factors != 2 && group + 1 < groups)) continue;
      float sum = x->parts == 1 ? x->sums[at] : x->sums[at] + x->sums[at + 1];
      if (w->factors == 2) sum = portable_half_sum(x, token, (int32_t)k, group, x->parts);
      for (int row = 0; row < 16; row++) {
        float minimum = portable_half(minimums + 2 * row);
        if (w->factors) minimum *= (float)factors[16 * w->factors + row];
        acc[row] += minimum * sum;
      }
    }
  }
  for (int row = 0; row < 16; row++) y[block * 16 + row] = accumulate ? y[block * 16 + row] + acc[row] : acc[row];
}

static void portable_matmul(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                            int32_t count, float *y, size_t y_stride, bool accumulate, const uint8_t *next) {
  (void)next;
  for (int32_t block = begin; block < end; block++)
    for (int32_t t = 0; t < count; t++)
      portable_tile(w, block, x, first + t, y + (size_t)t * y_stride, accumulate);
}

const ek_kernels ek_portable = EK_TABLE("portable", NULL);
