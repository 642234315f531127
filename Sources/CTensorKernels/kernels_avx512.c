// AVX-512 with VNNI: one instruction multiplies 64 unsigned by 64 signed bytes into sixteen 32-bit sums, one a row of
// the row block. Every float operation is that of the AVX2 kernels in the same order, so both give the same bits.
// Timed on Zen 5; Tests/Scripts/emulate_avx512.sh checks them where the instructions are missing.
#include "CTensorKernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "half.h"

#pragma clang attribute push(                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi2"))),                  \
    apply_to = function)

#define EK(name) avx512_##name
#define EK_LOAD_HALF(p) ((v8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define EK_LOAD_HALF_WIDE(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define EK_STORE_HALF(p, v) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#define EK_KEEP_ORDER(v) ((void)0)
#define EK_NEARNESS 3
#include "vector_kernels.h"

#define UNROLL _Pragma("clang loop unroll(full)")
#define FOR_TILE(r, t)                                                                                            \
  UNROLL for (int r = 0; r < rows; r++)                                                                           \
    UNROLL for (int t = 0; t < tokens; t++)

EK_INLINE __m512 avx512_block_sum(const float *sums, int32_t k, int parts) {
  return _mm512_set1_ps(parts == 1 ? sums[k] : sums[2 * k] + sums[2 * k + 1]);
}

EK_INLINE __m512i avx512_broadcast4(const int8_t *p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

EK_INLINE void avx512_finish(int32_t begin, int32_t stride, int rows, int tokens, __m512 acc[4][8], float *y,
                             size_t y_stride, bool accumulate) {
  FOR_TILE(r, t) {
    float *at = y + (size_t)t * y_stride + (size_t)(begin + r * stride) * 16;
    __m512 value = acc[r][t];
    if (accumulate) value = _mm512_add_ps(_mm512_loadu_ps(at), value);
    _mm512_storeu_ps(at, value);
  }
}

EK_INLINE void avx512_tile4(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                            int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int parts,
                            const uint8_t *const *ahead) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const int32_t k_blocks = w->k_blocks;
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  __m512 acc[4][8];
  FOR_TILE(r, t) acc[r][t] = _mm512_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * 320, 320);
    UNROLL for (int part = 0; part < parts; part++) {
      __m512i dot[4][8];
      FOR_TILE(r, t) dot[r][t] = _mm512_setzero_si512();
      UNROLL for (int pair = part * 4 / parts; pair < (part + 1) * 4 / parts; pair++) {
        const int8_t *q = quants + (size_t)k * 32 + 8 * pair;
        __m512i low[4], high[4];
        UNROLL for (int r = 0; r < rows; r++) {
          __m512i bytes = _mm512_load_si512(base[r] + (size_t)k * 256 + 64 * pair);
          low[r] = _mm512_and_si512(bytes, nibble);
          high[r] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
        }
        UNROLL for (int t = 0; t < tokens; t++) {
          __m512i earlier = avx512_broadcast4(q + (size_t)t * k_blocks * 32);
          UNROLL for (int r = 0; r < rows; r++) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], low[r], earlier);
        }
        UNROLL for (int t = 0; t < tokens; t++) {
          __m512i later = avx512_broadcast4(q + (size_t)t * k_blocks * 32 + 4);
          UNROLL for (int r = 0; r < rows; r++) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], high[r], later);
        }
      }
      UNROLL for (int r = 0; r < rows; r++) {
        const uint8_t *scale_at = base[r] + (size_t)k_blocks * 256 + (size_t)k * 32;
        __m512 scale = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)scale_at));
        UNROLL for (int t = 0; t < tokens; t++) {
          float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + part)];
          __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(of_token));
          acc[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][t]), factor, acc[r][t]);
        }
        if (part + 1 < parts) continue;
        __m512 minimum = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(scale_at + (size_t)k_blocks * 32)));
        UNROLL for (int t = 0; t < tokens; t++)
          acc[r][t] = _mm512_fmadd_ps(minimum, avx512_block_sum(sums + t * scale_stride, k, parts), acc[r][t]);
      }
    }
  }
  avx512_finish(begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

// −128 times the sums of the quants of up to 16 consecutive parts. `sums` is scale * sum rounded once, and a sum is
// at most 32 * 127: the quotient is within 4064 * 2^-23 of the integer, so rounding gives it exactly. (A subnormal
// product is a multiple of the scale's own unit, hence exact.) Where the scale is zero any number will do.
EK_INLINE void avx512_offsets(const float *scales, const float *sums, int32_t count, int32_t offsets[16]) {
  __mmask16 present = (__mmask16)((1u << count) - 1);
  __m512 quotient = _mm512_div_ps(_mm512_maskz_loadu_ps(present, sums), _mm512_maskz_loadu_ps(present, scales));
  __m512i total = _mm512_cvtps_epi32(quotient);
  _mm512_storeu_si512(offsets, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(total, 7)));
}

// The instruction wants unsigned weights: w + 128 is used, and the sums begin at −128 * (sum of the quants).
EK_INLINE void avx512_tile8(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                            int32_t token, int tokens, float *y, size_t y_stride, bool accumulate,
                            bool has_minimum, int parts, const uint8_t *const *ahead) {
  const __m512i sign = _mm512_set1_epi8(-128);
  const int32_t k_blocks = w->k_blocks;
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  __m512 acc[4][8];
  int32_t offsets[8][16];
  const int32_t part_count = k_blocks * parts;
  FOR_TILE(r, t) acc[r][t] = _mm512_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * (has_minimum ? 576 : 544), 576);
    UNROLL for (int part = 0; part < parts; part++) {
      int32_t index = k * parts + part;
      if (index % 16 == 0) {
        int32_t count = part_count - index < 16 ? part_count - index : 16;
        UNROLL for (int t = 0; t < tokens; t++)
          avx512_offsets(scales + t * scale_stride + index, sums + t * scale_stride + index, count, offsets[t]);
      }
      __m512i dot[4][8];
      FOR_TILE(r, t) dot[r][t] = _mm512_set1_epi32(offsets[t][index % 16]);
      UNROLL for (int quad = part * 8 / parts; quad < (part + 1) * 8 / parts; quad++) {
        __m512i v[4];
        UNROLL for (int r = 0; r < rows; r++)
          v[r] = _mm512_xor_si512(_mm512_load_si512(base[r] + (size_t)k * 512 + 64 * quad), sign);
        UNROLL for (int t = 0; t < tokens; t++) {
          __m512i four = avx512_broadcast4(quants + ((size_t)t * k_blocks + k) * 32 + 4 * quad);
          UNROLL for (int r = 0; r < rows; r++) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], v[r], four);
        }
      }
      UNROLL for (int r = 0; r < rows; r++) {
        const uint8_t *scale_at = base[r] + (size_t)k_blocks * 512 + (size_t)k * 32;
        __m512 scale = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)scale_at));
        UNROLL for (int t = 0; t < tokens; t++) {
          __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(scales[t * scale_stride + index]));
          acc[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][t]), factor, acc[r][t]);
        }
        if (!has_minimum || part + 1 < parts) continue;
        __m512 minimum = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(scale_at + (size_t)k_blocks * 32)));
        UNROLL for (int t = 0; t < tokens; t++)
          acc[r][t] = _mm512_fmadd_ps(minimum, avx512_block_sum(sums + t * scale_stride, k, parts), acc[r][t]);
      }
    }
  }
  avx512_finish(begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

// One place at a time: 1.8 ms for 94 MB on two cores of Zen 5 where four took 2.15, and two 2.1.
#define EK_TILE_TOKENS 8
#define EK_STREAMS 1
#include "matmul_kernels.h"

const ek_kernels ek_avx512 = EK_TABLE("avx512vnni", NULL);

#pragma clang attribute pop

#endif
