#!/bin/sh
# Compares the AVX-512 kernels with the portable ones on a processor that has only AVX2: the intrinsics of
# kernels_avx512.c are replaced by SIMDe's functions of the same names, and the target attribute is taken out. This
# checks the arithmetic and the indexing. It does not check the compiler's choice of instructions, run-time detection
# (only that it compiles) or speed: for those a processor with AVX-512 VNNI is needed.
#
# Needs: clang, and Debian's libsimde-dev.
set -eu
cd "$(dirname "$0")/../.."
clang=${CLANG:-clang}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
# What SIMDe 0.7 lacks, or does not fuse, one half or one lane at a time.
cat > "$directory/emulated.h" <<'C'
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <math.h>
#include <string.h>
#define EMULATED static inline __attribute__((always_inline))
EMULATED __m512 halves512(__m256 low, __m256 high) {
  __m512 v;
  memcpy(&v, &low, 32), memcpy((char *)&v + 32, &high, 32);
  return v;
}
EMULATED __m256 half512(__m512 v, int high) {
  __m256 h;
  memcpy(&h, (char *)&v + 32 * high, 32);
  return h;
}
#define _mm512_cvtph_ps(v) emulated_cvtph(v)
EMULATED __m512 emulated_cvtph(__m256i v) {
  return halves512(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) emulated_fmadd(a, b, c)
EMULATED __m512 emulated_fmadd(__m512 a, __m512 b, __m512 c) {
  return halves512(_mm256_fmadd_ps(half512(a, 0), half512(b, 0), half512(c, 0)),
                   _mm256_fmadd_ps(half512(a, 1), half512(b, 1), half512(c, 1)));
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(v) emulated_to_float(v)
EMULATED __m512 emulated_to_float(__m512i v) {
  int32_t from[16];
  float to[16];
  memcpy(from, &v, 64);
  for (int i = 0; i < 16; i++) to[i] = (float)from[i];
  return _mm512_loadu_ps(to);
}
#define _mm512_cvtepi8_epi32(v) emulated_widen(v)
EMULATED __m512i emulated_widen(__m128i v) {
  int8_t from[16];
  int32_t to[16];
  memcpy(from, &v, 16);
  for (int i = 0; i < 16; i++) to[i] = from[i];
  return _mm512_loadu_si512(to);
}
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(v, n) emulated_shift(v, n)
EMULATED __m512i emulated_shift(__m512i v, int n) {
  int32_t lanes[16];
  memcpy(lanes, &v, 64);
  for (int i = 0; i < 16; i++) lanes[i] >>= n;
  return _mm512_loadu_si512(lanes);
}
C
sed -e 's|^#include <immintrin.h>|#include "emulated.h"|' -e '/^#pragma clang attribute push/,/apply_to/d' \
  -e '/^#pragma clang attribute pop/d' Sources/CTensorKernels/kernels_avx512.c > "$directory/kernels_avx512.c"
! grep -q 'target("avx512' "$directory/kernels_avx512.c"
flags="-O2 -std=gnu11 -I $directory -I Sources/CTensorKernels/include -I Sources/CTensorKernels"
# Half precision and fused multiply-adds of 256 bits are the processor's own.
"$clang" $flags -w -mavx2 -mfma -mf16c -c "$directory/kernels_avx512.c" -o "$directory/avx512.o"
"$clang" -O2 -std=gnu11 -Wall -Wextra -Werror -DSUBJECT=ek_avx512 -I Sources/CTensorKernels/include \
  Sources/CTensorKernels/kernels_portable.c Sources/CTensorKernels/kernels_avx2.c Sources/CTensorKernels/select.c \
  Sources/CTensorKernels/pack.c Tests/Scripts/compare_kernels.c "$directory/avx512.o" -o "$directory/compare" -lm
"$directory/compare"
