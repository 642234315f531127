// Compares one instruction set's kernels with the portable ones, for machines that only an emulator can play:
// emulate_avx512.sh and emulate_arm64.sh build it. Prints the largest differences; exits with 1 when one is too large.
// Products are also compared bit for bit with a plain loop of fused multiply-adds, which is what every instruction
// set but the portable one computes.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CTensorKernels.h"

extern const ek_kernels SUBJECT, ek_portable;
static const ek_kernels *const subject = &SUBJECT, *const twin = &ek_portable;
static int failures;
static uint64_t state = 1;

static uint32_t bits32(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 32);
}
static float uniform(float scale) { return scale * ((float)(bits32() >> 8) * 0x1p-23f - 1); }

static void report(const char *what, double largest, double allowed) {
  int good = largest <= allowed;
  printf("%-44s largest difference %9.3g, allowed %9.3g%s\n", what, largest, allowed, good ? "" : "  FAILED");
  failures += !good;
}
static void fail(const char *what) {
  printf("%s FAILED\n", what);
  failures++;
}
static double difference(const float *a, const float *b, size_t n, int relative) {
  double largest = 0;
  for (size_t i = 0; i < n; i++) {
    double d = fabs((double)a[i] - b[i]);
    if (relative) d /= fabs((double)b[i]) + 1e-30;
    if (!(d <= largest)) largest = isnan(a[i]) && isnan(b[i]) ? largest : isnan(d) ? INFINITY : d;
  }
  return largest;
}
static float *floats(size_t n, float scale) {
  float *p = malloc((n + 1) * sizeof *p);
  for (size_t i = 0; i < n; i++) p[i] = uniform(scale);
  return p;
}

enum { TOKENS = 19, ROW_BLOCKS = 9, GUARD = 3 };

// type: the GGUF number of a format that is held so.
static void products(uint32_t type, int k_blocks, int parts, double *largest) {
  ek_matrix w = {.row_blocks = ROW_BLOCKS, .k_blocks = k_blocks};
  ek_choose_layout(&w, type, NULL, 0);
  const int bits = w.bits, has_minimum = w.has_minimum, factors = w.factors;
  size_t row_block_bytes = w.row_block_bytes = ek_row_block_bytes(k_blocks, bits, has_minimum, factors);
  uint8_t *data = aligned_alloc(64, ROW_BLOCKS * row_block_bytes);
  memset(data, 0, ROW_BLOCKS * row_block_bytes);
  static ek_weight_block blocks[ROW_BLOCKS * 16][64];
  for (int row = 0; row < ROW_BLOCKS * 16; row++)
    for (int k = 0; k < k_blocks; k++) {
      ek_weight_block *b = &blocks[row][k];
      int lowest = has_minimum || w.levels ? 0 : -(1 << (bits - 1));
      for (int i = 0; i < 32; i++) b->quants[i] = (int8_t)(lowest + (int)(bits32() >> (32 - bits)));
      uint32_t kind = bits32() % 8;
      if (kind < 2) memset(b->quants, kind ? lowest : lowest + (1 << bits) - 1, 32);
      // With factors eight blocks have one scale and one minimum.
      int is_shared = factors && k % 8;
      b->scale = is_shared ? b[-1].scale : ek_half_to_float(ek_float_to_half(uniform(0.1f)));
      b->minimum = !has_minimum ? 0 : is_shared ? b[-1].minimum : ek_half_to_float(ek_float_to_half(uniform(1)));
      for (int half = 0; half < 2; half++) {
        b->factors[half] = factors ? (int8_t)(bits32() >> 24) : 1;
        b->minimum_factors[half] = factors ? (int8_t)(bits32() >> 24) : 1;
      }
      ek_pack_block(&w, data + (size_t)(row / 16) * row_block_bytes, row % 16, k, b);
    }
  w.data = data;
  size_t columns = (size_t)k_blocks * 32;
  float *input = floats(TOKENS * columns, 1);
  for (size_t i = 0; i < TOKENS * columns; i++) {
    if (i / 32 % 5 == 1) input[i] *= 1e-39f;
    if (i / 32 % 5 == 2) input[i] = i / 32 % 2 ? 1 : -1;
    if (i / 32 % 5 == 3) input[i] *= 1e-36f;
    if (i / 32 % 50 == 4) input[i] = 0;
  }
  ek_activations x = {malloc(TOKENS * columns), NULL, NULL, NULL, k_blocks, parts};
  x.offsets = malloc((size_t)(TOKENS * k_blocks * 3) * sizeof *x.offsets);
  x.scales = floats((size_t)(TOKENS * k_blocks * parts), 0), x.sums = floats((size_t)(TOKENS * k_blocks * parts), 0);
  for (int t = 0; t < TOKENS; t++)
    twin->quantize(input + t * columns, columns, parts, x.quants + t * columns, x.scales + t * k_blocks * parts,
                   x.sums + t * k_blocks * parts, x.offsets + t * k_blocks * 3);

  size_t stride = ROW_BLOCKS * 16 + GUARD, total = TOKENS * stride;
  float *start = floats(total, 1), *expected = floats(total, 0), *plain = floats(total, 0), *y = floats(total, 0);
  for (int accumulate = 0; accumulate < 2; accumulate++) {
    memcpy(expected, start, total * 4);
    memcpy(plain, start, total * 4);
    twin->matmul(&w, 0, ROW_BLOCKS, &x, 0, TOKENS, plain, stride, accumulate, NULL);
    for (int t = 0; t < TOKENS; t++)
      for (int row = 0; row < ROW_BLOCKS * 16; row++) {
        float sum = 0;
        for (int k = 0; k < k_blocks; k++) {
          const float *of_token = x.scales + (t * k_blocks + k) * parts, *sums = x.sums + (t * k_blocks + k) * parts;
          const ek_weight_block *b = &blocks[row][k];
          int groups = factors == 2 ? 2 : parts;
          for (int group = 0; group < groups; group++) {
            int32_t dot = 0, quants = 0;
            for (int i = group * 32 / groups; i < (group + 1) * 32 / groups; i++) {
              int weight = w.levels ? w.levels[b->quants[i]] : b->quants[i];
              dot += weight * x.quants[t * columns + k * 32 + i];
              quants += x.quants[t * columns + k * 32 + i];
            }
            int own = factors == 2 ? group : 0;
            float scale = of_token[parts == 1 ? 0 : group];
            sum = fmaf((float)dot, (float)b->factors[own] * b->scale * scale, sum);
            if (factors == 2 && has_minimum)
              sum = fmaf((float)b->minimum_factors[own] * b->minimum, scale * (float)quants, sum);
          }
          if (has_minimum && factors != 2)
            sum = fmaf((float)b->minimum_factors[0] * b->minimum, parts == 1 ? sums[0] : sums[0] + sums[1], sum);
        }
        float *at = expected + t * stride + row;
        *at = accumulate ? *at + sum : sum;
      }
    *largest = fmax(*largest, difference(expected, plain, total, 0));
    for (int first = 0; first < 3; first++)
      for (int count = 1; first + count <= TOKENS; count++) {
        memcpy(y, start, total * 4);
        subject->matmul(&w, 0, ROW_BLOCKS, &x, first, count, y + first * stride, stride, accumulate, NULL);
        size_t from = first * stride, to = (first + count) * stride;
        if (memcmp(y, start, from * 4) || memcmp(y + to, start + to, (total - to) * 4) ||
            memcmp(y + from, expected + from, (to - from) * 4)) {
          fail("a product differs from fused multiply-adds");
          return;
        }
      }
    for (int t = 0; t < TOKENS; t += 6) {
      memcpy(y, start + t * stride, stride * 4);
      if (subject->matvec4) subject->matvec4(&w, 0, 2, 2, &x, t, y, accumulate, NULL);
      else subject->matmul(&w, 0, 8, &x, t, 1, y, 0, accumulate, NULL);
      subject->matmul(&w, 8, 9, &x, t, 1, y, 0, accumulate, NULL);
      if (memcmp(y, expected + t * stride, stride * 4)) fail("a one-token product differs from fused multiply-adds");
    }
  }
  free(data), free(input), free(x.quants), free(x.scales), free(x.sums), free(x.offsets);
  free(start), free(expected), free(plain), free(y);
}

static void vectors(size_t n, double *worst) {
  float *x = floats(n, 6), *u = floats(n, 2), *a = floats(n, 0), *b = floats(n, 0);
  uint16_t *h = calloc(n + 1, 2), *g = calloc(n + 1, 2);
#define SEE(slot, relative) worst[slot] = fmax(worst[slot], difference(a, b, n, relative))
  subject->rms_norm(x, u, n, 1e-5f, a), twin->rms_norm(x, u, n, 1e-5f, b), SEE(0, 1);
  subject->silu_multiply(x, u, n, a), twin->silu_multiply(x, u, n, b), SEE(1, 1);
  subject->exp_scaled(x, n, 0.5f, 2, a), twin->exp_scaled(x, n, 0.5f, 2, b), SEE(2, 1);
  *a = subject->sum_exp(x, n, 1), *b = twin->sum_exp(x, n, 1);
  worst[3] = fmax(worst[3], difference(a, b, 1, 1));
  *a = subject->dot(x, u, n), *b = twin->dot(x, u, n);
  worst[4] = fmax(worst[4], difference(a, b, 1, 0) / (double)n);
  subject->store_half(x, n, h), twin->store_half(x, n, g);
  if (memcmp(h, g, 2 * n)) fail("store_half");
  size_t i = 0, j = 0;
  x[n / 2] = x[n / 3];
  float top = subject->maximum(x, n, &i);
  if (top != twin->maximum(x, n, &j) || i != j) fail("maximum");
  memcpy(a, x, n * 4), memcpy(b, x, n * 4);
  subject->scale(a, n, 0.3f), twin->scale(b, n, 0.3f);
  if (memcmp(a, b, n * 4)) fail("scale");
  size_t blocks = (n + 31) / 32;
  int8_t *q = malloc(64 * blocks);
  float *s = floats(8 * blocks, 0);
  int32_t *o = malloc(6 * blocks * sizeof *o);
  if (n > 40) x[5] = NAN, x[37] = INFINITY;
  for (int parts = 1; parts <= 2; parts++) {
    size_t all = blocks * (size_t)parts;
    subject->quantize(x, n, parts, q, s, s + all, o);
    twin->quantize(x, n, parts, q + 32 * blocks, s + 2 * all, s + 3 * all, o + 3 * blocks);
    if (memcmp(q, q + 32 * blocks, 32 * blocks) || memcmp(s, s + 2 * all, 8 * all) ||
        memcmp(o, o + 3 * blocks, 3 * blocks * sizeof *o))
      fail("quantize");
  }
  free(x), free(u), free(a), free(b), free(h), free(g), free(q), free(s), free(o);
}

static void halves(void) {
  float x[16];
  uint16_t y[16], z[16];
  for (uint32_t high = 0; high < 1 << 20; high += 16) {
    for (uint32_t i = 0; i < 16; i++) {
      uint32_t bits = (high + i) << 12 | (bits32() & 1 ? 0 : bits32() & 0xfff);
      memcpy(x + i, &bits, 4);
      if (isnan(x[i])) x[i] = 0;
    }
    subject->store_half(x, 16, y), twin->store_half(x, 16, z);
    if (memcmp(y, z, sizeof y)) {
      fail("store_half");
      return;
    }
  }
}

// Weights of 16 bits: rows of any number, any count of tokens, each as it is alone.
static void half_products(int rows, int columns, int is_bfloat16, double *worst) {
  const int most = 7, blocks = (rows + 15) / 16, stride = rows + 1;
  size_t n = (size_t)blocks * 16 * (size_t)columns;
  float *weights = floats(n, 1), *x = floats((size_t)(most * columns), 1);
  float *a = floats((size_t)(most * stride), 0), *b = floats((size_t)(most * stride), 0);
  float *alone = floats((size_t)(most * stride), 0);
  uint16_t *stored = calloc(n, 2);
  twin->store_half(weights, n, stored);
  for (size_t i = 0; is_bfloat16 && i < n; i++) {
    uint32_t bits;
    memcpy(&bits, weights + i, 4);
    stored[i] = (uint16_t)(bits >> 16);
  }
  const ek_half_matrix w = {stored, rows, columns, is_bfloat16};
  for (int t = 0; t < most; t++)
    subject->half_matmul(&w, 0, blocks, x + t * columns, (size_t)columns, 1, alone + t * stride, (size_t)stride);
  for (int count = 1; count <= most; count++) {
    subject->half_matmul(&w, 0, blocks, x, (size_t)columns, count, a, (size_t)stride);
    for (int t = 0; t < count; t++)
      if (memcmp(a + t * stride, alone + t * stride, sizeof *a * (size_t)rows)) fail("a 16-bit product of a batch");
    twin->half_matmul(&w, 0, blocks, x, (size_t)columns, count, b, (size_t)stride);
    *worst = fmax(*worst, difference(a, b, (size_t)(count * stride), 0) / columns);
  }
  free(weights), free(x), free(a), free(b), free(alone), free(stored);
}

// A cache of bytes: blocks of 16 keys with their scales, rows of values with theirs.
static void to_bytes(const float *keys, const float *values, int head_size, size_t padded, char *k, char *v) {
  size_t size = (size_t)head_size, row = size + sizeof(float);
  int8_t *quants = malloc(size);
  float *numbers = malloc(size * sizeof(float)), scale;
  for (size_t p = 0; p < padded; p++) {
    char *block = k + p / 16 * 16 * row;
    for (size_t d = 0; d < size; d++) numbers[d] = keys[p / 16 * 16 * size + 16 * d + p % 16];
    twin->store_bytes(numbers, size, quants, &scale);
    for (size_t d = 0; d < size; d++) block[16 * d + p % 16] = quants[d];
    memcpy(block + 16 * size + p % 16 * sizeof scale, &scale, sizeof scale);
    twin->store_bytes(values + p * size, size, (int8_t *)v + p * row, &scale);
    memcpy(v + p * row + size, &scale, sizeof scale);
    subject->store_bytes(values + p * size, size, quants, numbers);
    for (size_t d = 0; d < size; d++)
      if (abs(quants[d] - (int8_t)v[p * row + d]) > 1 || numbers[0] != scale) fail("store_bytes");
  }
  free(quants), free(numbers);
}

static void attention(int head_size, int group, int positions, int storage, double *worst) {
  size_t padded = ((size_t)positions + 15) & ~(size_t)15, n = padded * (size_t)head_size;
  float *queries = floats((size_t)(group * head_size), 0.5f), *keys = floats(n, 1), *values = floats(n, 1);
  float *a = floats((size_t)(group * head_size), 0), *b = floats((size_t)(group * head_size), 0);
  float *scratch = floats(padded * (size_t)group, 0);
  uint16_t *half_keys = malloc(2 * n), *half_values = malloc(2 * n);
  char *byte_keys = malloc(n + 4 * padded), *byte_values = malloc(n + 4 * padded);
  twin->store_half(keys, n, half_keys), twin->store_half(values, n, half_values);
  to_bytes(keys, values, head_size, padded, byte_keys, byte_values);
  const void *stored[3][2] = {[EK_HALF] = {half_keys, half_values},
                              [EK_FLOAT] = {keys, values},
                              [EK_BYTES] = {byte_keys, byte_values}};
  ek_attention task = {
      .queries = queries, .keys = stored[storage][0], .values = stored[storage][1], .output = a, .scores = scratch,
      .group = group, .head_size = head_size, .positions = positions, .storage = storage, .cold = positions % 2};
  subject->score(&task, 0, positions), subject->mix(&task, scratch, 0, head_size);
  task.output = b;
  twin->score(&task, 0, positions), twin->mix(&task, scratch, 0, head_size);
  *worst = fmax(*worst, difference(a, b, (size_t)(group * head_size), 0));
  if (positions > 1) {
    // Together with a row that sees one position less it gets the same bits.
    float *c = floats((size_t)(group * head_size), 0), *more = floats(padded * (size_t)group, 0);
    ek_attention rows[2] = {task, task};
    rows[0].positions--, rows[0].scores = more, rows[0].output = c, rows[1].output = b;
    subject->score_rows(rows, 2), subject->mix_rows(rows, 2);
    if (memcmp(a, b, sizeof(float) * (size_t)(group * head_size))) fail("rows that share");
    free(c), free(more);
  }
  float *x = keys, *y = values;
  memcpy(y, x, 4 * (size_t)head_size);
  for (int interleaved = 0; interleaved < 2; interleaved++) {
    subject->rotate(x, 1, head_size, head_size & ~1, queries, a, interleaved);
    twin->rotate(y, 1, head_size, head_size & ~1, queries, a, interleaved);
    *worst = fmax(*worst, difference(x, y, (size_t)head_size, 0));
  }
  free(queries), free(keys), free(values), free(a), free(b), free(scratch), free(half_keys), free(half_values);
  free(byte_keys), free(byte_values);
}

int main(void) {
  printf("%s against portable\n", subject->name);
#ifdef DETECTED
  if (ek_kernels_named(subject->name) != subject || ek_kernels_best() != subject) fail("run-time detection");
#endif
  static const int depths[] = {1, 2, 15, 16, 17, 33};
  double largest = 0;
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
    for (int parts = 1; parts <= 2; parts++) {
      // Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS: each in a layout of its own.
      const uint32_t types[] = {2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23};
      for (size_t j = 0; j < sizeof types / sizeof *types; j++) products(types[j], depths[i], parts, &largest);
    }
  }
  report("products: 0 from fused; fused from portable", largest, 5e-2);
  double half = 0;
  for (int rows = 1; rows < 70; rows += 13)
    for (int columns = 1; columns < 200; columns += 33)
      for (int is_bfloat16 = 0; is_bfloat16 < 2; is_bfloat16++) half_products(rows, columns, is_bfloat16, &half);
  report("products of 16 bits, absolute, by length", half, 1e-6);
  double worst[5] = {0};
  for (size_t n = 1; n < 200; n++) vectors(n, worst);
  report("rms_norm, relative", worst[0], 1e-6);
  report("silu_multiply, relative", worst[1], 1e-6);
  report("exp_scaled, relative", worst[2], 1e-6);
  report("sum_exp, relative", worst[3], 1e-6);
  report("dot, absolute, by length", worst[4], 1e-6);
  halves();
  double apart = 0;
  static const int sizes[] = {1, 7, 32, 64, 80, 100, 128}, groups[] = {1, 2, 3, 4, 5, 8};
  for (size_t s = 0; s < 7; s++)
    for (size_t g = 0; g < 6; g++)
      for (int positions = 1; positions <= 70; positions += s < 2 ? 1 : 9)
        for (int f = 0; f < 3; f++) attention(sizes[s], groups[g], positions, f, &apart);
  report("attend and rotate, absolute", apart, 1e-5);
  puts(failures ? "FAILED" : "passed");
  return failures != 0;
}
