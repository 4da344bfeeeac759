#pragma once

#include <cstdint>

namespace spectrace {

/// A block of a column-major float64 matrix that somebody else owns.
struct Block {
  double* data;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t stride;  // from one column to the next, >= rows

  double& operator()(std::int64_t row, std::int64_t column) const { return data[row + column * stride]; }
  double* column(std::int64_t index) const { return data + index * stride; }
  Block part(std::int64_t first_row, std::int64_t first_column, std::int64_t num_rows, std::int64_t num_columns) const;
  Block top(std::int64_t num_rows) const { return part(0, 0, num_rows, columns); }
  Block below(std::int64_t first_row) const { return part(first_row, 0, rows - first_row, columns); }
  Block left(std::int64_t num_columns) const { return part(0, 0, rows, num_columns); }
  Block right_of(std::int64_t first_column) const { return part(0, first_column, rows, columns - first_column); }
};

enum class Form { as_is, transposed };

/// result = scale * form_a(a) form_b(b) + keep * result, by the BLAS that libtorch brings, on the calling thread alone.
/// keep 0 overwrites result whatever it holds. @pre shapes fit; nothing overlaps.
void multiply(Form form_a, Block a, Form form_b, Block b, Block result, double scale, double keep);

/// Q R = a by LAPACK's dgeqrf: R in the upper triangle, the reflectors below. scales: [min(rows, columns)], their tau.
/// `workspace` holds panel_workspace(columns) numbers. @pre a is not empty.
void factorize_panel(Block a, double* scales, double* workspace);
std::int64_t panel_workspace(std::int64_t columns);

}  // namespace spectrace
