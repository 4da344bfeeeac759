#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

class TallQr;

/// All singular values of one matrix and how far each can be from the exact ones of the stored entries.
struct SingularValues {
  std::vector<double> values;  // [min(m, n)], descending, >= 0
  double error_bound = 0.0;    ///< absolute, for every value: |computed - exact| <= error_bound (docs/numerics.md)
};

/// Singular values in float64 of a matrix of any real type. The matrix may be any strided view (transposed too).
/// Memory: singular_values_bytes.
/// @throws NumericalError if an entry is not finite, the largest value is no float64 number, or no route converges.
/// @pre w is [m, n]. m or n may be 0: no values.
SingularValues singular_values(const Tensor& w);

/// Floating-point operations of singular_values for a matrix of this shape: 4 n^2 (m - n/3) for the bidiagonal form of
/// an (m, n) one, m >= n; of a tall one 2 n^2 (m - n/3) for its triangle first (Golub & Van Loan 2013, section 8.6).
double singular_values_flops(std::int64_t num_rows, std::int64_t num_columns);
/// Of those, what the triangle of a tall matrix takes: 2 n^2 (m - n/3).
double triangle_flops(std::int64_t num_rows, std::int64_t num_columns);
/// What is left to do of a tall matrix when the triangles of its parts are there: 2/3 n^3 to put each under the first,
/// 8/3 n^3 for the singular values. With the parts' triangle_flops as much as singular_values_flops of the whole.
double join_flops(std::int64_t num_parts, std::int64_t num_columns);

/// The most that singular_values has in memory at once for a matrix of this shape, beside the matrix itself, bytes.
/// A TallSingularValues that gets so many rows has as much.
std::int64_t singular_values_bytes(std::int64_t num_rows, std::int64_t num_columns);
/// The same of a part's triangle alone, the triangle included.
std::int64_t triangle_bytes(std::int64_t num_rows, std::int64_t num_columns);
/// The same where triangles of parts are put together, beside the one that is added.
std::int64_t join_bytes(std::int64_t num_columns);

/// What the bound of singular values needs to know of a triangle.
struct TriangleFacts {
  int exponent = 0;                 // the triangle holds R times 2^exponent
  double sum_of_squares = 0;        // of the rows' entries times 2^exponent
  std::int64_t num_rows = 0;        // that it came of
  std::int64_t num_reflectors = 0;  // one after the other
  std::int64_t max_height = 0;      // rows of the highest block
};

/// What is left of a part of a tall matrix' rows: the triangle R of their QR factorization, which has their singular
/// values.
struct TriangleOfRows {
  std::vector<double> entries;  // [n (n + 1) / 2]: R's columns, each down to its diagonal
  TriangleFacts facts;
};

/// Singular values of a tall matrix that comes in blocks of rows and is never held whole: an R factor is updated by QR
/// (TSQR; Demmel, Grigori, Hoemmen, Langou 2012, doi:10.1137/080731992), then its singular values are taken.
/// Backward stable, unlike a Gram matrix. Memory: O(num_columns^2 + block).
class TallSingularValues {
 public:
  explicit TallSingularValues(std::int64_t num_columns);
  ~TallSingularValues();
  /// @pre block is [any, num_columns]. How rows are cut into blocks has no effect on the bits of the result.
  /// @throws NumericalError if an entry is not finite.
  void add_rows(const Tensor& block);
  /// Call once. @throws NumericalError if no route converges, or the largest value is no float64 number.
  SingularValues finish();

  /// Instead of finish: what another one takes for these rows, by add_triangle. Call once.
  /// @pre as many rows as columns were added, or more.
  TriangleOfRows triangle();
  /// One that gets no rows, but the triangles of all parts. Their order decides the bits.
  static TallSingularValues of_triangles(std::int64_t num_columns);
  void add_triangle(std::span<const double> entries, const TriangleFacts& facts);

 private:
  friend SingularValues singular_values(const Tensor& w);
  TallSingularValues(std::int64_t num_columns, std::int64_t max_rows);

  void append(const Tensor& rows);
  double convert(const Tensor& rows);
  bool rescale(double largest);
  void scale_to(int exponent);
  void factorize();
  Tensor reduced();
  double relative_error(const Tensor& a) const;

  std::int64_t num_columns_;
  std::int64_t num_rows_ = 0;        // added so far
  std::int64_t num_reflectors_ = 0;  // one after the other, of all factorizations so far; 0: none was made
  std::int64_t max_height_ = 0;      // rows of the highest one
  std::int64_t num_filled_ = 0;      // rows of work_ in use; the first num_columns_ are R once one was made
  Tensor work_;                      // [capacity, num_columns] float64, column-major
  std::unique_ptr<TallQr> qr_;       // made where the rows do not fit into work_
  std::vector<double> row_sums_;     // of squares, of the rows that were converted last
  double sum_of_squares_ = 0;        // of the scaled entries
  int exponent_ = 0;                 // work_ holds the entries times 2^exponent_
  bool is_scaled_ = false;
};

}  // namespace spectrace
