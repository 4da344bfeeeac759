#include "spectrace/numerics/next_token.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "spectrace/core/error.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

/// Numbers of rows, on the host.
class Rows {
 public:
  explicit Rows(const Tensor& of_rows) : numbers_(Device::to_host(of_rows).to(at::kDouble).contiguous()) {}
  double operator[](std::size_t row) const { return numbers_.const_data_ptr<double>()[row]; }

 private:
  Tensor numbers_;
};

/// Scores less their row's largest, exponentials of these, and what is made of both.
struct Exponentials {
  Tensor largest, place, shifted, weights;

  explicit Exponentials(const Tensor& scores) {
    std::tie(largest, place) = scores.max(1, /*keepdim=*/true);
    shifted = scores.sub(largest).to(at::kDouble);
    weights = shifted.exp();
  }
};

std::vector<ScoreSums> sums_of(const Exponentials& of, std::int64_t first) {
  const Rows largest(of.largest.squeeze(1)), place(of.place.squeeze(1)), weight(of.weights.sum(1)),
      moment(of.shifted.mul(of.weights).sum(1));
  std::vector<ScoreSums> sums(static_cast<std::size_t>(of.largest.size(0)));
  for (std::size_t row = 0; row < sums.size(); ++row)
    sums[row] = {largest[row], weight[row], moment[row], first + static_cast<std::int64_t>(place[row])};
  return sums;
}

}  // namespace

void ScoreSums::add(const ScoreSums& next) {
  if (std::isnan(largest)) return;
  const bool is_ahead = next.largest > largest || std::isnan(next.largest) || most_probable < 0;
  const ScoreSums& high = is_ahead ? next : *this;
  const ScoreSums& low = is_ahead ? *this : next;
  ScoreSums sum = high;
  if (low.weight > 0) {
    const double shift = low.largest - high.largest, factor = std::exp(shift);
    sum.weight += factor * low.weight;
    sum.moment += factor * (low.moment + shift * low.weight);
  }
  *this = sum;
}

double ScoreSums::log_sum_exp() const { return largest + std::log(weight); }
double ScoreSums::entropy() const { return std::log(weight) - moment / weight; }

std::vector<ScoreSums> score_sums(const Tensor& scores, std::int64_t first) {
  SPECTRACE_ASSERT(scores.dim() == 2 && scores.size(1) > 0);
  return sums_of(Exponentials(scores), first);
}

void LensSums::add(const LensSums& next) {
  if (sums.empty()) {
    *this = next;
    return;
  }
  const double before = sums.back().largest, after = next.sums.back().largest, both = std::max(before, after);
  for (std::size_t b = 0; b < sums.size(); ++b) {
    sums[b].add(next.sums[b]);
    differences[b] = differences[b] * std::exp(before - both) + next.differences[b] * std::exp(after - both);
    num_more_likely[b] += next.num_more_likely[b];
  }
}

double LensSums::divergence(std::size_t boundary) const {
  const ScoreSums& last = sums.back();
  return differences[boundary] / last.weight - (last.log_sum_exp() - sums[boundary].log_sum_exp());
}

LensSums lens_sums(const Tensor& scores, std::int64_t first, std::int64_t reference, const Tensor& of_reference) {
  SPECTRACE_ASSERT(scores.dim() == 2 && scores.size(1) > 0);
  const Exponentials exponentials(scores);
  LensSums found{sums_of(exponentials, first), {}, {}};
  const std::int64_t last = scores.size(0) - 1, place = reference - first;
  const Tensor wide = scores.to(at::kDouble);
  const Rows differences(wide.select(0, last).sub(wide).mul(exponentials.weights.select(0, last)).sum(1));
  Tensor is_more_likely = wide.gt(of_reference.unsqueeze(1));
  if (place >= 0 && place < scores.size(1)) is_more_likely.select(1, place).fill_(false);
  const Rows num_more_likely(is_more_likely.sum(1));
  for (std::size_t b = 0; b < found.sums.size(); ++b) {
    found.differences.push_back(differences[b]);
    found.num_more_likely.push_back(num_more_likely[b]);
  }
  return found;
}

}  // namespace spectrace
