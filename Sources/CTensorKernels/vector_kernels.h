// The kernels that are the same text for every instruction set, written with eight-lane vectors that the compiler
// maps to what the including file enables. The including file defines
//   EK(name)               the name with the instruction set's suffix
//   EK_LOAD_HALF(pointer)  eight half-precision numbers as floats
//   EK_STORE_HALF(pointer, vector)
//   EK_NEARNESS            the caches that weights are fetched to ahead of time: 3 for all, 2 for all but the first
//   EK_KEEP_ORDER(v)       where there are sixteen registers only: keeps the compiler from loading ahead of the sums,
//                          for which it would spill one of them
// Every reduction has a fixed order that depends only on its own length.

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8v __attribute__((vector_size(32)));
typedef int8_t bytes8 __attribute__((vector_size(8)));
typedef float v8u __attribute__((vector_size(32), aligned(4)));
#define EK_INLINE static inline __attribute__((always_inline))

// Asks for `length` bytes at `offset` of each of the places that are read next. Without it every row block begins with
// a wait for memory: the processor's own prefetchers stop at the end of a page.
EK_INLINE void EK(look_ahead)(const uint8_t *const *ahead, int rows, size_t offset, size_t length) {
  if (!ahead) return;
  for (int r = 0; r < rows; r++)
    for (size_t i = 0; i < length; i += 64) __builtin_prefetch(ahead[r] + offset + i, 0, EK_NEARNESS);
}

// scale * sum of the quants of a half of a k block, rounded once, whether activations have one part a k block or two.
EK_INLINE float EK(half_sum)(const ek_activations *x, int32_t token, int32_t k, int half, int parts) {
  size_t block = (size_t)token * (size_t)x->k_blocks + (size_t)k;
  const float scale = x->scales[block * (size_t)parts + (size_t)(parts == 1 ? 0 : half)];
  return scale * (float)(x->offsets[block * 3 + half] / -32);
}

EK_INLINE v8 EK(load)(const float *p) { return *(const v8u *)p; }
EK_INLINE void EK(store)(float *p, v8 v) { *(v8u *)p = v; }
EK_INLINE v8 EK(splat)(float x) { return (v8){x, x, x, x, x, x, x, x}; }
EK_INLINE v8 EK(choose)(i8v mask, v8 a, v8 b) { return (v8)(((i8v)a & mask) | ((i8v)b & ~mask)); }
EK_INLINE v8 EK(max)(v8 a, v8 b) { return EK(choose)(a > b, a, b); }
EK_INLINE v8 EK(min)(v8 a, v8 b) { return EK(choose)(a < b, a, b); }
EK_INLINE float EK(sum)(v8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

#ifndef EK_LOAD_HALF_WIDE
#define EK_LOAD_HALF_WIDE EK_LOAD_HALF
typedef v8 EK(wide);
typedef v8u EK(wide_unaligned);
typedef i8v EK(wide_integers);
typedef bytes8 EK(wide_bytes);
#else
typedef float EK(wide) __attribute__((vector_size(64)));
typedef float EK(wide_unaligned) __attribute__((vector_size(64), aligned(4)));
typedef int32_t EK(wide_integers) __attribute__((vector_size(64)));
typedef int8_t EK(wide_bytes) __attribute__((vector_size(16)));
#endif
enum { EK_WIDTH = sizeof(EK(wide)) / sizeof(float), EK_KEY_BLOCKS = EK_WIDTH / 4 };

EK_INLINE EK(wide) EK(splat_wide)(float x) { return x - (EK(wide)){0}; }
EK_INLINE EK(wide) EK(load_wide)(const float *p) { return *(const EK(wide_unaligned) *)p; }
EK_INLINE void EK(store_wide)(float *p, EK(wide) v) { *(EK(wide_unaligned) *)p = v; }

// exp(x) = 2^n p(r) with n = round(x / ln 2), |r| <= ln(2)/2, p of degree 6 (Cephes' coefficients); relative error
// below 2e-7. Arguments under −87.3 give at most 1.2e-38, those over 88.37 about 2.4e38. NaN stays NaN, as in expf:
// the comparisons with it are false.
EK_INLINE EK(wide) EK(exp)(EK(wide) x) {
  typedef EK(wide_integers) integers;
  EK(wide) least = EK(splat_wide)(-87.33654f), most = EK(splat_wide)(88.37626f);
  integers is_above = least > x;
  x = (EK(wide))(((integers)least & is_above) | ((integers)x & ~is_above));
  integers is_below = most < x;
  x = (EK(wide))(((integers)most & is_below) | ((integers)x & ~is_below));
  EK(wide) magic = EK(splat_wide)(12582912.0f);
  EK(wide) n = x * 1.44269504088896341f + magic;
  integers exponent = ((integers)n - (integers)magic + 127) << 23;
  n = n - magic;
  EK(wide) r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  EK(wide) p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (EK(wide))exponent;
}

// The same of eight numbers, for what is left of a row.
EK_INLINE v8 EK(exp8)(v8 x) {
  EK(wide) all = {0};
  memcpy(&all, &x, sizeof x);
  all = EK(exp)(all);
  memcpy(&x, &all, sizeof x);
  return x;
}

static void EK(rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *y) {
  v8 a = EK(splat)(0), b = EK(splat)(0);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v8 u = EK(load)(x + i), v = EK(load)(x + i + 8);
    a += u * u;
    b += v * v;
  }
  float total = EK(sum)(a + b);
  for (; i < n; i++) total += x[i] * x[i];
  float factor = 1 / sqrtf(total / (float)n + epsilon);
  i = 0;
  for (; i + 8 <= n; i += 8) EK(store)(y + i, EK(load)(x + i) * factor * EK(load)(weight + i));
  for (; i < n; i++) y[i] = x[i] * factor * weight[i];
}

// One part of 8 * vectors numbers.
// One part of two or four vectors; the offsets of the one or two halves of a k block that it is.
EK_INLINE void EK(quantize_part)(const float *block, int vectors, int8_t *quants, float *to_scale, float *to_sum,
                                 int32_t *offsets) {
  v8 v[4], largest = EK(splat)(0);
  for (int j = 0; j < vectors; j++) {
    v[j] = EK(load)(block + 8 * j);
    // In this order a NaN is never the larger one.
    largest = EK(max)((v8)((i8v)v[j] & 0x7fffffff), largest);
  }
  largest = EK(max)(__builtin_shufflevector(largest, largest, 4, 5, 6, 7, 0, 1, 2, 3), largest);
  largest = EK(max)(__builtin_shufflevector(largest, largest, 2, 3, 0, 1, 6, 7, 4, 5), largest);
  float peak = largest[0] > largest[1] ? largest[0] : largest[1];
  // NaNs count as zeros. A part with an infinity, or so small that the inverse of its scale is infinite, is zero.
  float inverse = 127 / peak, scale = peak / 127;
  if (!(peak < INFINITY && inverse < INFINITY)) inverse = scale = 0;
  i8v totals[2] = {{0}};
  for (int j = 0; j < vectors; j++) {
    i8v keep = v[j] * 0.0f == 0.0f;
    // A sum of 1.5 * 2^23 and a small number holds its rounded integer in the low bits.
    v8 scaled = EK(choose)(keep, v[j], EK(splat)(0)) * inverse;
    i8v q = (i8v)(scaled + 12582912.0f) - 0x4b400000;
    totals[j / 2] += q;
    bytes8 bytes = __builtin_convertvector(q, bytes8);
    memcpy(quants + 8 * j, &bytes, 8);
  }
  int32_t total = 0;
  for (int half = 0; half < vectors / 2; half++) {
    int32_t sum = 0;
    for (int l = 0; l < 8; l++) sum += totals[half][l];
    offsets[half] = -32 * sum;
    total += sum;
  }
  *to_scale = scale;
  *to_sum = scale * (float)total;
}

static void EK(quantize)(const float *x, size_t columns, int32_t parts, int8_t *quants, float *scales, float *sums,
                         int32_t *offsets) {
  for (size_t k = 0; k * 32 < columns; k++) {
    float padded[32];
    const float *block = x + k * 32;
    if (columns - k * 32 < 32) {
      memset(padded, 0, sizeof padded);
      memcpy(padded, block, (columns - k * 32) * sizeof(float));
      block = padded;
    }
    if (parts == 1) {
      EK(quantize_part)(block, 4, quants + k * 32, scales + k, sums + k, offsets + 3 * k);
    } else {
      EK(quantize_part)(block, 2, quants + k * 32, scales + 2 * k, sums + 2 * k, offsets + 3 * k);
      EK(quantize_part)(block + 16, 2, quants + k * 32 + 16, scales + 2 * k + 1, sums + 2 * k + 1,
                        offsets + 3 * k + 1);
    }
    offsets[3 * k + 2] = offsets[3 * k] + offsets[3 * k + 1];
  }
}

static void EK(silu_multiply)(const float *gate, const float *up, size_t n, float *y) {
  size_t i = 0;
  for (; i + EK_WIDTH <= n; i += EK_WIDTH) {
    EK(wide) g = EK(load_wide)(gate + i);
    EK(store_wide)(y + i, g / (1.0f + EK(exp)(-g)) * EK(load_wide)(up + i));
  }
  for (; i + 8 <= n; i += 8) {
    v8 g = EK(load)(gate + i);
    EK(store)(y + i, g / (1.0f + EK(exp8)(-g)) * EK(load)(up + i));
  }
  for (; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

// (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u))
static void EK(gelu_multiply)(const float *gate, const float *up, size_t n, float *y) {
  const float linear = 1.5957691216057308f, cubic = 0.071354816272f;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    v8 g = EK(load)(gate + i);
    v8 u = g * (linear + cubic * g * g);
    EK(store)(y + i, g / (1.0f + EK(exp8)(-u)) * EK(load)(up + i));
  }
  for (; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i] * (linear + cubic * gate[i] * gate[i]))) * up[i];
}

static void EK(rotate)(float *x, int32_t heads, int32_t head_size, int32_t dimension, const float *cosines,
                       const float *sines, bool interleaved) {
  int32_t half = dimension / 2;
  for (int32_t h = 0; h < heads; h++, x += head_size) {
    int32_t i = 0;
    for (; !interleaved && i + 8 <= half; i += 8) {
      v8 a = EK(load)(x + i), b = EK(load)(x + i + half);
      v8 c = EK(load)(cosines + i), s = EK(load)(sines + i);
      EK(store)(x + i, a * c - b * s);
      EK(store)(x + i + half, a * s + b * c);
    }
    for (; i < half; i++) {
      int32_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
      float a = x[first], b = x[second];
      x[first] = a * cosines[i] - b * sines[i];
      x[second] = a * sines[i] + b * cosines[i];
    }
  }
}

static void EK(store_half)(const float *x, size_t n, uint16_t *y) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) EK_STORE_HALF(y + i, EK(load)(x + i));
  for (; i < n; i++) y[i] = float_to_half_bits(x[i]);
}

static void EK(store_bytes)(const float *x, size_t n, int8_t *y, float *to_scale) {
  v8 largest = EK(splat)(0), zeros = EK(splat)(0);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    v8 v = EK(load)(x + i);
    largest = EK(max)((v8)((i8v)v & 0x7fffffff), largest);
    zeros += v * 0.0f;
  }
  float peak = 0, poison = EK(sum)(zeros);
  for (int l = 0; l < 8; l++) peak = largest[l] > peak ? largest[l] : peak;
  for (; i < n; i++) {
    peak = fabsf(x[i]) > peak ? fabsf(x[i]) : peak;
    poison += x[i] * 0.0f;
  }
  float inverse = 127 / peak, scale = peak / 127;
  // So small that the inverse of the scale is infinite: zeros.
  if (!(inverse < INFINITY)) inverse = scale = 0;
  // What is not finite makes the whole row NaN, so that it does not vanish.
  *to_scale = scale + poison;
  if (poison != 0) inverse = 0;
  for (i = 0; i + 8 <= n; i += 8) {
    i8v q = (i8v)(EK(load)(x + i) * inverse + 12582912.0f) - 0x4b400000;
    bytes8 bytes = __builtin_convertvector(q, bytes8);
    memcpy(y + i, &bytes, 8);
  }
  for (; i < n; i++) y[i] = (int8_t)(poison == 0 ? lrintf(x[i] * inverse) : 0);
}

static void EK(scale)(float *x, size_t n, float factor) {
  for (size_t i = 0; i < n; i++) x[i] *= factor;
}

EK_INLINE float EK(largest)(const float *x, size_t n) {
  // Four on their way at a time, as each waits for the one before.
  v8 four[4] = {EK(splat)(-INFINITY), EK(splat)(-INFINITY), EK(splat)(-INFINITY), EK(splat)(-INFINITY)};
  size_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (int part = 0; part < 4; part++) four[part] = EK(max)(EK(load)(x + i + 8 * part), four[part]);
  v8 best = EK(max)(EK(max)(four[0], four[1]), EK(max)(four[2], four[3]));
  for (; i + 8 <= n; i += 8) best = EK(max)(EK(load)(x + i), best);
  float top = -INFINITY;
  for (int l = 0; l < 8; l++) top = best[l] > top ? best[l] : top;
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  return top;
}

static float EK(maximum)(const float *x, size_t n, size_t *index) {
  float top = EK(largest)(x, n);
  size_t found = 0;
  while (found < n && x[found] != top) found++;
  *index = found < n ? found : 0;    // nothing but NaNs
  return top;
}

static float EK(sum_exp)(const float *x, size_t n, float shift) {
  v8 total = EK(splat)(0);
  size_t i = 0;
  for (; i + EK_WIDTH <= n; i += EK_WIDTH) {
    EK(wide) all = EK(exp)(EK(load_wide)(x + i) - shift);
    v8 parts[EK_WIDTH / 8];
    memcpy(parts, &all, sizeof all);
    for (int part = 0; part < EK_WIDTH / 8; part++) total += parts[part];
  }
  for (; i + 8 <= n; i += 8) total += EK(exp8)(EK(load)(x + i) - shift);
  float sum = EK(sum)(total);
  for (; i < n; i++) sum += expf(x[i] - shift);
  return sum;
}

static void EK(exp_scaled)(const float *x, size_t n, float shift, float factor, float *y) {
  size_t i = 0;
  for (; i + EK_WIDTH <= n; i += EK_WIDTH)
    EK(store_wide)(y + i, EK(exp)(EK(load_wide)(x + i) - shift) * factor);
  for (; i + 8 <= n; i += 8) EK(store)(y + i, EK(exp8)(EK(load)(x + i) - shift) * factor);
  for (; i < n; i++) y[i] = expf(x[i] - shift) * factor;
}

static float EK(dot)(const float *a, const float *b, size_t n) {
  v8 s = EK(splat)(0), t = EK(splat)(0);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    s += EK(load)(a + i) * EK(load)(b + i);
    t += EK(load)(a + i + 8) * EK(load)(b + i + 8);
  }
  float total = EK(sum)(s + t);
  for (; i < n; i++) total += a[i] * b[i];
  return total;
}

// Keys lie in blocks of 16 positions, (positions / 16, head size, 16): the lane is the position, so a score needs
// no sum across lanes. Values are (positions, head size). With bytes a block ends with the scales of its 16 positions,
// and a row of values with its scale. All storages share this text.
EK_INLINE EK(wide) EK(load_cache)(const void *base, size_t index, int storage) {
  if (storage == EK_FLOAT) return EK(load_wide)((const float *)base + index);
  if (storage == EK_BYTES) {
    EK(wide_bytes) bytes;
    memcpy(&bytes, (const int8_t *)base + index, sizeof bytes);
    return __builtin_convertvector(bytes, EK(wide));
  }
  return (EK(wide))EK_LOAD_HALF_WIDE((const uint16_t *)base + index);
}

EK_INLINE size_t EK(stored_size)(int storage) { return storage == EK_FLOAT ? 4 : storage == EK_BYTES ? 1 : 2; }

// Numbers, and bytes of a scale, from one row of a head to the next.
EK_INLINE size_t EK(row_length)(const ek_attention *a, int storage) {
  return (size_t)a->head_size + (storage == EK_BYTES ? sizeof(float) : 0);
}

// The factor of a position's values.
EK_INLINE float EK(value_scale)(const ek_attention *a, int32_t position, int storage) {
  if (storage != EK_BYTES) return 1;
  float scale;
  const char *row = (const char *)a->values + (size_t)position * EK(row_length)(a, storage);
  memcpy(&scale, row + a->head_size, sizeof scale);
  return scale;
}

// Bytes that keys are asked for ahead of their use where a cache comes from memory. The values of a block's positions,
// which are needed when all scores are there, are asked for with its keys.
enum { EK_KEYS_AHEAD = 8192 };

// `blocks` blocks of 16 positions at once, so that enough sums are under way to hide an addition's latency.
EK_INLINE void EK(score_blocks)(const ek_attention *a, const float *queries, int32_t group, int32_t first, int blocks,
                                float *scores, size_t stride, int storage, bool cold) {
  const size_t size = (size_t)a->head_size, block_size = 16 * EK(row_length)(a, storage);
  const void *keys = a->keys;
  enum { PARTS = 16 / EK_WIDTH };
  EK(wide) sums[4][EK_KEY_BLOCKS][PARTS];
  for (int g = 0; g < group; g++)
    for (int b = 0; b < blocks; b++)
      for (int h = 0; h < PARTS; h++) sums[g][b][h] = (EK(wide)){0};
  for (size_t d = 0; d < size; d++) {
    EK(wide) query[4];
    for (int g = 0; g < group; g++) query[g] = EK(splat_wide)(queries[(size_t)g * size + d]);
    for (int b = 0; b < blocks; b++) {
      size_t at = ((size_t)first + (size_t)b) * block_size + 16 * d;
      if (cold) {
        __builtin_prefetch((const char *)a->keys + at * EK(stored_size)(storage) + EK_KEYS_AHEAD);
        __builtin_prefetch((const char *)a->values + at * EK(stored_size)(storage), 0, 2);
      }
      for (int h = 0; h < PARTS; h++) {
        EK(wide) key = EK(load_cache)(keys, at + EK_WIDTH * (size_t)h, storage);
        for (int g = 0; g < group; g++) {
          sums[g][b][h] += key * query[g];
          EK_KEEP_ORDER(sums[g][b][h]);
        }
      }
    }
  }
  for (int g = 0; g < group; g++)
    for (int b = 0; b < blocks; b++)
      for (int h = 0; h < PARTS; h++) {
        const size_t block = (size_t)first + (size_t)b, lane = EK_WIDTH * (size_t)h;
        if (storage == EK_BYTES)
          sums[g][b][h] *= EK(load_wide)((const float *)((const char *)keys + block * block_size + 16 * size) + lane);
        EK(store_wide)(scores + g * stride + 16 * block + lane, sums[g][b][h]);
      }
}

EK_INLINE void EK(scores)(const ek_attention *a, const float *queries, int32_t group, int32_t begin, int32_t end,
                          float *scores, size_t stride, int storage, bool cold) {
  int32_t block = begin / 16, last = (end + 15) / 16;
  const char *keys = (const char *)a->keys + (size_t)begin * EK(row_length)(a, storage) * EK(stored_size)(storage);
  for (size_t i = 0; cold && i < EK_KEYS_AHEAD; i += 64) __builtin_prefetch(keys + i);
  for (; block + EK_KEY_BLOCKS <= last; block += EK_KEY_BLOCKS)
    EK(score_blocks)(a, queries, group, block, EK_KEY_BLOCKS, scores, stride, storage, cold);
  for (; block < last; block++) EK(score_blocks)(a, queries, group, block, 1, scores, stride, storage, cold);
}

// Adds the values of positions first..<last to the output, or begins it with them when first is 0.
EK_INLINE void EK(mix)(const ek_attention *a, const float *weights, size_t stride, int32_t group, int32_t from,
                       int vectors, int32_t first, int32_t last, float *output, int storage) {
  const size_t size = (size_t)a->head_size;
  const void *values = a->values;
  EK(wide) sums[4][4];
  for (int g = 0; g < group; g++)
    for (int v = 0; v < vectors; v++)
      sums[g][v] = first == 0 ? (EK(wide)){0} : EK(load_wide)(output + (size_t)g * size + from + EK_WIDTH * v);
  const size_t length = EK(row_length)(a, storage);
  size_t at = (size_t)first * length + (size_t)from;
  for (int32_t p = first; p < last; p++, at += length) {
    const float scale = EK(value_scale)(a, p, storage);
    EK(wide) weight[4];
    for (int g = 0; g < group; g++) {
      float own = weights[g * stride + (size_t)p];
      weight[g] = EK(splat_wide)(storage == EK_BYTES ? own * scale : own);
    }
    for (int v = 0; v < vectors; v++) {
      EK(wide) value = EK(load_cache)(values, at + EK_WIDTH * (size_t)v, storage);
      for (int g = 0; g < group; g++) {
        sums[g][v] += value * weight[g];
        EK_KEEP_ORDER(sums[g][v]);
      }
    }
  }
  for (int g = 0; g < group; g++)
    for (int v = 0; v < vectors; v++)
      EK(store_wide)(output + g * a->head_size + from + EK_WIDTH * v, sums[g][v]);
}

// The same for one number, where too few are left for a vector.
EK_INLINE void EK(mix_one)(const ek_attention *a, const float *weights, size_t stride, int32_t group, int32_t at,
                           int32_t first, int32_t last, float *output, int storage) {
  for (int g = 0; g < group; g++) {
    float sum = first == 0 ? 0 : output[g * a->head_size + at];
    for (int32_t p = first; p < last; p++) {
      size_t index = (size_t)p * EK(row_length)(a, storage) + (size_t)at;
      float weight = weights[g * stride + (size_t)p];
      if (storage == EK_BYTES) weight *= EK(value_scale)(a, p, storage);
      float value = storage == EK_FLOAT   ? ((const float *)a->values)[index]
                    : storage == EK_BYTES ? (float)((const int8_t *)a->values)[index]
                                          : half_bits_to_float(((const uint16_t *)a->values)[index]);
      sum += value * weight;
    }
    output[g * a->head_size + at] = sum;
  }
}

// exp(score - the largest score); the sum is left to the end.
EK_INLINE void EK(weigh)(const float *scores, size_t n, float *row) {
  EK(exp_scaled)(scores, n, EK(largest)(scores, n), 1, row);
}

// Divides numbers begin..<end of each head by the sum of its weights. The sums of `heads` heads, at most 3, are on their
// way at a time, as each addition waits for the one before.
EK_INLINE void EK(divide)(const ek_attention *a, const float *weights, float *output, int heads, size_t stride,
                          int32_t begin, int32_t end) {
  const size_t n = (size_t)a->positions;
  v8 totals[3] = {EK(splat)(0), EK(splat)(0), EK(splat)(0)};
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int h = 0; h < heads; h++) totals[h] += EK(load)(weights + (size_t)h * stride + i);
  for (int h = 0; h < heads; h++) {
    float sum = EK(sum)(totals[h]);
    for (size_t p = i; p < n; p++) sum += weights[(size_t)h * stride + p];
    const float inverse = 1 / sum;
    for (int32_t d = begin; d < end; d++) output[h * a->head_size + d] *= inverse;
  }
}

// Numbers begin..<end of the mixed values.
EK_INLINE void EK(mix_group)(const ek_attention *a, const float *weights, float *output, int32_t group, size_t stride,
                             int32_t begin, int32_t end, int32_t first, int32_t last, int storage) {
  int32_t d = begin;
  enum { W = EK_WIDTH };
  for (; d + 4 * W <= end; d += 4 * W) EK(mix)(a, weights, stride, group, d, 4, first, last, output, storage);
  for (; W > 8 && d + 2 * W <= end; d += 2 * W) EK(mix)(a, weights, stride, group, d, 2, first, last, output, storage);
  for (; d + W <= end; d += W) EK(mix)(a, weights, stride, group, d, 1, first, last, output, storage);
  for (; d < end; d++) EK(mix_one)(a, weights, stride, group, d, first, last, output, storage);
}

EK_INLINE size_t EK(score_stride)(const ek_attention *a) { return ((size_t)a->positions + 15) & ~(size_t)15; }

// The group is cut in constant sizes so that the accumulators stay in registers.
#define EK_GROUPS(call)                                                                                           \
  do {                                                                                                            \
    int32_t g = 0;                                                                                                \
    for (; g + 3 <= a->group; g += 3) call(3);                                                                    \
    if (g + 2 <= a->group) {                                                                                      \
      call(2);                                                                                                    \
      g += 2;                                                                                                     \
    }                                                                                                             \
    if (g < a->group) call(1);                                                                                    \
  } while (0)

// Positions whose keys or values stay in the first cache while all queries pass over them; all of them for a single run.
EK_INLINE int32_t EK(positions_at_once)(const ek_attention *a, int storage) {
  if (a->group <= 3) return INT32_MAX / 2;
  int32_t fitting = (16 << 10) / (a->head_size * (int32_t)EK(stored_size)(storage)) / 32 * 32;
  return fitting > 32 ? fitting : 32;
}

EK_INLINE void EK(score_all)(const ek_attention *a, int32_t begin, int32_t end, int storage, bool cold) {
  size_t stride = EK(score_stride)(a);
  int32_t step = EK(positions_at_once)(a, storage);
#define EK_CALL(size)                                                                                             \
  EK(scores)(a, a->queries + g * a->head_size, size, first, last, a->scores + (size_t)g * stride, stride, storage, \
             cold)
  for (int32_t first = begin; first < end; first += step) {
    int32_t last = end - first < step ? end : first + step;
    EK_GROUPS(EK_CALL);
  }
#undef EK_CALL
}

EK_INLINE void EK(mix_all)(const ek_attention *a, float *weights, int32_t begin, int32_t end, int storage) {
  size_t stride = EK(score_stride)(a), n = (size_t)a->positions;
  int32_t step = EK(positions_at_once)(a, storage);
  for (int32_t g = 0; g < a->group; g++) EK(weigh)(a->scores + (size_t)g * stride, n, weights + (size_t)g * stride);
#define EK_CALL(size)                                                                                             \
  EK(mix_group)(a, weights + (size_t)g * stride, a->output + g * a->head_size, size, stride, begin, end, first,     \
                last, storage)
  for (int32_t first = 0; first < a->positions; first += step) {
    int32_t last = a->positions - first < step ? a->positions : first + step;
    EK_GROUPS(EK_CALL);
  }
#undef EK_CALL
#define EK_CALL(size)                                                                                             \
  EK(divide)(a, weights + (size_t)g * stride, a->output + g * a->head_size, size, stride, begin, end)
  EK_GROUPS(EK_CALL);
#undef EK_CALL
}

static void EK(adjust)(const ek_attention *a, int32_t begin, int32_t end) {
  size_t stride = EK(score_stride)(a);
  for (int32_t g = 0; g < a->group; g++) {
    float *row = a->scores + (size_t)g * stride;
    const float *bias = a->bias ? a->bias + (size_t)g * a->bias_stride : NULL;
    for (int32_t i = begin; bias && i < end; i++) row[i] += bias[i];
    for (int32_t i = begin; i < end && i < a->skip; i++) row[i] = -INFINITY;
  }
}

static void EK(score)(const ek_attention *a, int32_t begin, int32_t end) {
  if (a->storage == EK_FLOAT) EK(score_all)(a, begin, end, EK_FLOAT, false);
  else if (a->storage == EK_BYTES && a->cold) EK(score_all)(a, begin, end, EK_BYTES, true);
  else if (a->storage == EK_BYTES) EK(score_all)(a, begin, end, EK_BYTES, false);
  else if (a->cold) EK(score_all)(a, begin, end, EK_HALF, true);
  else EK(score_all)(a, begin, end, EK_HALF, false);
  if (a->bias || a->skip > begin) EK(adjust)(a, begin, end);
}

static void EK(mix_values)(const ek_attention *a, float *weights, int32_t begin, int32_t end) {
  if (a->storage == EK_FLOAT) EK(mix_all)(a, weights, begin, end, EK_FLOAT);
  else if (a->storage == EK_BYTES) EK(mix_all)(a, weights, begin, end, EK_BYTES);
  else EK(mix_all)(a, weights, begin, end, EK_HALF);
}

// Positions whose keys or values are made floats at a time, for all rows: half of the first cache with heads of 64.
enum { EK_SHARED_POSITIONS = 64, EK_SHARED_SIZE = 256 };

EK_INLINE void EK(widen)(const void *from, size_t first, size_t count, float *to) {
  size_t i = 0;
  for (; i + EK_WIDTH <= count; i += EK_WIDTH) EK(store_wide)(to + i, EK(load_cache)(from, first + i, EK_HALF));
  for (; i < count; i++) to[i] = half_bits_to_float(((const uint16_t *)from)[first + i]);
}

EK_INLINE bool EK(shares)(const ek_attention *rows, int32_t count) {
  return count > 1 && rows->storage == EK_HALF && rows->head_size <= EK_SHARED_SIZE;
}

EK_INLINE int32_t EK(most_positions)(const ek_attention *rows, int32_t count) {
  int32_t most = 0;
  for (int32_t r = 0; r < count; r++) most = rows[r].positions > most ? rows[r].positions : most;
  return most;
}

static void EK(score_rows)(const ek_attention *rows, int32_t count) {
  if (!EK(shares)(rows, count)) {
    for (int32_t r = 0; r < count; r++) EK(score)(rows + r, 0, rows[r].positions);
    return;
  }
  _Alignas(64) float keys[EK_SHARED_POSITIONS * EK_SHARED_SIZE];
  const size_t size = (size_t)rows->head_size;
  const int32_t positions = EK(most_positions)(rows, count);
  for (int32_t first = 0; first < positions; first += EK_SHARED_POSITIONS) {
    int32_t last = positions - first < EK_SHARED_POSITIONS ? positions : first + EK_SHARED_POSITIONS;
    EK(widen)(rows->keys, (size_t)first * size, (size_t)((last - first + 15) & ~15) * size, keys);
    for (int32_t r = 0; r < count; r++) {
      ek_attention part = rows[r];
      part.keys = keys;
      const int32_t end = part.positions < last ? part.positions - first : last - first;
      const size_t stride = EK(score_stride)(&part);
#define EK_CALL(number)                                                                                           \
  EK(scores)(&part, part.queries + g * part.head_size, number, 0, end, part.scores + (size_t)g * stride + first,    \
             stride, EK_FLOAT, false)
      const ek_attention *a = &part;
      if (end > 0) EK_GROUPS(EK_CALL);
#undef EK_CALL
    }
  }
  for (int32_t r = 0; r < count; r++)
    if (rows[r].bias || rows[r].skip > 0) EK(adjust)(rows + r, 0, rows[r].positions);
}

static void EK(mix_rows)(const ek_attention *rows, int32_t count) {
  if (!EK(shares)(rows, count)) {
    for (int32_t r = 0; r < count; r++) EK(mix_values)(rows + r, rows[r].scores, 0, rows[r].head_size);
    return;
  }
  _Alignas(64) float values[EK_SHARED_POSITIONS * EK_SHARED_SIZE];
  const size_t size = (size_t)rows->head_size;
  const int32_t positions = EK(most_positions)(rows, count);
  for (int32_t r = 0; r < count; r++)
    for (int32_t g = 0; g < rows[r].group; g++) {
      float *row = rows[r].scores + (size_t)g * EK(score_stride)(rows + r);
      EK(weigh)(row, (size_t)rows[r].positions, row);
    }
  for (int32_t first = 0; first < positions; first += EK_SHARED_POSITIONS) {
    int32_t last = positions - first < EK_SHARED_POSITIONS ? positions : first + EK_SHARED_POSITIONS;
    EK(widen)(rows->values, (size_t)first * size, (size_t)(last - first) * size, values);
    for (int32_t r = 0; r < count; r++) {
      ek_attention part = rows[r];
      const ek_attention *a = &part;
      // Position `first` lies at the beginning.
      part.values = (const void *)((uintptr_t)values - (size_t)first * size * sizeof(float));
      const int32_t end = part.positions < last ? part.positions : last;
      const size_t stride = EK(score_stride)(a);
#define EK_CALL(number)                                                                                           \
  EK(mix_group)(a, part.scores + (size_t)g * stride, part.output + g * part.head_size, number, stride, 0,           \
                part.head_size, first, end, EK_FLOAT)
      if (first < end) EK_GROUPS(EK_CALL);
#undef EK_CALL
    }
  }
  for (int32_t r = 0; r < count; r++) {
    const ek_attention *a = rows + r;
    const size_t stride = EK(score_stride)(a);
#define EK_CALL(number)                                                                                           \
  EK(divide)(a, a->scores + (size_t)g * stride, a->output + g * a->head_size, number, stride, 0, a->head_size)
    EK_GROUPS(EK_CALL);
#undef EK_CALL
  }
}

typedef uint16_t EK(eight_halves) __attribute__((vector_size(16), aligned(2)));

EK_INLINE v8 EK(load_16_bits)(const uint16_t *p, bool is_bfloat16) {
  if (!is_bfloat16) return EK_LOAD_HALF(p);
  return (v8)(__builtin_convertvector(*(const EK(eight_halves) *)p, i8v) << 16);
}

// Four to eight sums on their way at a time, as each waits for the one before.
EK_INLINE void EK(half_tile)(const ek_half_matrix *w, int32_t block, int blocks, const float *x, size_t x_stride,
                             int tokens, float *y, size_t y_stride, bool is_bfloat16) {
  const size_t columns = (size_t)w->columns;
  const uint16_t *from = w->data + (size_t)block * columns * EK_ROWS;
  v8 sums[2][4][2] = {{{{0}}}};
  for (size_t k = 0; k < columns; k++)
    for (int b = 0; b < blocks; b++)
      for (int half = 0; half < 2; half++) {
        v8 weights = EK(load_16_bits)(from + ((size_t)b * columns + k) * EK_ROWS + 8 * half, is_bfloat16);
        for (int t = 0; t < tokens; t++) sums[b][t][half] += weights * x[(size_t)t * x_stride + k];
      }
  for (int b = 0; b < blocks; b++)
    for (int t = 0; t < tokens; t++) {
      const int32_t first = (block + b) * EK_ROWS, rows = w->rows - first;
      memcpy(y + (size_t)t * y_stride + first, sums[b][t],
             sizeof(float) * (size_t)(rows < EK_ROWS ? rows : EK_ROWS));
    }
}

EK_INLINE void EK(half_walk)(const ek_half_matrix *w, int32_t begin, int32_t end, const float *x, size_t x_stride,
                             int32_t count, float *y, size_t y_stride, bool is_bfloat16) {
#define EK_HALF_TILE(blocks, tokens)                                                                              \
  EK(half_tile)(w, block, blocks, x + (size_t)t * x_stride, x_stride, tokens, y + (size_t)t * y_stride, y_stride,   \
                is_bfloat16)
  int32_t block = begin, t = 0;
  for (; count <= 2 && block + 2 <= end; block += 2)
    if (count == 2) EK_HALF_TILE(2, 2);
    else EK_HALF_TILE(2, 1);
  for (; block < end; block++) {
    for (t = 0; t + 4 <= count; t += 4) EK_HALF_TILE(1, 4);
    switch (count - t) {
    case 3: EK_HALF_TILE(1, 3); break;
    case 2: EK_HALF_TILE(1, 2); break;
    case 1: EK_HALF_TILE(1, 1); break;
    default: break;
    }
  }
#undef EK_HALF_TILE
}

static void EK(half_matmul)(const ek_half_matrix *w, int32_t begin, int32_t end, const float *x, size_t x_stride,
                            int32_t count, float *y, size_t y_stride) {
  if (count <= 0) return;
  if (w->is_bfloat16) EK(half_walk)(w, begin, end, x, x_stride, count, y, y_stride, true);
  else EK(half_walk)(w, begin, end, x, x_stride, count, y, y_stride, false);
}

#define EK_TABLE(text, of_one_token)                                                                              \
  {                                                                                                               \
    .name = text, .matmul = EK(matmul), .matvec4 = of_one_token, .half_matmul = EK(half_matmul),                    \
    .quantize = EK(quantize),                                                                                     \
    .rms_norm = EK(rms_norm), .silu_multiply = EK(silu_multiply), .gelu_multiply = EK(gelu_multiply),             \
    .rotate = EK(rotate), .score = EK(score), .mix = EK(mix_values), .score_rows = EK(score_rows),                \
    .mix_rows = EK(mix_rows), .store_half = EK(store_half),                                                       \
    .store_bytes = EK(store_bytes),                                                                               \
    .scale = EK(scale), .maximum = EK(maximum), .sum_exp = EK(sum_exp),                                           \
    .exp_scaled = EK(exp_scaled), .dot = EK(dot),                                                                 \
  }
