#include "CTensorKernels.h"

#include <string.h>

extern const ek_kernels ek_portable;

#if defined(__x86_64__)
extern const ek_kernels ek_avx2, ek_avx512;

// The compiler's run-time checks also ask the operating system (XGETBV) for the wide registers.
static bool has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(__aarch64__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define EK_HAS_NEON 1
extern const ek_kernels ek_neon;

#if defined(__linux__)
#include <sys/auxv.h>
static bool has_neon(void) {
  const unsigned long dot_product = 1ul << 20;    // HWCAP_ASIMDDP of the kernel's interface
  return (getauxval(AT_HWCAP) & dot_product) != 0;
}
#elif defined(__APPLE__)
#include <sys/sysctl.h>
static bool has_neon(void) {
  int32_t present = 0;
  size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, NULL, 0) == 0 && present != 0;
}
#else
static bool has_neon(void) { return false; }
#endif
#endif

const ek_kernels *ek_kernels_named(const char *name) {
  if (strcmp(name, "portable") == 0) return &ek_portable;
#if defined(__x86_64__)
  if (strcmp(name, "avx2") == 0 && has_avx2()) return &ek_avx2;
  if (strcmp(name, "avx512vnni") == 0 && has_avx512()) return &ek_avx512;
#endif
#if EK_HAS_NEON
  if (strcmp(name, "neon") == 0 && has_neon()) return &ek_neon;
#endif
  return NULL;
}

const ek_kernels *ek_kernels_best(void) {
  static const char *const preferred[] = {"avx512vnni", "avx2", "neon", "portable"};
  for (size_t i = 0; i < sizeof preferred / sizeof *preferred; i++) {
    const ek_kernels *kernels = ek_kernels_named(preferred[i]);
    if (kernels) return kernels;
  }
  return &ek_portable;
}
