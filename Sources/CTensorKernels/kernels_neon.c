// 64-bit Arm with the dot-product extension: sdot multiplies 16 signed bytes by 16 into four 32-bit sums, one a row,
// and can take the four activation bytes from a lane of a register. Checked under emulation
// (Tests/Scripts/emulate_arm64.sh); never timed on a processor.
#include "CTensorKernels.h"

#if defined(__aarch64__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <arm_neon.h>
#include <math.h>

#include "half.h"

#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)

#define EK(name) neon_##name

// Pairs of four-lane registers as the eight lanes of the shared text.
typedef union {
  float32x4_t part[2];
  float whole __attribute__((vector_size(32)));
} neon_pair;

static inline __attribute__((always_inline)) neon_pair neon_get_half(const uint16_t *p) {
  uint16x8_t bits = vld1q_u16(p);
  return (neon_pair){.part = {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits))),
                              vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits)))}};
}

static inline __attribute__((always_inline)) void neon_put_half(uint16_t *p, neon_pair v) {
  vst1q_u16(p, vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32(v.part[0])),
                            vreinterpret_u16_f16(vcvt_f16_f32(v.part[1]))));
}

#define EK_LOAD_HALF(p) neon_get_half(p).whole
#define EK_STORE_HALF(p, v) neon_put_half(p, (neon_pair){.whole = (v)})
#define EK_KEEP_ORDER(v) ((void)0)
#define EK_NEARNESS 2
#include "vector_kernels.h"

// A row block is four registers, h = 0…3, of four rows.
#define UNROLL _Pragma("clang loop unroll(full)")
#define FOR_TILE(r, t, h)                                                                                         \
  UNROLL for (int r = 0; r < rows; r++)                                                                           \
    UNROLL for (int t = 0; t < tokens; t++)                                                                       \
      UNROLL for (int h = 0; h < 4; h++)

EK_INLINE void neon_finish(int32_t begin, int32_t stride, int rows, int tokens, float32x4_t acc[4][4][4], float *y,
                           size_t y_stride, bool accumulate) {
  FOR_TILE(r, t, h) {
    float *at = y + (size_t)t * y_stride + (size_t)(begin + r * stride) * 16 + 4 * h;
    float32x4_t value = acc[r][t][h];
    if (accumulate) value = vaddq_f32(vld1q_f32(at), value);
    vst1q_f32(at, value);
  }
}

// acc += sums of a k block * weights' scale * activations' scale (+ minimum * sum).
EK_INLINE void neon_add_scaled(const uint8_t *scale_at, const uint8_t *minimum_at, int tokens,
                               const float *scales, const float *sums, int parts, size_t token_stride, int32x4_t dot[4][4],
                               float32x4_t acc[4][4]) {
  UNROLL for (int h = 0; h < 4; h++) {
    float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(scale_at + 8 * h)));
    UNROLL for (int t = 0; t < tokens; t++) {
      float32x4_t factor = vmulq_n_f32(scale, scales[(size_t)t * token_stride]);
      acc[t][h] = vfmaq_f32(acc[t][h], vcvtq_f32_s32(dot[t][h]), factor);
    }
    if (minimum_at) {
      float32x4_t minimum = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(minimum_at + 8 * h)));
      UNROLL for (int t = 0; t < tokens; t++)
        acc[t][h] = vfmaq_n_f32(acc[t][h], minimum,
                                parts == 1 ? sums[t * token_stride]
                                           : sums[t * token_stride] + sums[t * token_stride + 1]);
    }
  }
}

// The lane of an sdot is part of the instruction, so the pairs and quads below are written out.
#define NIBBLE_PAIR(pair, half, lane)                                                                             \
  UNROLL for (int r = 0; r < rows; r++)                                                                           \
    UNROLL for (int h = 0; h < 4; h++) {                                                                          \
      uint8x16_t bytes = vld1q_u8(base[r] + (size_t)k * 256 + 64 * (pair) + 16 * h);                              \
      int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));                                       \
      int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));                                                 \
      UNROLL for (int t = 0; t < tokens; t++) {                                                                   \
        dot[r][t][h] = vdotq_laneq_s32(dot[r][t][h], low, q[t][half], lane);                                      \
        dot[r][t][h] = vdotq_laneq_s32(dot[r][t][h], high, q[t][half], (lane) + 1);                               \
      }                                                                                                           \
    }

#define BYTE_QUAD(quad, half, lane)                                                                               \
  UNROLL for (int r = 0; r < rows; r++)                                                                           \
    UNROLL for (int h = 0; h < 4; h++) {                                                                          \
      int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(base[r] + (size_t)k * 512 + 64 * (quad) + 16 * h));          \
      UNROLL for (int t = 0; t < tokens; t++)                                                                     \
        dot[r][t][h] = vdotq_laneq_s32(dot[r][t][h], bytes, q[t][half], lane);                                    \
    }

EK_INLINE void neon_tile(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                         int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int bits,
                         bool has_minimum, int parts) {
  const int32_t k_blocks = w->k_blocks;
  const size_t quant_bytes = bits == 4 ? 256 : 512;
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  float32x4_t acc[4][4][4];
  FOR_TILE(r, t, h) acc[r][t][h] = vdupq_n_f32(0);
  for (int32_t k = 0; k < k_blocks; k++) {
    int8x16_t q[4][2];
    UNROLL for (int t = 0; t < tokens; t++) {
      q[t][0] = vld1q_s8(quants + ((size_t)t * k_blocks + k) * 32);
      q[t][1] = vld1q_s8(quants + ((size_t)t * k_blocks + k) * 32 + 16);
    }
    UNROLL for (int part = 0; part < parts; part++) {
      int32x4_t dot[4][4][4];
      FOR_TILE(r, t, h) dot[r][t][h] = vdupq_n_s32(0);
      bool first = part == 0, last = part + 1 == parts;
      if (bits == 4) {
        if (first) { NIBBLE_PAIR(0, 0, 0) NIBBLE_PAIR(1, 0, 2) }
        if (last) { NIBBLE_PAIR(2, 1, 0) NIBBLE_PAIR(3, 1, 2) }
      } else {
        if (first) { BYTE_QUAD(0, 0, 0) BYTE_QUAD(1, 0, 1) BYTE_QUAD(2, 0, 2) BYTE_QUAD(3, 0, 3) }
        if (last) { BYTE_QUAD(4, 1, 0) BYTE_QUAD(5, 1, 1) BYTE_QUAD(6, 1, 2) BYTE_QUAD(7, 1, 3) }
      }
      UNROLL for (int r = 0; r < rows; r++) {
        const uint8_t *scale_at = base[r] + (size_t)k_blocks * quant_bytes + (size_t)k * 32;
        neon_add_scaled(scale_at, has_minimum && last ? scale_at + (size_t)k_blocks * 32 : NULL, tokens,
                        scales + k * parts + part, sums + k * parts, parts, scale_stride, dot[r], acc[r]);
      }
    }
  }
  neon_finish(begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

EK_INLINE void neon_tile4(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                          int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int parts,
                          const uint8_t *const *ahead) {
  (void)ahead;    // measured on x86-64 only
  neon_tile(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, 4, true, parts);
}

EK_INLINE void neon_tile8(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                          int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, bool has_minimum,
                          int parts, const uint8_t *const *ahead) {
  (void)ahead;
  neon_tile(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, 8, has_minimum, parts);
}

#define EK_TILE_TOKENS 4
#define EK_STREAMS 2
#include "matmul_kernels.h"

const ek_kernels ek_neon = EK_TABLE("neon", EK(matvec4));

#pragma clang attribute pop

#endif
