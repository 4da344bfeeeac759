#include "blas.hpp"

#include "spectrace/core/error.hpp"

// As the Fortran standard has them; libtorch's libraries bring them along.
extern "C" {
void dgemm_(const char* form_a, const char* form_b, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
void dgeqrf_(const int* m, const int* n, double* a, const int* lda, double* tau, double* work, const int* lwork,
             int* info);
}

namespace spectrace {
namespace {

constexpr std::int64_t kWorkspaceColumns = 64;

int checked_int(std::int64_t value) {
  SPECTRACE_ASSERT(value >= 0 && value <= 0x7fffffff);
  return static_cast<int>(value);
}

int stride_of(Block block) { return checked_int(block.stride > 0 ? block.stride : 1); }

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

}  // namespace spectrace
