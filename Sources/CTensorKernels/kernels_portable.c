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

// One row block and one token at a time; the tile's sizes are not used for anything but counting.
EK_INLINE void portable_tile(const ek_matrix *w, int32_t block, const ek_activations *x, int32_t token, float *y,
                             bool accumulate) {
  const int32_t k_blocks = w->k_blocks;
  size_t quant_bytes = w->bits == 4 ? 256 : 512;
  const uint8_t *base = w->data + (size_t)block * w->row_block_bytes;
  const uint8_t *scale_at = base + (size_t)k_blocks * quant_bytes;
  const uint8_t *minimum_at = scale_at + (size_t)k_blocks * 32;
  float acc[16] = {0};
  for (int32_t k = 0; k < k_blocks; k++) {
    const int8_t *q = x->quants + ((size_t)token * k_blocks + k) * 32;
    const size_t place = ((size_t)token * k_blocks + k) * (size_t)x->parts;
    uint16_t half;
    for (int part = 0; part < x->parts; part++) {
      int32_t dot[16] = {0};
      if (w->bits == 4) {
        for (int pair = part * 4 / x->parts; pair < (part + 1) * 4 / x->parts; pair++) {
          const uint8_t *v = base + (size_t)k * 256 + 64 * pair;
          for (int row = 0; row < 16; row++)
            for (int i = 0; i < 4; i++)
              dot[row] += (v[4 * row + i] & 15) * q[8 * pair + i] + (v[4 * row + i] >> 4) * q[8 * pair + 4 + i];
        }
      } else {
        for (int quad = part * 8 / x->parts; quad < (part + 1) * 8 / x->parts; quad++) {
          const int8_t *v = (const int8_t *)base + (size_t)k * 512 + 64 * quad;
          for (int row = 0; row < 16; row++)
            for (int i = 0; i < 4; i++) dot[row] += v[4 * row + i] * q[4 * quad + i];
        }
      }
      for (int row = 0; row < 16; row++) {
        memcpy(&half, scale_at + (size_t)k * 32 + 2 * row, 2);
        acc[row] += (float)dot[row] * (half_bits_to_float(half) * x->scales[place + (size_t)part]);
      }
    }
    float sum = x->sums[place];
    if (x->parts == 2) sum += x->sums[place + 1];
    for (int row = 0; row < 16 && w->has_minimum; row++) {
      memcpy(&half, minimum_at + (size_t)k * 32 + 2 * row, 2);
      acc[row] += half_bits_to_float(half) * sum;
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
