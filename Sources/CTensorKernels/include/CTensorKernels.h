// Inner loops of the decoder: block-quantised matrix products, attention and the small vector operations between
// them, each written once per instruction set and chosen at run time. Swift code reaches them through the
// TensorKernels module only.
#ifndef C_TENSOR_KERNELS_H
#define C_TENSOR_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Packed matrices ------------------------------------------------------------------------------------------
//
// 16 output rows form a row block, 32 consecutive weights of a row a k block. In a row block the weights of a
// k block lie as k quads: 4 weights of row 0, the same 4 of row 1, … row 15: 64 bytes when a weight has 8 bits.
// Fewer bits put more quads into 64 bytes, at the same place of each:
//   2  quads 0…3 are the pairs of bits of line 0, lowest first, and 4…7 those of line 1
//   3  the low pairs of bits as with 2; line 2 has the high bits, of quad 0 lowest
//   4  quads 2j and 2j + 1 are the low and high nibbles of line j
//   5  quads 0…4 are the low bits of lines 0…4. Their high three bits hold quads 5…7: the low three bits of these in
//      lines 0, 2 and 4; above them, of 5 and 6, two bits in lines 1 and 3, whose highest bits are the two of 7
//   6  quads 0…2, and 4…6, are the low bits of three lines, whose high pairs are quad 3, and 7, highest pair first
// A row block holds [k blocks][64 * bits bytes] quants, then
//   without factors  [k blocks][16] half-precision scales, then, where there are minimums, [k blocks][16] of these,
//   with factors     [k blocks][n][16] signed bytes, the factors of the scale of a k block or of each of its halves,
//                    and after them as many of the minimum, then [k blocks / 8, rounded up][16] half-precision scales,
//                    each line of 16 followed by one of the minimums, of eight k blocks each,
// padded to 64 bytes. A weight is scale (* factor) * quant + minimum (* factor). The lane is the row, so no sum across
// lanes is needed, and the same copy serves one token and many.

enum { EK_ROWS = 16, EK_BLOCK = 32 };

typedef struct {
  const uint8_t *data;    // 64-byte aligned
  int32_t row_blocks;     // rows / 16, rounded up; rows past the end are zero
  int32_t k_blocks;       // columns / 32, rounded up; columns past the end are zero
  // What goes together: 2: quants 0…3, minimums and factors of halves; 3: −4…3 and factors of halves; 4: 0…15 with
  // minimums, with factors of k blocks or without, −8…7 without minimums, or levels, with factors of k blocks or
  // without; 5: 0…31 with minimums, with factors of k blocks or without, −16…15 without minimums; 6: −32…31 and factors
  // of halves; 8: −128…127. Those that can be negative are stored with 4, 8, 16 or 32 added, but for 8 bits.
  int32_t bits;
  int32_t has_minimum;
  int32_t factors;        // of a k block: none, 1, or 2 for its halves
  const int8_t *levels;   // the 16 numbers that stored quants of 4 bits stand for; NULL where they are steps
  size_t row_block_bytes;
} ek_matrix;

// Bytes of a row block's k blocks but for what eight of them share, and with it.
static inline size_t ek_k_block_bytes(int32_t bits, int32_t has_minimum, int32_t factors) {
  int32_t of_each = has_minimum ? 2 : 1;
  return (size_t)(64 * bits + (factors ? 16 * factors : 32) * of_each);
}

static inline size_t ek_row_block_bytes(int32_t k_blocks, int32_t bits, int32_t has_minimum, int32_t factors) {
  size_t bytes = (size_t)k_blocks * ek_k_block_bytes(bits, has_minimum, factors);
  if (factors) bytes += (size_t)(k_blocks + 7) / 8 * (has_minimum ? 64 : 32);
  return (bytes + 63) & ~(size_t)63;
}

// A matrix of 16-bit floats, 16 rows interleaved: (row blocks, columns, 16).
typedef struct {
  const uint16_t *data;   // half precision or bfloat16; rows past the end are zero
  int32_t rows, columns;
  bool is_bfloat16;
} ek_half_matrix;

// Activations of `count` tokens, quantised in parts of 32 or 16: x ≈ scale * quant, quants in −127…127.
typedef struct {
  int8_t *quants;    // (count, k_blocks * 32)
  float *scales;     // (count, k_blocks, parts)
  float *sums;       // (count, k_blocks, parts): scale * sum of the part's quants, rounded once
  int32_t *offsets;  // (count, k_blocks, 3): −32 * sum of the quants of each half of a k block, and of both
  int32_t k_blocks;
  int32_t parts;     // of a k block: 1, or 2 where a finer rounding is worth a sixth more time
} ek_activations;

// One block of 32 weights as the packer sees it.
typedef struct {
  int8_t quants[32];       // with levels, the numbers of the levels
  float scale, minimum;    // with factors, those of eight k blocks
  int8_t factors[2], minimum_factors[2];
} ek_weight_block;

// Writes one block of row `row` (0…15) of a row block of w, whose data is not looked at. Scales are rounded to half
// precision.
void ek_pack_block(const ek_matrix *w, uint8_t *row_block, int row, int k_block, const ek_weight_block *block);
// How a format is held: bits, has_minimum, factors and levels of w, by its GGUF number as below; 8 bits for others.
// MXFP4 takes 4 only where `count` blocks of it at `source` have no power of two over half precision's.
void ek_choose_layout(ek_matrix *w, uint32_t type, const uint8_t *source, size_t count);
// Repacks rows of a quantised format without requantising: type is the GGUF number of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
// Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS or MXFP4, and w has its layout; source holds row_bytes per row. Returns
// false for another type.
bool ek_pack_rows(const ek_matrix *w, uint8_t *row_block, uint32_t type, const uint8_t *source, size_t row_bytes,
                  int rows);
// Quantises one row of floats to 8 bits in blocks of 32 and packs it; `columns` need not be a multiple of 32.
void ek_pack_floats(const ek_matrix *w, uint8_t *row_block, int row, const float *values, size_t columns);
// The same in 4 bits with a minimum: a block's sum of squared errors is at most that of 16 even steps from its smallest
// to its largest weight.
void ek_pack_floats_in_4_bits(const ek_matrix *w, uint8_t *row_block, int row, const float *values, size_t columns);

float ek_half_to_float(uint16_t half);
uint16_t ek_float_to_half(float value);

// ---- Kernels ----------------------------------------------------------------------------------------------------

// How a cache holds a number. Bytes are −127…127 with a scale for the head_size numbers of one position: the scales of
// a block of 16 keys stand after it as floats, (16), and that of a row of values after the row.
enum { EK_HALF, EK_FLOAT, EK_BYTES };

// Attention of one token over one key-value head: `group` query heads share its keys and values.
typedef struct {
  const float *queries;     // (group, head_size), already rotated and scaled
  const void *keys;         // (positions / 16, head_size, 16), positions rounded up; those past the end are not used
  const void *values;       // (positions, head_size)
  float *output;            // (group, head_size)
  float *scores;            // (group, positions rounded up to 16)
  int32_t group, head_size, positions;
  int32_t storage;          // of keys and values: EK_HALF, EK_FLOAT or EK_BYTES
  bool cold;                // whether keys and values come from memory rather than from the caches
  // The first so many positions get no weight: keys come in sixteens, and a sliding window begins where it will.
  int32_t skip;
  // Added to the scores, (group, positions) with rows bias_stride apart; NULL for nothing.
  const float *bias;
  size_t bias_stride;
} ek_attention;

typedef struct {
  const char *name;
  // y[t][row] (+)= sum over k of W[row][k] x[t][k], for tokens 0..<count and row blocks begin..<end.
  // Rows of one token are y_stride floats apart. Each (row, token) is summed over k blocks in ascending order by
  // the same float operations whatever count is: a token's result does not depend on its batch.
  // next: what this thread will probably read after it, which is fetched towards the processor meanwhile; NULL when
  // that follows in memory.
  void (*matmul)(const ek_matrix *w, int32_t begin, int32_t end, const ek_activations *x, int32_t first,
                 int32_t count, float *y, size_t y_stride, bool accumulate, const uint8_t *next);
  // One token, four row blocks at a time, `stride` apart, each walking its own part of memory: row blocks
  // begin + j + s * stride for s in 0..<4, j in 0..<steps. next as above, NULL when unknown. NULL itself where one place
  // after the other is read faster.
  void (*matvec4)(const ek_matrix *w, int32_t begin, int32_t stride, int32_t steps, const ek_activations *x,
                  int32_t token, float *y, bool accumulate, const uint8_t *const next[4]);
  // y[t][row] = sum over k of W[row][k] x[t][k] in single precision, in ascending order of k whatever count is, for row
  // blocks begin..<end. Rows of one token are x_stride and y_stride floats apart.
  void (*half_matmul)(const ek_half_matrix *w, int32_t begin, int32_t end, const float *x, size_t x_stride,
                      int32_t count, float *y, size_t y_stride);
  // Rounds to nearest, ties to even. NaNs count as zeros; a part that holds an infinity becomes zero.
  void (*quantize)(const float *x, size_t columns, int32_t parts, int8_t *quants, float *scales, float *sums,
                   int32_t *offsets);
  void (*rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *y);
  // y = silu(gate) * up
  void (*silu_multiply)(const float *gate, const float *up, size_t n, float *y);
  // y = gelu(gate) * up, with gelu(x) = x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  void (*gelu_multiply)(const float *gate, const float *up, size_t n, float *y);
  // Rotates `heads` heads of head_size; cosines and sines: (dimension / 2). Neighbours or halves.
  void (*rotate)(float *x, int32_t heads, int32_t head_size, int32_t dimension, const float *cosines,
                 const float *sines, bool interleaved);
  // Scores of positions begin..<end; begin is a multiple of 16.
  void (*score)(const ek_attention *a, int32_t begin, int32_t end);
  // Softmax of all scores into weights, as large as scores and perhaps the same, and then numbers begin..<end of each
  // head's output; begin is a multiple of 32. What is written does not depend on how a head is cut.
  void (*mix)(const ek_attention *a, float *weights, int32_t begin, int32_t end);
  // All scores, and all of the output with the scores as weights, of rows that share keys, values, head_size, group and
  // storage: what they share is made floats once. To the bit what the rows get alone.
  void (*score_rows)(const ek_attention *rows, int32_t count);
  void (*mix_rows)(const ek_attention *rows, int32_t count);
  void (*store_half)(const float *x, size_t n, uint16_t *y);
  // x ≈ scale * y, the largest of x being 127. What is not finite makes the scale NaN.
  void (*store_bytes)(const float *x, size_t n, int8_t *y, float *scale);
  void (*scale)(float *x, size_t n, float factor);
  // Largest value and its first index. NaNs are passed over; without a number the value is −infinity, the index 0.
  float (*maximum)(const float *x, size_t n, size_t *index);
  // Sum of exp(x[i] - shift).
  float (*sum_exp)(const float *x, size_t n, float shift);
  // y[i] = exp(x[i] - shift) * factor
  void (*exp_scaled)(const float *x, size_t n, float shift, float factor, float *y);
  float (*dot)(const float *a, const float *b, size_t n);
} ek_kernels;

// The kernels of a named instruction set: "portable", "avx2", "avx512vnni", "neon". NULL when this build or this
// processor (as the operating system lets it be used) does not have it.
const ek_kernels *ek_kernels_named(const char *name);
// The fastest of them here.
const ek_kernels *ek_kernels_best(void);

// Reads memory and does nothing with it but add it up, so that it is read: how fast that goes is what memory allows.
// The last bytes, fewer than 256, are left out.
uint64_t ek_read_memory(const uint8_t *at, size_t bytes);

// ---- Worker pool ------------------------------------------------------------------------------------------------

// Processors that this process may run on, at least 1: fewer than the machine's where an affinity mask says so.
int ek_usable_processors(void);

// A fixed set of threads for parallel loops. The caller claims chunks too and can do all of them alone; workers
// spin briefly, then sleep, so that other programs on the same cores cost little.
typedef struct ek_pool ek_pool;
ek_pool *ek_pool_create(int threads);    // the caller counts as one; NULL when a thread cannot be made
void ek_pool_destroy(ek_pool *pool);
// Calls body(context, i) once for each i in 0..<chunks, in any order and on any thread, and returns when all are done.
// One call at a time on a pool.
void ek_pool_run(ek_pool *pool, int chunks, void (*body)(void *, int), void *context);
// Counts from now on, from zero, or no longer. Neither this nor the next while a call runs.
void ek_pool_measure(ek_pool *pool, bool measures);
// Nanoseconds that callers waited for the others after their own share was done; *forks: calls that shared work out.
uint64_t ek_pool_waited(const ek_pool *pool, uint64_t *forks);

#endif
