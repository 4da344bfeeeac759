#pragma once

#include <vector>

#include "blas.hpp"

namespace spectrace {

/// QR of panels a few dozen columns wide, with the reflectors in compact WY form: Q = I - V T V^T (Schreiber and Van
/// Loan, SIAM J. Sci. Stat. Comput. 10, 1989), so that Q is applied by matrix products.
class PanelFactorization {
 public:
  explicit PanelFactorization(std::int64_t max_columns);

  /// Overwrites a with R: its upper triangle, zeros below. v gets the reflectors with their ones and zeros, t the
  /// triangle T. @pre a is [rows, columns], columns <= max_columns; v [rows, k], t [k, k], k = min(rows, columns) > 0.
  void factorize(Block a, Block v, Block t);

  /// The same for who needs R alone: in the upper triangle of a, which holds no zeros below it.
  void triangle_of(Block a) { factorize_panel(a, scales_.data(), workspace_.data()); }

 private:
  std::vector<double> scales_, workspace_, products_;
};

}  // namespace spectrace
