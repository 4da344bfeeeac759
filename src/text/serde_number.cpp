#include "serde_number.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace spectrace::text {

double as_serde_json_reads(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  char buffer[32];
  const char* const end =
      std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::scientific).ptr;
  std::uint64_t significand = 0;  // at most 17 digits
  int num_decimals = 0;
  const char* at = buffer;
  for (bool behind_point = false; at != end && *at != 'e'; ++at) {
    if (*at == '.') {
      behind_point = true;
      continue;
    }
    significand = significand * 10 + static_cast<std::uint64_t>(*at - '0');
    num_decimals += behind_point;
  }
  const int exponent = std::atoi(std::string(at + 1, end).c_str()) - num_decimals;
  if (std::abs(exponent) > 308) return value;
  const double power = std::strtod(("1e" + std::to_string(std::abs(exponent))).c_str(), nullptr);
  const double magnitude =
      exponent >= 0 ? static_cast<double>(significand) * power : static_cast<double>(significand) / power;
  return std::copysign(magnitude, value);
}

}  // namespace spectrace::text
