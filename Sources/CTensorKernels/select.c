#include "CTensorKernels.h"

#include <string.h>

extern const ek_kernels ek_portable;

#if defined(__x86_64__)
extern const ek_kernels ek_avx2;

static bool has_avx2(void) {
  __builtin_cpu_init();
  // The compiler's run-time check also asks the operating system (XGETBV) for the wide registers.
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi2");
}
#endif

const ek_kernels *ek_kernels_named(const char *name) {
  if (strcmp(name, "portable") == 0) return &ek_portable;
#if defined(__x86_64__)
  if (strcmp(name, "avx2") == 0 && has_avx2()) return &ek_avx2;
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
