#pragma once

#include <cstdint>
#include <vector>

namespace spectrace {

/// A square matrix that is zero but for a band, with room for what chasing bulges fills in: entries (i, j) with
/// -2 b <= i - j <= b for a bandwidth b. Every dense block within that is column-major with the stride 3 b. Zeros
/// follow the matrix, so that blocks at its end are as large as all others.
class BandMatrix {
 public:
  BandMatrix(std::int64_t size, std::int64_t bandwidth)
      : size_(size),
        bandwidth_(bandwidth),
        entries_(static_cast<std::size_t>((size + 3 * bandwidth) * (3 * bandwidth + 1)), 0.0) {}

  std::int64_t size() const { return size_; }
  std::int64_t bandwidth() const { return bandwidth_; }
  /// Where entry (0, 0) lies; (i, j) is i + 3 b j further.
  double* origin() { return entries_.data() + 2 * bandwidth_; }
  double& operator()(std::int64_t row, std::int64_t column) { return origin()[row + 3 * bandwidth_ * column]; }

 private:
  std::int64_t size_, bandwidth_;
  std::vector<double> entries_;
};

}  // namespace spectrace
