#include <cblas.h>

// Debian's OpenBLAS exports LAPACK under its Fortran names and ships no lapacke.h of its own, so the few
// routines in use are declared here.
