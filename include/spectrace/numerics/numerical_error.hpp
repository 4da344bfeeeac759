#pragma once

#include <stdexcept>
#include <string>

namespace spectrace {

/// A matrix that no numerical route could handle: LAPACK did not converge, the entries are not finite, or what is asked
/// of them is no float64 number. The caller knows which tensor it was and says so in the error that it makes of this.
class NumericalError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Of a norm that no float64 number is, though every entry is one.
inline NumericalError beyond_range(const std::string& norm) {
  return NumericalError(norm + " is beyond the range of float64, though every entry is in it");
}

}  // namespace spectrace
