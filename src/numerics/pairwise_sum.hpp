#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace spectrace {

/// Sum of term(i) for i in [begin, end), pairwise above 256 terms: the error grows with log n, not n (Higham 1993,
/// doi:10.1137/0914050). The order depends on the count alone. Eight running sums, which the compiler keeps in vectors.
template <typename Term>
double pairwise_sum(std::int64_t begin, std::int64_t end, const Term& term) {
  const std::int64_t count = end - begin;
  if (count > 256) {
    const std::int64_t middle = begin + count / 16 * 8;
    return pairwise_sum(begin, middle, term) + pairwise_sum(middle, end, term);
  }
  std::array<double, 8> sums{};
  std::int64_t i = begin;
  for (; i + 8 <= end; i += 8)
    for (std::int64_t lane = 0; lane < 8; ++lane) sums[static_cast<std::size_t>(lane)] += term(i + lane);
  for (std::size_t lane = 0; i < end; ++i, ++lane) sums[lane] += term(i);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

inline double pairwise_sum(std::span<const double> values) {
  return pairwise_sum(0, static_cast<std::int64_t>(values.size()),
                      [=](std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
}

}  // namespace spectrace
