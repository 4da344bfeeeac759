#include "blas.hpp"

#include "spectrace/core/error.hpp"

// As the Fortran standard has them; libtorch's libraries bring them along.
extern "C" {
void dgemm_(const char* form_a, const char* form_b, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
void dgeqrf_(const int* m, const int* n, double* a, const int* lda, double* tau, double* work, const int* lwork,
             int* info);
void dpotrf_(const char* half, const int* n, double* a, const int* lda, int* info);
void dtrsm_(const char* side, const char* half, const char* form, const char* diagonal, const int* m, const int* n,
            const double* alpha, const double* a, const int* lda, double* b, const int* ldb);
}

namespace spectrace {
namespace {

constexpr std::int64_t kWorkspaceColumns = 64;

int checked_int(std::int64_t value) {
  SPECTRACE_ASSERT(value >= 0 && value <= 0x7fffffff);
  return static_cast<int>(value);
}

int stride_of(Block block) { return checked_int(block.stride > 0 ? block.stride : 1); }

void solve_by_triangle(char side, char form, Block lower, Block b) {
  const char half = 'L', diagonal = 'N';
  const int m = checked_int(b.rows), n = checked_int(b.columns), lda = stride_of(lower), ldb = stride_of(b);
  const double alpha = 1.0;
  dtrsm_(&side, &half, &form, &diagonal, &m, &n, &alpha, lower.data, &lda, b.data, &ldb);
}

}  // namespace

Block Block::part(std::int64_t first_row, std::int64_t first_column, std::int64_t num_rows,
                  std::int64_t num_columns) const {
  SPECTRACE_ASSERT(first_row >= 0 && first_column >= 0 && num_rows >= 0 && num_columns >= 0);
  SPECTRACE_ASSERT(first_row + num_rows <= rows && first_column + num_columns <= columns);
  return {data + first_row + first_column * stride, num_rows, num_columns, stride};
}

void multiply(Form form_a, Block a, Form form_b, Block b, Block result, double scale, double keep) {
  const std::int64_t inner = form_a == Form::as_is ? a.columns : a.rows;
  SPECTRACE_ASSERT((form_a == Form::as_is ? a.rows : a.columns) == result.rows);
  SPECTRACE_ASSERT((form_b == Form::as_is ? b.columns : b.rows) == result.columns);
  SPECTRACE_ASSERT((form_b == Form::as_is ? b.rows : b.columns) == inner);
  if (result.rows == 0 || result.columns == 0) return;
  const char letter_a = form_a == Form::as_is ? 'N' : 'T', letter_b = form_b == Form::as_is ? 'N' : 'T';
  const int m = checked_int(result.rows), n = checked_int(result.columns), k = checked_int(inner);
  const int lda = stride_of(a), ldb = stride_of(b), ldc = stride_of(result);
  dgemm_(&letter_a, &letter_b, &m, &n, &k, &scale, a.data, &lda, b.data, &ldb, &keep, result.data, &ldc);
}

std::int64_t panel_workspace(std::int64_t columns) { return columns * kWorkspaceColumns; }

void factorize_panel(Block a, double* scales, double* workspace) {
  const int m = checked_int(a.rows), n = checked_int(a.columns), lda = stride_of(a);
  const int size = checked_int(panel_workspace(a.columns));
  int info = 0;
  dgeqrf_(&m, &n, a.data, &lda, scales, workspace, &size, &info);
  SPECTRACE_ASSERT(info == 0);  // it names a bad argument, and knows no other failure
}

bool factorize_cholesky(Block a) {
  SPECTRACE_ASSERT(a.rows == a.columns);
  const char half = 'L';
  const int n = checked_int(a.rows), lda = stride_of(a);
  int info = 0;
  dpotrf_(&half, &n, a.data, &lda, &info);
  SPECTRACE_ASSERT(info >= 0);
  return info == 0;
}

void solve_lower(Block lower, Block b) {
  SPECTRACE_ASSERT(lower.rows == lower.columns && lower.rows == b.rows);
  solve_by_triangle('L', 'N', lower, b);
}

void solve_lower_from_right(Block lower, Block b) {
  SPECTRACE_ASSERT(lower.rows == lower.columns && lower.rows == b.columns);
  solve_by_triangle('R', 'T', lower, b);
}

}  // namespace spectrace
