#pragma once

#include <stdexcept>

namespace spectrace {

/// A matrix that no numerical route could handle: LAPACK did not converge, or the entries are not finite. The caller
/// knows which tensor it was and says so in the InputError that it makes of this.
class NumericalError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace spectrace
