#include <cblas.h>

// Debian's OpenBLAS exports LAPACK under its Fortran names and ships no lapacke.h of its own, so the few
// routines in use are declared here.

// Cholesky factor of a symmetric positive definite matrix, and the solution of a system by it. Column-major.
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a, const int *lda, double *b,
             const int *ldb, int *info);
