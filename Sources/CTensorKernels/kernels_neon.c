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

// Four quads of a half of a k block, of four rows. Quants of 8 bits and levels are signed; fewer bits leave the sign
// clear.
EK_INLINE void neon_unpack(const uint8_t *at, int bits, const uint8x16_t *levels, int half, uint8x16_t v[4]) {
  const uint8x16_t low = vdupq_n_u8((uint8_t)((1 << bits % 8) - 1));
  if (bits <= 3) {
    const uint8x16_t pair = vdupq_n_u8(3);
    uint8x16_t line = vld1q_u8(at + 64 * half);
    v[0] = vandq_u8(line, pair);
    v[1] = vandq_u8(vshrq_n_u8(line, 2), pair);
    v[2] = vandq_u8(vshrq_n_u8(line, 4), pair);
    v[3] = vshrq_n_u8(line, 6);
    if (bits == 3) {
      // An insertion of b << 2 into a keeps the lowest two bits of a.
      uint8x16_t third = vld1q_u8(at + 128);
      if (half) third = vshrq_n_u8(third, 4);
      v[0] = vandq_u8(vsliq_n_u8(v[0], third, 2), low);
      v[1] = vandq_u8(vsliq_n_u8(v[1], vshrq_n_u8(third, 1), 2), low);
      v[2] = vandq_u8(vsliq_n_u8(v[2], vshrq_n_u8(third, 2), 2), low);
      v[3] = vandq_u8(vsliq_n_u8(v[3], vshrq_n_u8(third, 3), 2), low);
    }
  } else if (bits == 4) {
    UNROLL for (int i = 0; i < 2; i++) {
      uint8x16_t bytes = vld1q_u8(at + 128 * half + 64 * i);
      v[2 * i] = vandq_u8(bytes, low);
      v[2 * i + 1] = vshrq_n_u8(bytes, 4);
    }
    if (levels) UNROLL for (int i = 0; i < 4; i++) v[i] = vqtbl1q_u8(*levels, v[i]);
  } else if (bits == 5 && half == 0) {
    UNROLL for (int i = 0; i < 4; i++) v[i] = vandq_u8(vld1q_u8(at + 64 * i), low);
  } else if (bits == 5) {
    // An insertion of b >> n into a keeps the highest n bits of a.
    uint8x16_t first = vld1q_u8(at + 64), third = vld1q_u8(at + 192), last = vld1q_u8(at + 256);
    v[0] = vandq_u8(last, low);
    v[1] = vandq_u8(vsriq_n_u8(vshrq_n_u8(first, 2), vld1q_u8(at), 5), low);
    v[2] = vandq_u8(vsriq_n_u8(vshrq_n_u8(third, 2), vld1q_u8(at + 128), 5), low);
    v[3] = vsriq_n_u8(vsriq_n_u8(vshrq_n_u8(third, 3), first, 4), last, 5);
  } else if (bits == 6) {
    uint8x16_t lines[3];
    UNROLL for (int i = 0; i < 3; i++) {
      lines[i] = vld1q_u8(at + 192 * half + 64 * i);
      v[i] = vandq_u8(lines[i], low);
    }
    v[3] = vsriq_n_u8(vsriq_n_u8(vshrq_n_u8(lines[0], 2), lines[1], 4), lines[2], 6);
  } else {
    UNROLL for (int i = 0; i < 4; i++) v[i] = vld1q_u8(at + 256 * half + 64 * i);
  }
}

// What sums of quants begin at that are stored with 4, 8, 16 or 32 added.
EK_INLINE int32x4_t neon_offset(int32_t offset, int bits, bool has_minimum, bool levels) {
  if (has_minimum || levels || bits == 8) return vdupq_n_s32(0);
  return vdupq_n_s32(offset / (1 << (6 - bits)));
}

EK_INLINE float32x4_t neon_halves(const uint8_t *at) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at))); }

// Four signed bytes.
EK_INLINE float32x4_t neon_factors(const uint8_t *at) {
  int32_t four;
  memcpy(&four, at, 4);
  int16x8_t words = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}

// The lane of an sdot is part of the instruction, so the quads are written out.
#define QUAD(lane) dot[r][t][h] = vdotq_laneq_s32(dot[r][t][h], vreinterpretq_s8_u8(v[lane]), q[t][half], lane)

EK_INLINE void neon_tile(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                         int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int bits,
                         bool has_minimum, int factors, bool levels, int parts, const uint8_t *const *ahead) {
  (void)ahead;    // measured on x86-64 only
  const int32_t k_blocks = w->k_blocks;
  const int groups = factors == 2 ? 2 : parts, of_each = has_minimum ? 2 : 1;
  const size_t all_quants = (size_t)k_blocks * 64 * (size_t)bits, factor_bytes = (size_t)(16 * factors * of_each);
  const size_t all_factors = (size_t)k_blocks * factor_bytes;
  uint8x16_t table = vdupq_n_u8(0);
  if (levels) table = vreinterpretq_u8_s8(vld1q_s8(w->levels));
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const int32_t *offsets = x->offsets + (size_t)token * k_blocks * 3;
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
    UNROLL for (int group = 0; group < groups; group++) {
      int32x4_t dot[4][4][4];
      FOR_TILE(r, t, h)
        dot[r][t][h] = neon_offset(
            offsets[((size_t)t * k_blocks + k) * 3 + (groups == 1 ? 2 : group)], bits, has_minimum, levels);
      UNROLL for (int half = group; half < (groups == 1 ? 2 : group + 1); half++)
        UNROLL for (int r = 0; r < rows; r++)
          UNROLL for (int h = 0; h < 4; h++) {
            uint8x16_t v[4];
            neon_unpack(base[r] + (size_t)k * 64 * (size_t)bits + 16 * h, bits, levels ? &table : NULL, half, v);
            UNROLL for (int t = 0; t < tokens; t++) {
              QUAD(0);
              QUAD(1);
              QUAD(2);
              QUAD(3);
            }
          }
      UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int h = 0; h < 4; h++) {
          const uint8_t *scale_at = base[r] + all_quants + (size_t)k * 32 + 8 * h;
          const uint8_t *minimum_at = scale_at + (size_t)k_blocks * 32;
          const uint8_t *factor_at = base[r] + all_quants + (size_t)k * factor_bytes + 4 * h;
          if (factors) {
            scale_at = base[r] + all_quants + all_factors + (size_t)(k / 8 * of_each) * 32 + 8 * h;
            minimum_at = scale_at + 32;
            if (factors == 2) factor_at += 16 * group;
          }
          float32x4_t scale = neon_halves(scale_at);
          if (factors) scale = vmulq_f32(neon_factors(factor_at), scale);
          UNROLL for (int t = 0; t < tokens; t++) {
            float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + (parts == 1 ? 0 : group))];
            acc[r][t][h] = vfmaq_f32(acc[r][t][h], vcvtq_f32_s32(dot[r][t][h]), vmulq_n_f32(scale, of_token));
          }
          if (!has_minimum || (factors != 2 && group + 1 < groups)) continue;
          float32x4_t minimum = neon_halves(minimum_at);
          if (factors) minimum = vmulq_f32(neon_factors(factor_at + 16 * factors), minimum);
          UNROLL for (int t = 0; t < tokens; t++) {
            const float *of_block = sums + t * scale_stride + (size_t)(k * parts);
            float sum = factors == 2 ? EK(half_sum)(x, token + t, k, group, parts)
                                     : parts == 1 ? of_block[0] : of_block[0] + of_block[1];
            acc[r][t][h] = vfmaq_n_f32(acc[r][t][h], minimum, sum);
          }
        }
    }
  }
  neon_finish(begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

#define EK_TILE_TOKENS 4
#define EK_STREAMS 2
#include "matmul_kernels.h"

const ek_kernels ek_neon = EK_TABLE("neon", EK(matvec4));

#pragma clang attribute pop

#endif
