// AVX2 with FMA and F16C. There is no instruction that multiplies bytes into 32-bit sums here: byte products are
// added in pairs to 16 bits (vpmaddubsw), which cannot saturate for the ranges in use, and widened once a block.
#include "CTensorKernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "half.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi2"))), apply_to = function)

#define EK(name) avx2_##name
#define EK_LOAD_HALF(p) ((v8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define EK_STORE_HALF(p, v) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#define EK_KEEP_ORDER(v) __asm__ volatile("" : "+x"(v))
#define EK_NEARNESS 2
#include "vector_kernels.h"

// acc[r][t][half] += weights' scale * activations' scale * dot (+ minimum * sum), for one k block.
// Sixteen registers hold a tile only if its sums are updated in the order written here; left alone, the compiler
// interleaves all the products of a block and spills two registers in three (half the speed).
#define UNROLL _Pragma("clang loop unroll(full)")
#define FOR_TILE(r, t, h)                                                                                         \
  UNROLL for (int r = 0; r < rows; r++)                                                                           \
    UNROLL for (int t = 0; t < tokens; t++)                                                                       \
      UNROLL for (int h = 0; h < 2; h++)

EK_INLINE void avx2_finish(const ek_matrix *w, int32_t begin, int32_t stride, int rows, int tokens,
                           __m256 acc[4][4][2], float *y, size_t y_stride, bool accumulate) {
  (void)w;
  FOR_TILE(r, t, h) {
    float *at = y + (size_t)t * y_stride + (size_t)(begin + r * stride) * 16 + 8 * h;
    __m256 value = acc[r][t][h];
    if (accumulate) value = _mm256_add_ps(_mm256_loadu_ps(at), value);
    _mm256_storeu_ps(at, value);
  }
}

EK_INLINE __m256 avx2_block_sum(const float *sums, int32_t k, int parts) {
  return _mm256_set1_ps(parts == 1 ? sums[k] : sums[2 * k] + sums[2 * k + 1]);
}

EK_INLINE __m256i avx2_broadcast4(const int8_t *p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

// What sums of unsigned quants begin at: −4, −8, −16 or −32 times the sum of the activations' quants.
EK_INLINE __m256i avx2_offset(int32_t offset, int bits, bool has_minimum) {
  if (has_minimum) return _mm256_setzero_si256();
  return _mm256_srai_epi32(_mm256_set1_epi32(offset), 6 - bits);
}

// Scales or minimums of eight rows of a k block, in half precision or as factors of those of eight k blocks.
EK_INLINE __m256 avx2_halves(const uint8_t *at) { return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)at)); }

EK_INLINE __m256 avx2_factors(const uint8_t *at, const uint8_t *of_eight) {
  __m256i factors = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(factors), avx2_halves(of_eight));
}

// Where scales and minimums of row h * 8 of a row block begin, of k block k; `half` where halves have factors.
typedef struct {
  const uint8_t *scale, *minimum, *factor, *minimum_factor;
} avx2_place;

EK_INLINE avx2_place avx2_scales(const uint8_t *base, size_t k_blocks, size_t k, int half, int h, int bits,
                                 bool has_minimum, int factors) {
  const size_t of_each = has_minimum ? 2 : 1, factor_bytes = (size_t)(16 * factors) * of_each;
  const uint8_t *after = base + k_blocks * 64 * (size_t)bits;
  avx2_place p;
  if (factors) {
    p.factor = after + k * factor_bytes + (factors == 2 ? 16 * half : 0) + 8 * h;
    p.minimum_factor = p.factor + 16 * factors;
    p.scale = after + k_blocks * factor_bytes + k / 8 * 32 * of_each + 16 * h;
    p.minimum = p.scale + 32;
  } else {
    p.scale = after + k * 32 + 16 * h;
    p.minimum = p.scale + k_blocks * 32;
    p.factor = p.minimum_factor = NULL;
  }
  return p;
}

// 4 bits, steps from a minimum or with 8 added.
EK_INLINE void avx2_tile4(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                          int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, bool has_minimum,
                          int factors, int parts, const uint8_t *const *ahead) {
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const int32_t k_blocks = w->k_blocks;
  const size_t block_bytes = ek_k_block_bytes(4, has_minimum, factors);
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const int32_t *offsets = x->offsets + (size_t)token * k_blocks * 3;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  __m256 acc[4][4][2];
  FOR_TILE(r, t, h) acc[r][t][h] = _mm256_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * block_bytes, block_bytes);
    UNROLL for (int part = 0; part < parts; part++) {
      __m256i dot[4][4][2];
      // 32 products of at most 15 * 127, two to a lane and eight lanes' worth added: 30,480 < 2^15.
      FOR_TILE(r, t, h) dot[r][t][h] = _mm256_setzero_si256();
      UNROLL for (int pair = part * 4 / parts; pair < (part + 1) * 4 / parts; pair++) {
        const int8_t *q = quants + k * 32 + 8 * pair;
        UNROLL for (int high = 0; high < 2; high++) {
          __m256i v[4][2];
          UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int h = 0; h < 2; h++) {
              v[r][h] = _mm256_load_si256((const __m256i *)(base[r] + (size_t)k * 256 + 64 * pair + 32 * h));
              v[r][h] = _mm256_and_si256(high ? _mm256_srli_epi16(v[r][h], 4) : v[r][h], nibble);
            }
          UNROLL for (int t = 0; t < tokens; t++) {
            __m256i four = avx2_broadcast4(q + (size_t)t * k_blocks * 32 + 4 * high);
            UNROLL for (int r = 0; r < rows; r++)
              UNROLL for (int h = 0; h < 2; h++) {
                dot[r][t][h] = _mm256_add_epi16(dot[r][t][h], _mm256_maddubs_epi16(v[r][h], four));
                EK_KEEP_ORDER(dot[r][t][h]);
              }
          }
        }
      }
      UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int h = 0; h < 2; h++) {
          avx2_place at = avx2_scales(base[r], (size_t)k_blocks, (size_t)k, part, h, 4, has_minimum, factors);
          __m256 scale = factors ? avx2_factors(at.factor, at.scale) : avx2_halves(at.scale);
          UNROLL for (int t = 0; t < tokens; t++) {
            __m256i total = _mm256_madd_epi16(dot[r][t][h], ones);
            if (!has_minimum)
              total = _mm256_add_epi32(
                  total, avx2_offset(offsets[((size_t)t * k_blocks + k) * 3 + (parts == 1 ? 2 : part)], 4, false));
            float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + part)];
            acc[r][t][h] = _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(total), _mm256_mul_ps(scale, _mm256_set1_ps(of_token)), acc[r][t][h]);
          }
          if (!has_minimum || part + 1 < parts) continue;
          __m256 minimum = factors ? avx2_factors(at.minimum_factor, at.minimum) : avx2_halves(at.minimum);
          UNROLL for (int t = 0; t < tokens; t++)
            acc[r][t][h] = _mm256_fmadd_ps(minimum, EK(block_sum)(sums + t * scale_stride, k, parts), acc[r][t][h]);
        }
    }
  }
  avx2_finish(w, begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

// Quants of 8 bits, or the levels that 4 bits stand for.
EK_INLINE void avx2_tile8(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                          int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int factors,
                          bool levels, int parts, const uint8_t *const *ahead) {
  const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
  const int bits = levels ? 4 : 8;
  __m256i table = ones;
  if (levels) table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w->levels));
  const int32_t k_blocks = w->k_blocks;
  const size_t block_bytes = ek_k_block_bytes(bits, false, factors);
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride;
  __m256 acc[4][4][2];
  FOR_TILE(r, t, h) acc[r][t][h] = _mm256_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * block_bytes, block_bytes);
    UNROLL for (int part = 0; part < parts; part++) {
      __m256i dot[4][4][2];
      FOR_TILE(r, t, h) dot[r][t][h] = _mm256_setzero_si256();
      UNROLL for (int quad = part * 8 / parts; quad < (part + 1) * 8 / parts; quad++) {
        // |w| as an unsigned byte (128 included) times x with w's sign: at most 2 * 128 * 127 = 32,512 < 2^15.
        __m256i v[4][2], magnitude[4][2];
        UNROLL for (int r = 0; r < rows; r++)
          UNROLL for (int h = 0; h < 2; h++) {
            const uint8_t *line = base[r] + (size_t)k * 64 * (size_t)bits + 64 * (levels ? quad / 2 : quad) + 32 * h;
            v[r][h] = _mm256_load_si256((const __m256i *)line);
            if (levels) {
              __m256i index = _mm256_and_si256(quad % 2 ? _mm256_srli_epi16(v[r][h], 4) : v[r][h], nibble);
              v[r][h] = _mm256_shuffle_epi8(table, index);
            }
            magnitude[r][h] = _mm256_abs_epi8(v[r][h]);
          }
        UNROLL for (int t = 0; t < tokens; t++) {
          __m256i four = avx2_broadcast4(quants + (size_t)t * k_blocks * 32 + k * 32 + 4 * quad);
          UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int h = 0; h < 2; h++) {
              __m256i products = _mm256_maddubs_epi16(magnitude[r][h], _mm256_sign_epi8(four, v[r][h]));
              dot[r][t][h] = _mm256_add_epi32(dot[r][t][h], _mm256_madd_epi16(products, ones));
              EK_KEEP_ORDER(dot[r][t][h]);
            }
        }
      }
      UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int h = 0; h < 2; h++) {
          avx2_place at = avx2_scales(base[r], (size_t)k_blocks, (size_t)k, part, h, bits, false, factors);
          __m256 scale = factors ? avx2_factors(at.factor, at.scale) : avx2_halves(at.scale);
          UNROLL for (int t = 0; t < tokens; t++) {
            float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + part)];
            __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(of_token));
            acc[r][t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][t][h]), factor, acc[r][t][h]);
          }
        }
    }
  }
  avx2_finish(w, begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

EK_INLINE __m256i avx2_line(const uint8_t *at) { return _mm256_load_si256((const __m256i *)at); }

// Bits of a where the mask has them, of b elsewhere.
EK_INLINE __m256i avx2_select(int mask, __m256i a, __m256i b) {
  __m256i bits = _mm256_set1_epi8((char)mask);
  return _mm256_or_si256(_mm256_and_si256(bits, a), _mm256_andnot_si256(bits, b));
}

// Four quads of a half of a k block of 2, 3, 5 or 6 bits, of eight rows, as unsigned bytes. There are no shifts of bytes:
// what those of 16 bits bring in from a neighbour is masked out.
EK_INLINE void avx2_unpack(const uint8_t *at, int bits, int half, __m256i v[4]) {
  const __m256i low = _mm256_set1_epi8((char)((1 << bits) - 1));
  if (bits <= 3) {
    __m256i line = avx2_line(at + 64 * half);
    v[0] = line;
    v[1] = _mm256_srli_epi16(line, 2);
    v[2] = _mm256_srli_epi16(line, 4);
    v[3] = _mm256_srli_epi16(line, 6);
    if (bits == 3) {
      // The bit of quad i is put where the third is, from bit i of its nibble.
      __m256i third = avx2_line(at + 128);
      if (half) third = _mm256_srli_epi16(third, 4);
      v[0] = avx2_select(3, v[0], _mm256_slli_epi16(third, 2));
      v[1] = avx2_select(3, v[1], _mm256_slli_epi16(third, 1));
      v[2] = avx2_select(3, v[2], third);
      v[3] = avx2_select(3, v[3], _mm256_srli_epi16(third, 1));
    }
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm256_and_si256(v[i], low);
  } else if (bits == 5 && half == 0) {
    UNROLL for (int i = 0; i < 4; i++) v[i] = _mm256_and_si256(avx2_line(at + 64 * i), low);
  } else if (bits == 5) {
    __m256i first = avx2_line(at + 64), third = avx2_line(at + 192), last = avx2_line(at + 256);
    __m256i pair = avx2_select(7, _mm256_srli_epi16(avx2_line(at), 5), _mm256_srli_epi16(first, 2));
    __m256i next = avx2_select(7, _mm256_srli_epi16(avx2_line(at + 128), 5), _mm256_srli_epi16(third, 2));
    __m256i ends = avx2_select(15, _mm256_srli_epi16(first, 4), _mm256_srli_epi16(third, 3));
    v[0] = _mm256_and_si256(last, low);
    v[1] = _mm256_and_si256(pair, low);
    v[2] = _mm256_and_si256(next, low);
    v[3] = _mm256_and_si256(avx2_select(7, _mm256_srli_epi16(last, 5), ends), low);
  } else {
    __m256i lines[3];
    UNROLL for (int i = 0; i < 3; i++) {
      lines[i] = avx2_line(at + 192 * half + 64 * i);
      v[i] = _mm256_and_si256(lines[i], low);
    }
    __m256i upper = avx2_select(15, _mm256_srli_epi16(lines[1], 4), _mm256_srli_epi16(lines[0], 2));
    v[3] = _mm256_and_si256(avx2_select(3, _mm256_srli_epi16(lines[2], 6), upper), low);
  }
}

// 2, 3, 5 or 6 bits. Eight rows at a time, so that a tile's sums of one k block fit into registers.
EK_INLINE void avx2_tile6(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                          int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int bits,
                          bool has_minimum, int factors, int parts, const uint8_t *const *ahead) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int32_t k_blocks = w->k_blocks;
  const int groups = factors == 2 ? 2 : parts;
  const size_t block_bytes = ek_k_block_bytes(bits, has_minimum, factors);
  const uint8_t *base[4];
  UNROLL for (int r = 0; r < rows; r++) base[r] = w->data + (size_t)(begin + r * stride) * w->row_block_bytes;
  const int8_t *quants = x->quants + (size_t)token * k_blocks * 32;
  const int32_t *offsets = x->offsets + (size_t)token * k_blocks * 3;
  const size_t scale_stride = (size_t)k_blocks * (size_t)parts;
  const float *scales = x->scales + (size_t)token * scale_stride, *sums = x->sums + (size_t)token * scale_stride;
  __m256 acc[4][4][2];
  FOR_TILE(r, t, h) acc[r][t][h] = _mm256_setzero_ps();
  for (int32_t k = 0; k < k_blocks; k++) {
    EK(look_ahead)(ahead, rows, (size_t)k * block_bytes, block_bytes);
    UNROLL for (int group = 0; group < groups; group++) UNROLL for (int h = 0; h < 2; h++) {
      __m256i dot[4][4];
      UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int t = 0; t < tokens; t++)
          dot[r][t] = avx2_offset(
              offsets[((size_t)t * k_blocks + k) * 3 + (groups == 1 ? 2 : group)], bits, has_minimum);
      UNROLL for (int half = group; half < (groups == 1 ? 2 : group + 1); half++)
        UNROLL for (int r = 0; r < rows; r++) {
          __m256i v[4];
          avx2_unpack(base[r] + (size_t)k * 64 * bits + 32 * h, bits, half, v);
          UNROLL for (int t = 0; t < tokens; t++) {
            const int8_t *q = quants + ((size_t)t * k_blocks + k) * 32 + 16 * half;
            __m256i products[4];
            UNROLL for (int i = 0; i < 4; i++) products[i] = _mm256_maddubs_epi16(v[i], avx2_broadcast4(q + 4 * i));
            // Sums of 16 bits: at most 4 * 63 * 127 = 32,004 and 8 * 31 * 127 = 31,496 < 2^15.
            __m256i earlier = _mm256_add_epi16(products[0], products[1]);
            __m256i later = _mm256_add_epi16(products[2], products[3]);
            if (bits != 6) {
              earlier = _mm256_add_epi16(earlier, later);
            } else {
              dot[r][t] = _mm256_add_epi32(dot[r][t], _mm256_madd_epi16(later, ones));
            }
            dot[r][t] = _mm256_add_epi32(dot[r][t], _mm256_madd_epi16(earlier, ones));
            EK_KEEP_ORDER(dot[r][t]);
          }
        }
      UNROLL for (int r = 0; r < rows; r++) {
        avx2_place at = avx2_scales(base[r], (size_t)k_blocks, (size_t)k, group, h, bits, has_minimum, factors);
        __m256 scale = factors ? avx2_factors(at.factor, at.scale) : avx2_halves(at.scale);
        UNROLL for (int t = 0; t < tokens; t++) {
          float of_token = scales[(size_t)t * scale_stride + (size_t)(k * parts + (parts == 1 ? 0 : group))];
          __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(of_token));
          acc[r][t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][t]), factor, acc[r][t][h]);
        }
        if (!has_minimum || (factors != 2 && group + 1 < groups)) continue;
        __m256 minimum = factors ? avx2_factors(at.minimum_factor, at.minimum) : avx2_halves(at.minimum);
        UNROLL for (int t = 0; t < tokens; t++) {
          __m256 sum = factors == 2 ? _mm256_set1_ps(EK(half_sum)(x, token + t, k, group, parts))
                                    : EK(block_sum)(sums + t * scale_stride, k, parts);
          acc[r][t][h] = _mm256_fmadd_ps(minimum, sum, acc[r][t][h]);
        }
      }
    }
  }
  avx2_finish(w, begin, stride, rows, tokens, acc, y, y_stride, accumulate);
}

EK_INLINE void avx2_tile(const ek_matrix *w, int32_t begin, int32_t stride, int rows, const ek_activations *x,
                         int32_t token, int tokens, float *y, size_t y_stride, bool accumulate, int bits,
                         bool has_minimum, int factors, bool levels, int parts, const uint8_t *const *ahead) {
  if (bits == 8 || levels)
    avx2_tile8(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, factors, levels, parts, ahead);
  else if (bits == 4)
    avx2_tile4(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, has_minimum, factors, parts, ahead);
  else
    avx2_tile6(w, begin, stride, rows, x, token, tokens, y, y_stride, accumulate, bits, has_minimum, factors, parts,
               ahead);
}

#define EK_TILE_TOKENS 4
#define EK_STREAMS 2
#include "matmul_kernels.h"

const ek_kernels ek_avx2 = EK_TABLE("avx2", EK(matvec4));

#pragma clang attribute pop

#endif
