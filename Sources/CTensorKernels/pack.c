#include "CTensorKernels.h"

#include <math.h>

#include "half.h"

float ek_half_to_float(uint16_t half) { return half_bits_to_float(half); }
uint16_t ek_float_to_half(float value) { return float_to_half_bits(value); }

static inline void put_half(uint8_t *at, uint16_t half) { memcpy(at, &half, 2); }
static inline uint16_t get_half(const uint8_t *at) {
  uint16_t half;
  memcpy(&half, at, 2);
  return half;
}

// Where block k of row `row` lies in a row block of w; with factors these lie 16 bytes apart, and `scale` and `minimum`
// are those of eight k blocks.
typedef struct {
  uint8_t *quants, *scale, *minimum, *factors;
} block_place;

static inline block_place place(const ek_matrix *w, uint8_t *row_block, int row, int k) {
  const size_t k_blocks = (size_t)w->k_blocks, quant_bytes = 64 * (size_t)w->bits;
  const size_t of_each = w->has_minimum ? 2 : 1;
  uint8_t *after = row_block + k_blocks * quant_bytes;
  block_place p = {.quants = row_block + (size_t)k * quant_bytes + 4 * row};
  if (w->factors) {
    const size_t factor_bytes = 16 * (size_t)w->factors * of_each;
    p.factors = after + (size_t)k * factor_bytes + row;
    p.scale = after + k_blocks * factor_bytes + (size_t)(k / 8) * 32 * of_each + 2 * row;
    p.minimum = p.scale + 32;
  } else {
    p.scale = after + (size_t)k * 32 + 2 * row;
    p.minimum = p.scale + k_blocks * 32;
  }
  return p;
}

// Four quants at a time: time to the first token counts every pass over the weights.
static inline uint32_t get_word(const uint8_t *at) {
  uint32_t word;
  memcpy(&word, at, 4);
  return word;
}
static inline void put_word(uint8_t *at, uint32_t word) { memcpy(at, &word, 4); }
// The same bits of each of the four.
static inline uint32_t each(uint32_t bits) { return bits * 0x01010101u; }

// 32 quants of one row, eight words of four, to their places in a row block.
static inline void put_quants2(uint8_t *at, const uint32_t q[8]) {
  for (int line = 0; line < 2; line++, q += 4) put_word(at + 64 * line, q[0] | q[1] << 2 | q[2] << 4 | q[3] << 6);
}

static inline void put_quants3(uint8_t *at, const uint32_t q[8]) {
  uint32_t low[8], high = 0;
  for (int quad = 0; quad < 8; quad++) {
    low[quad] = q[quad] & each(3);
    high |= (q[quad] >> 2 & each(1)) << quad;
  }
  put_quants2(at, low);
  put_word(at + 128, high);
}

static inline void put_quants4(uint8_t *at, const uint32_t q[8]) {
  for (int line = 0; line < 4; line++) put_word(at + 64 * line, q[2 * line] | q[2 * line + 1] << 4);
}

static inline void put_quants5(uint8_t *at, const uint32_t q[8]) {
  const uint32_t a = q[5], b = q[6], c = q[7];
  const uint32_t high[5] = {a & each(7), (a >> 3 & each(3)) | (c >> 3 & each(1)) << 2, b & each(7),
                            (b >> 3 & each(3)) | (c >> 4 & each(1)) << 2, c & each(7)};
  for (int line = 0; line < 5; line++) put_word(at + 64 * line, q[line] | high[line] << 5);
}

static inline void put_quants6(uint8_t *at, const uint32_t q[8]) {
  for (int half = 0; half < 2; half++, q += 4)
    for (int line = 0; line < 3; line++)
      put_word(at + 192 * half + 64 * line, q[line] | (q[3] >> (4 - 2 * line) & each(3)) << 6);
}

static inline void put_quants8(uint8_t *at, const uint32_t q[8]) {
  for (int quad = 0; quad < 8; quad++) put_word(at + 64 * quad, q[quad]);
}

static inline void put_quants(int32_t bits, uint8_t *at, const uint8_t quants[32]) {
  uint32_t words[8];
  memcpy(words, quants, 32);
  switch (bits) {
  case 2: put_quants2(at, words); break;
  case 3: put_quants3(at, words); break;
  case 4: put_quants4(at, words); break;
  case 5: put_quants5(at, words); break;
  case 6: put_quants6(at, words); break;
  default: put_quants8(at, words); break;
  }
}

void ek_pack_block(const ek_matrix *w, uint8_t *row_block, int row, int k_block, const ek_weight_block *block) {
  block_place p = place(w, row_block, row, k_block);
  const int added = w->has_minimum || w->levels || w->bits == 8 ? 0 : 1 << (w->bits - 1);
  uint8_t quants[32];
  for (int i = 0; i < 32; i++) quants[i] = (uint8_t)(block->quants[i] + added);
  put_quants(w->bits, p.quants, quants);
  for (int i = 0; i < w->factors; i++) {
    p.factors[16 * i] = (uint8_t)block->factors[i];
    if (w->has_minimum) p.factors[16 * (w->factors + i)] = (uint8_t)block->minimum_factors[i];
  }
  put_half(p.scale, float_to_half_bits(block->scale));
  if (w->has_minimum) put_half(p.minimum, float_to_half_bits(block->minimum));
}

// Nibbles of a file's block, low ones first.
static inline void repack_nibbles(uint8_t *at, const uint8_t *source) {
  for (int half = 0; half < 2; half++) {
    uint32_t first = get_word(source + 8 * half), second = get_word(source + 8 * half + 4);
    put_word(at + 64 * half, (first & each(15)) | (second & each(15)) << 4);
    put_word(at + 64 * (2 + half), (first >> 4 & each(15)) | (second & each(0xf0)));
  }
}

// Q4 files hold weights 0…15 of a block in the low nibbles and 16…31 in the high ones.
static inline void unpack_nibbles(const uint8_t *source, uint8_t quants[32]) {
  for (int i = 0; i < 16; i++) {
    quants[i] = source[i] & 15;
    quants[i + 16] = source[i] >> 4;
  }
}

// Scale and minimum, 6 bits each, of sub-block j of a Q4_K or Q5_K block: 12 bytes hold eight pairs.
static inline void k_quant_scale(const uint8_t *packed, int j, int *scale, int *minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    *minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
  }
}

// Rows of the K formats: blocks of 256, in sub-blocks of 32 with Q4_K and Q5_K, of 16 with the others. Nothing is
// rounded: their scales are bytes times a number of half precision.
static void pack_k_quant_row(const ek_matrix *w, uint8_t *row_block, int row, const uint8_t *from) {
  for (int32_t super = 0; super * 8 < w->k_blocks; super++) {
    block_place p = place(w, row_block, row, super * 8);
    put_half(p.scale, get_half(from));
    put_half(p.minimum, get_half(from + 2) ^ 0x8000);
    const uint8_t *high = from + 16, *low = w->bits == 4 ? from + 16 : from + 48;
    for (int j = 0; j < 8; j++) {
      p = place(w, row_block, row, super * 8 + j);
      int factor, minimum_factor;
      k_quant_scale(from + 4, j, &factor, &minimum_factor);
      p.factors[0] = (uint8_t)factor;
      p.factors[16] = (uint8_t)minimum_factor;
      uint32_t q[8];
      for (int i = 0; i < 8; i++) q[i] = get_word(low + 32 * (j / 2) + 4 * i) >> j % 2 * 4 & each(15);
      if (w->bits == 4) {
        put_quants4(p.quants, q);
        continue;
      }
      for (int i = 0; i < 8; i++) q[i] |= (get_word(high + 4 * i) >> j & each(1)) << 4;
      put_quants5(p.quants, q);
    }
    from += w->bits == 4 ? 144 : 176;
  }
}

static void pack_q6_k_row(const ek_matrix *w, uint8_t *row_block, int row, const uint8_t *from) {
  for (int32_t super = 0; super * 8 < w->k_blocks; super++, from += 210) {
    put_half(place(w, row_block, row, super * 8).scale, get_half(from + 208));
    for (int j = 0; j < 8; j++) {
      block_place p = place(w, row_block, row, super * 8 + j);
      p.factors[0] = from[192 + 2 * j];
      p.factors[16] = from[193 + 2 * j];
      const uint8_t *low = from + j / 4 * 64 + j % 2 * 32, *high = from + 128 + j / 4 * 32;
      uint32_t q[8];
      for (int i = 0; i < 8; i++)
        q[i] = (get_word(low + 4 * i) >> j % 4 / 2 * 4 & each(15)) |
               (get_word(high + 4 * i) >> j % 4 * 2 & each(3)) << 4;
      put_quants6(p.quants, q);
    }
  }
}

static void pack_q3_k_row(const ek_matrix *w, uint8_t *row_block, int row, const uint8_t *from) {
  for (int32_t super = 0; super * 8 < w->k_blocks; super++, from += 110) {
    const uint8_t *third = from, *pairs = from + 32, *scales = from + 96;
    put_half(place(w, row_block, row, super * 8).scale, get_half(from + 108));
    for (int j = 0; j < 8; j++) {
      block_place p = place(w, row_block, row, super * 8 + j);
      for (int half = 0; half < 2; half++) {
        int part = 2 * j + half;
        int factor = (scales[part % 8] >> part / 8 * 4 & 15) | (scales[8 + part % 4] >> part / 4 * 2 & 3) << 4;
        p.factors[16 * half] = (uint8_t)(factor - 32);
      }
      uint32_t low[8], high = 0;
      for (int i = 0; i < 8; i++) {
        low[i] = get_word(pairs + j / 4 * 32 + 4 * i) >> j % 4 * 2 & each(3);
        high |= (get_word(third + 4 * i) >> j & each(1)) << i;
      }
      put_quants2(p.quants, low);
      put_word(p.quants + 128, high);
    }
  }
}

static void pack_q2_k_row(const ek_matrix *w, uint8_t *row_block, int row, const uint8_t *from) {
  for (int32_t super = 0; super * 8 < w->k_blocks; super++, from += 84) {
    block_place p = place(w, row_block, row, super * 8);
    put_half(p.scale, get_half(from + 80));
    put_half(p.minimum, get_half(from + 82) ^ 0x8000);
    for (int j = 0; j < 8; j++) {
      p = place(w, row_block, row, super * 8 + j);
      for (int half = 0; half < 2; half++) {
        p.factors[16 * half] = from[2 * j + half] & 15;
        p.factors[32 + 16 * half] = from[2 * j + half] >> 4;
      }
      uint32_t q[8];
      for (int i = 0; i < 8; i++) q[i] = get_word(from + 16 + j / 4 * 32 + 4 * i) >> j % 4 * 2 & each(3);
      put_quants2(p.quants, q);
    }
  }
}

static const int8_t non_linear_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t doubled_float4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Sixteen bytes of nibbles that stand for the numbers of a table, as signed bytes.
static inline void put_values(uint8_t *at, const uint8_t *nibbles, const int8_t values[16], int factor) {
  uint8_t quants[32];
  for (int i = 0; i < 16; i++) {
    quants[i] = (uint8_t)(values[nibbles[i] & 15] * factor);
    quants[i + 16] = (uint8_t)(values[nibbles[i] >> 4] * factor);
  }
  put_quants(8, at, quants);
}

static void pack_iq4_xs_row(const ek_matrix *w, uint8_t *row_block, int row, const uint8_t *from) {
  for (int32_t super = 0; super * 8 < w->k_blocks; super++, from += 136) {
    int high = get_half(from + 2);
    for (int j = 0; j < 8; j++) {
      block_place p = place(w, row_block, row, super * 8 + j);
      repack_nibbles(p.quants, from + 8 + 16 * j);
      p.factors[0] = (uint8_t)(((from[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4) - 32);
      put_half(p.scale, get_half(from));
    }
  }
}

// One block of MXFP4: a power of two, w = 2^(exponent - 128) * level. With 8 bits what is too large for half precision
// goes into the quants; below 2^-24 weights become multiples of that.
static void pack_mxfp4_block(const ek_matrix *w, block_place p, const uint8_t *from) {
  int exponent = from[0] - 128, factor = 1;
  while (exponent > 15 && factor < 8) {
    exponent--;
    factor *= 2;
  }
  if (w->bits == 4) repack_nibbles(p.quants, from + 1);
  else put_values(p.quants, from + 1, doubled_float4_values, factor);
  put_half(p.scale, float_to_half_bits(ldexpf(1, exponent > 15 ? 15 : exponent)));
}

enum { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
       IQ4_NL = 20, IQ4_XS = 23, MXFP4 = 39 };

void ek_choose_layout(ek_matrix *w, uint32_t type, const uint8_t *source, size_t count) {
  w->has_minimum = type == Q4_1 || type == Q5_1 || type == Q2_K || type == Q4_K || type == Q5_K;
  const bool of_halves = type == Q2_K || type == Q3_K || type == Q6_K;
  w->factors = of_halves ? 2 : type == Q4_K || type == Q5_K || type == IQ4_XS ? 1 : 0;
  w->levels = type == IQ4_NL || type == IQ4_XS ? non_linear_values : type == MXFP4 ? doubled_float4_values : NULL;
  switch (type) {
  case Q2_K: w->bits = 2; break;
  case Q3_K: w->bits = 3; break;
  case Q4_0: case Q4_1: case Q4_K: case IQ4_NL: case IQ4_XS: case MXFP4: w->bits = 4; break;
  case Q5_0: case Q5_1: case Q5_K: w->bits = 5; break;
  case Q6_K: w->bits = 6; break;
  default: w->bits = 8; break;
  }
  if (type != MXFP4) return;
  for (size_t i = 0; i < count; i++)
    if (source[17 * i] > 128 + 15) {
      w->bits = 8;
      w->levels = NULL;
      return;
    }
}

bool ek_pack_rows(const ek_matrix *w, uint8_t *row_block, uint32_t type, const uint8_t *source, size_t row_bytes,
                  int rows) {
  for (int row = 0; row < rows; row++) {
    const uint8_t *from = source + (size_t)row * row_bytes;
    switch (type) {
    case Q2_K: pack_q2_k_row(w, row_block, row, from); continue;
    case Q3_K: pack_q3_k_row(w, row_block, row, from); continue;
    case Q4_K: case Q5_K: pack_k_quant_row(w, row_block, row, from); continue;
    case Q6_K: pack_q6_k_row(w, row_block, row, from); continue;
    case IQ4_XS: pack_iq4_xs_row(w, row_block, row, from); continue;
    default: break;
    }
    for (int32_t k = 0; k < w->k_blocks; k++) {
      block_place p = place(w, row_block, row, k);
      switch (type) {
      case Q4_0:
      case IQ4_NL:
        repack_nibbles(p.quants, from + 2);
        put_half(p.scale, get_half(from));
        from += 18;
        break;
      case Q4_1:
        repack_nibbles(p.quants, from + 4);
        put_half(p.scale, get_half(from));
        put_half(p.minimum, get_half(from + 2));
        from += 20;
        break;
      case Q5_0:
      case Q5_1: {
        const uint8_t *high = from + (w->has_minimum ? 4 : 2);
        uint8_t quants[32];
        unpack_nibbles(high + 4, quants);
        uint32_t high_bits;
        memcpy(&high_bits, high, 4);
        for (int i = 0; i < 32; i++) quants[i] |= (uint8_t)((high_bits >> i & 1) << 4);
        put_quants(5, p.quants, quants);
        put_half(p.scale, get_half(from));
        if (w->has_minimum) put_half(p.minimum, get_half(from + 2));
        from += w->has_minimum ? 24 : 22;
        break;
      }
      case Q8_0:
        put_quants(8, p.quants, from + 2);
        put_half(p.scale, get_half(from));
        from += 34;
        break;
      case MXFP4:
        pack_mxfp4_block(w, p, from);
        from += 17;
        break;
      default: return false;
      }
    }
  }
  return true;
}

void ek_pack_floats(const ek_matrix *w, uint8_t *row_block, int row, const float *values, size_t columns) {
  for (int32_t k = 0; k < w->k_blocks; k++) {
    float block[32] = {0};
    size_t start = (size_t)k * 32, n = columns > start ? columns - start : 0;
    memcpy(block, values + start, (n < 32 ? n : 32) * sizeof(float));
    float largest = 0;
    for (int i = 0; i < 32; i++) largest = fmaxf(largest, fabsf(block[i]));
    // The scale is stored in half precision, whose range ends at 65504; dividing by the stored one keeps the quants
    // centred on it.
    block_place p = place(w, row_block, row, k);
    uint16_t scale = float_to_half_bits(fminf(largest / 127, 65504));
    float stored = half_bits_to_float(scale), inverse = stored > 0 ? 1 / stored : 0;
    uint8_t quants[32];
    for (int i = 0; i < 32; i++) quants[i] = (uint8_t)(int8_t)fmaxf(-127, fminf(127, rintf(block[i] * inverse)));
    put_quants(8, p.quants, quants);
    put_half(p.scale, scale);
  }
}

// Scale and minimum of 32 weights, as stored, and the quants that are nearest to the weights with them.
typedef struct {
  uint16_t scale, minimum;
  uint8_t quants[32];
  float error;
} block_of_4_bits;

static void round_to_4_bits(const float values[32], float scale, float minimum, block_of_4_bits *block) {
  block->scale = float_to_half_bits(fminf(scale, 65504));
  block->minimum = float_to_half_bits(fmaxf(-65504, fminf(minimum, 65504)));
  float stored = half_bits_to_float(block->scale), offset = half_bits_to_float(block->minimum);
  float inverse = stored > 0 ? 1 / stored : 0, error = 0;
  for (int i = 0; i < 32; i++) {
    float quant = fmaxf(0, fminf(15, rintf((values[i] - offset) * inverse)));
    float difference = values[i] - (stored * quant + offset);
    error += difference * difference;
    block->quants[i] = (uint8_t)quant;
  }
  block->error = error;
}

void ek_pack_floats_in_4_bits(const ek_matrix *w, uint8_t *row_block, int row, const float *values, size_t columns) {
  for (int32_t k = 0; k < w->k_blocks; k++) {
    float x[32] = {0};
    size_t start = (size_t)k * 32, n = columns > start ? columns - start : 0;
    memcpy(x, values + start, (n < 32 ? n : 32) * sizeof(float));
    float low = x[0], high = x[0], sum = 0;
    for (int i = 0; i < 32; i++) {
      low = fminf(low, x[i]);
      high = fmaxf(high, x[i]);
      sum += x[i];
    }
    block_of_4_bits best, trial;
    round_to_4_bits(x, (high - low) / 15, low, &best);
    // Ranges that leave out more and more of the extremes, each with the line through the quants that fits best: the
    // largest magnitudes cost all others their precision.
    for (int step = 0; step < 6; step++) {
      float cut = 0.03f * (float)step * (high - low), scale = (high - low - 2 * cut) / 15;
      if (!(scale > 0)) break;
      float q_sum = 0, q_squares = 0, products = 0;
      for (int i = 0; i < 32; i++) {
        float quant = fmaxf(0, fminf(15, rintf((x[i] - low - cut) / scale)));
        q_sum += quant;
        q_squares += quant * quant;
        products += quant * x[i];
      }
      float spread = 32 * q_squares - q_sum * q_sum;
      if (!(spread > 0)) continue;
      scale = (32 * products - q_sum * sum) / spread;
      round_to_4_bits(x, scale, (sum - scale * q_sum) / 32, &trial);
      if (trial.error < best.error) best = trial;
    }
    block_place p = place(w, row_block, row, k);
    put_quants(4, p.quants, best.quants);
    put_half(p.scale, best.scale);
    put_half(p.minimum, best.minimum);
  }
}
