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

EK_INLINE __m512i avx512_line(const uint8_t *at) { return _mm512_load_si512(at); }

// Bits of a where the mask has them, of b elsewhere.
EK_INLINE __m512i avx512_select(int mask, __m512i a, __m512i b) {
  __m512i bits = _mm512_set1_epi8((char)mask);
  return _mm512_or_si512(_mm512_and_si512(bits, a), _mm512_andnot_si512(bits, b));
}

// Four quads of a half of a k block as unsigned bytes. There are no shifts of bytes: what those of 16 bits bring in
// from a neighbour is masked out. Quants of 8 bits, and levels, get 128 added.
EK_INLINE void avx512_unpack(const uint8_t *at, int bits, const __m512i *levels, int half, __m512i v[4]) {
  const __m512i low = _mm512_set1_epi8((char)((1 << bits % 8) - 1));
  if (bits <= 3) {
    __m512i line = avx512_line(at + 64 * half);
    v[0] = line;
    v[1] = _mm512_srli_epi16(line, 2);
    v[2] = _mm512_srli_epi16(line, 4);
    v[3] = _mm512_srli_epi16(line, 6);
    if (bits == 3) {
      // The bit of quad i is put where the third is, from bit i of its nibble.
      __m512i third = avx512_line(at + 128);
      if (half) third = _mm512_srli_epi16(third, 4);
      v[0] = avx512_select(3, v[0], _mm512_slli_epi16(third, 2));
      v[1] = avx512_select(3, v[1], _mm512_slli_epi16(third, 1));
      v[2] = avx512_select(3, v[2], third);
      v[3] = avx512_select(3, v[3], _mm512_srli_epi16(third, 1));
    }
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm512_and_si512(v[i], low);
  } else if (bits == 4) {
    UNROLL for (int i = 0; i < 2; i++) {
      __m512i bytes = avx512_line(at + 128 * half + 64 * i);
      v[2 * i] = _mm512_and_si512(bytes, low);
      v[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
    }
    if (levels) UNROLL for (int i = 0; i < 4; i++) v[i] = _mm512_shuffle_epi8(*levels, v[i]);
  } else if (bits == 5 && half == 0) {
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm512_and_si512(avx512_line(at + 64 * i), low);
  } else if (bits == 5) {
    __m512i first = avx512_line(at + 64), third = avx512_line(at + 192), last = avx512_line(at + 256);
    __m512i pair = avx512_select(7, _mm512_srli_epi16(avx512_line(at), 5), _mm512_srli_epi16(first, 2));
    __m512i next = avx512_select(7, _mm512_srli_epi16(avx512_line(at + 128), 5), _mm512_srli_epi16(third, 2));
    __m512i ends = avx512_select(15, _mm512_srli_epi16(first, 4), _mm512_srli_epi16(third, 3));
    v[0] = _mm512_and_si512(last, low);
    v[1] = _mm512_and_si512(pair, low);
    v[2] = _mm512_and_si512(next, low);
    v[3] = _mm512_and_si512(avx512_select(7, _mm512_srli_epi16(last, 5), ends), low);
  } else if (bits == 6) {
    __m512i lines[3];
    UNROLL for (int i = 0; i < 3; i++) {
      lines[i] = avx512_line(at + 192 * half + 64 * i);
      v[i] = _mm512_and_si512(lines[i], low);
    }
    __m512i upper = avx512_select(15, _mm512_srli_epi16(lines[1], 4), _mm512_srli_epi16(lines[0], 2));
    v[3] = _mm512_and_si512(avx512_select(3, _mm512_srli_epi16(lines[2], 6), upper), low);
  } else {
    UNROLL for (int i = 0; i < 4; i++)
      v[i] = _mm512_xor_si512(avx512_line(at + 256 * half + 64 * i), _mm512_set1_epi8(-128));
  }
}

// What sums of unsigned quants begin at: −4, −8, −16, −32 or −128 times the sum of the activations' quants.
EK_INLINE __m512i avx512_offset(int32_t offset, int bits, bool has_minimum, bool levels) {
  if (has_minimum) return _mm512_setzero_si512();
  __m512i all = _mm512_set1_epi32(offset);
  if (bits == 8 || levels) return _mm512_slli_epi32(all, 2);
  return _mm512_srai_epi32(all, 6 - bits);
}

EK_INLINE __m512 avx512_halves(const uint8_t *at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at)); }

EK_INLINE __m512 avx512_factors(const uint8_t *at) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)at)));
}

EK_INLINE void avx512_tile(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                           int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int bits,
                           bool has_minimum, int factors, bool levels, int parts, const uint8_t *const *ahead) {
  const int32_t k_blocks = w->k_blocks;
  const int groups = factors == 2 ? 2 : parts, of_each = has_minimum ? 2 : 1;
  const size_t block_bytes = ek_k_block_bytes(bits, has_minimum, factors);
  const size_t quant_bytes = 64 * (size_t)bits, all_quants = (size_t)k_blocks * quant_bytes;
  const size_t factor_bytes = (size_t)(16 * factors * of_each), all_factors = (size_t)k_blocks * factor_bytes;
  __m512i table;
  if (levels)
    table = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)w->levels)),
                             _mm512_set1_epi8(-128));
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const int32_t *offsets = x->offsets + (size_t)token * k_blocks * 3;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  __m512 acc[4][8], of_eight[4][2];
  FOR_TILE(r, t) acc[r][t] = _mm512_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * block_bytes, block_bytes);
    // Scales and minimums of eight k blocks.
    if (factors && k % 8 == 0)
      UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < of_each; i++)
          of_eight[r][i] = avx512_halves(base[r] + all_quants + all_factors + (size_t)(k / 8 * of_each + i) * 32);
    UNROLL for (int group = 0; group < groups; group++) {
      __m512i dot[4][8];
      FOR_TILE(r, t)
        dot[r][t] = avx512_offset(
            offsets[((size_t)t * k_blocks + k) * 3 + (groups == 1 ? 2 : group)], bits, has_minimum, levels);
      UNROLL for (int half = group; half < (groups == 1 ? 2 : group + 1); half++) {
        __m512i v[4][4];
        UNROLL for (int r = 0; r < rows; r++)
          avx512_unpack(base[r] + (size_t)k * quant_bytes, bits, levels ? &table : NULL, half, v[r]);
        UNROLL for (int quad = 0; quad < 4; quad++)
          UNROLL for (int t = 0; t < tokens; t++) {
            __m512i four = avx512_broadcast4(quants + ((size_t)t * k_blocks + k) * 32 + 16 * half + 4 * quad);
            UNROLL for (int r = 0; r < rows; r++) dot[r][t] = _mm512_dpbusd_epi32(dot[r][t], v[r][quad], four);
          }
      }
      UNROLL for (int r = 0; r < rows; r++) {
        const uint8_t *scale_at = base[r] + all_quants + (size_t)k * 32;
        const uint8_t *factor_at = base[r] + all_quants + (size_t)k * factor_bytes + (factors == 2 ? 16 * group : 0);
        __m512 scale =
            factors ? _mm512_mul_ps(avx512_factors(factor_at), of_eight[r][0]) : avx512_halves(scale_at);
        UNROLL for (int t = 0; t < tokens; t++) {
          float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + (parts == 1 ? 0 : group))];
          __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(of_token));
          acc[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][t]), factor, acc[r][t]);
        }
        if (!has_minimum || (factors != 2 && group + 1 < groups)) continue;
        __m512 minimum = factors ? _mm512_mul_ps(avx512_factors(factor_at + 16 * factors), of_eight[r][1])
                                 : avx512_halves(scale_at + (size_t)k_blocks * 32);
        UNROLL for (int t = 0; t < tokens; t++) {
          __m512 sum = factors == 2 ? _mm512_set1_ps(EK(half_sum)(x, token + t, k, group, parts))
                                    : avx512_block_sum(sums + t * scale_stride, k, parts);
          acc[r][t] = _mm512_fmadd_ps(minimum, sum, acc[r][t]);
        }
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
