#pragma once

#include <memory>

#include "spectrace/measure/record.hpp"
#include "spectrace/numerics/singular_values.hpp"

namespace spectrace {

/// The singular values of a tall matrix while its rows come, and of a part of them what another one takes.
class RowsSpectrum {
 public:
  virtual ~RowsSpectrum() = default;
  /// @pre rows is [any, num_columns]. How rows are cut into blocks has no effect on the bits.
  /// @throws NumericalError if an entry is not finite.
  virtual void add_rows(const Tensor& rows) = 0;
  /// Call once. @throws NumericalError.
  virtual SingularValues finish() = 0;
  /// Instead of finish: what add_part takes, as arrays of a record. Call once.
  virtual void leave(Record& record) = 0;
  /// Of rows that another one got. The order of parts decides the last bits. @pre fits(part) of the same way.
  virtual void add_part(const Record& part, std::int64_t num_rows) = 0;
};

/// One of the ways to them, for a matrix of this shape (docs/numerics.md, "Singular values" and "Tall matrices of
/// 16-bit numbers").
class RowsWay {
 public:
  RowsWay(std::int64_t rows, std::int64_t columns) : rows_(rows), columns_(columns) {}
  virtual ~RowsWay() = default;

  /// Whether rows have to come as the numbers of 16 bits that they are.
  virtual bool takes_16_bits() const = 0;
  virtual std::unique_ptr<RowsSpectrum> start() const = 0;
  /// One that gets no rows, but parts.
  virtual std::unique_ptr<RowsSpectrum> start_join() const = 0;
  /// Whether a record has what is left of a part.
  virtual bool fits(const Record& part) const = 0;

  /// Floating-point operations, of all rows or of a part, and of putting so many parts together.
  virtual double flops() const = 0;
  virtual double part_flops(std::int64_t num_rows) const = 0;
  virtual double join_flops(std::int64_t num_parts) const = 0;
  /// Peak bytes of the same; where parts are put together, beside the record of one.
  virtual std::int64_t bytes() const = 0;
  virtual std::int64_t part_bytes(std::int64_t num_rows) const = 0;
  virtual std::int64_t join_bytes() const = 0;
  /// Of what is left of a part.
  virtual std::int64_t record_bytes() const = 0;

 protected:
  std::int64_t rows_, columns_;
};

/// By an exact Gram matrix where the numbers are of 16 bits and the matrix is tall, else by QR.
std::unique_ptr<RowsWay> way_to_rows_spectrum(std::int64_t num_rows, std::int64_t num_columns, bool is_of_16_bits);

}  // namespace spectrace
