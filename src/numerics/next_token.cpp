#include "spectrace/numerics/next_token.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "pairwise_sum.hpp"
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

/// Scores less their row's largest, and exponentials of these, in the scores' own type; sums of them are float64.
struct Exponentials {
  Tensor largest, shifted, weights;

  explicit Exponentials(const Tensor& scores)
      : largest(scores.amax(1, /*keepdim=*/true)), shifted(scores.sub(largest)), weights(shifted.exp()) {}
};

/// Calls use(entries) with the scores' own type.
template <typename Use>
auto with_type_of(const Tensor& scores, const Use& use) {
  SPECTRACE_ASSERT(scores.scalar_type() == at::kFloat || scores.scalar_type() == at::kDouble);
  return scores.scalar_type() == at::kFloat ? use(float()) : use(double());
}

template <typename Real>
const Real* row_of(const Tensor& matrix, std::size_t row) {
  return matrix.const_data_ptr<Real>() + static_cast<std::int64_t>(row) * matrix.stride(0);
}

/// sum a b over a row.
template <typename Real>
double product_sum(const Real* a, const Real* b, std::int64_t count) {
  return pairwise_sum(0, count, [=](std::int64_t i) { return static_cast<double>(a[i]) * static_cast<double>(b[i]); });
}

std::vector<ScoreSums> sums_on_host(const Exponentials& of, std::int64_t first) {
  const Rows largest(of.largest.squeeze(1));
  const std::int64_t count = of.shifted.size(1);
  std::vector<ScoreSums> sums(static_cast<std::size_t>(of.largest.size(0)));
  with_type_of(of.shifted, [&]<typename Real>(Real) {
    for (std::size_t row = 0; row < sums.size(); ++row) {
      const Real *const shifted = row_of<Real>(of.shifted, row), *const weights = row_of<Real>(of.weights, row);
      // None is 0 where a score is no number: then the place says nothing, but is one.
      const std::int64_t zero = std::find(shifted, shifted + count, Real(0)) - shifted, place = zero % count;
      const double weight = pairwise_sum(0, count, [=](std::int64_t i) { return static_cast<double>(weights[i]); });
      sums[row] = {largest[row], weight, product_sum(shifted, weights, count), first + place};
    }
  });
  return sums;
}

std::vector<ScoreSums> sums_of(const Exponentials& of, std::int64_t first) {
  if (Device::of(of.shifted).is_host()) return sums_on_host(of, first);
  const Tensor weights = of.weights.to(at::kDouble);
  const Rows largest(of.largest.squeeze(1)), place(of.shifted.argmax(1)), weight(weights.sum(1)),
      moment(of.shifted.to(at::kDouble).mul(weights).sum(1));
  std::vector<ScoreSums> sums(static_cast<std::size_t>(of.largest.size(0)));
  for (std::size_t row = 0; row < sums.size(); ++row)
    sums[row] = {largest[row], weight[row], moment[row], first + static_cast<std::int64_t>(place[row])};
  return sums;
}

/// Beside the last row: what LensSums has beyond sums. `place`: the column of the reference token, if it is here.
void compare_on_host(const Tensor& scores, const Exponentials& of, std::optional<std::int64_t> place,
                     const Tensor& of_reference, LensSums& found) {
  const Rows reference(of_reference);
  const auto num_rows = static_cast<std::size_t>(scores.size(0));
  const std::int64_t count = scores.size(1);
  with_type_of(scores, [&]<typename Real>(Real) {
    const Real* const last = row_of<Real>(scores, num_rows - 1);
    const Real* const weights = row_of<Real>(of.weights, num_rows - 1);
    for (std::size_t row = 0; row < num_rows; ++row) {
      const Real* const z = row_of<Real>(scores, row);
      found.differences.push_back(pairwise_sum(0, count, [=](std::int64_t i) {
        return (static_cast<double>(last[i]) - static_cast<double>(z[i])) * static_cast<double>(weights[i]);
      }));
      const auto is_more_likely = [z, threshold = reference[row]](std::int64_t i) {
        return static_cast<double>(z[i]) > threshold ? 1 : 0;
      };
      std::int64_t num_more = place ? -is_more_likely(*place) : 0;
      for (std::int64_t i = 0; i < count; ++i) num_more += is_more_likely(i);
      found.num_more_likely.push_back(static_cast<double>(num_more));
    }
  });
}

void compare_on_device(const Tensor& scores, const Exponentials& of, std::optional<std::int64_t> place,
                       const Tensor& of_reference, LensSums& found) {
  const std::int64_t last = scores.size(0) - 1;
  const Tensor wide = scores.to(at::kDouble), weights = of.weights.select(0, last).to(at::kDouble);
  const Rows differences(wide.select(0, last).sub(wide).mul(weights).sum(1));
  const Tensor is_more_likely = wide.gt(of_reference.unsqueeze(1));
  if (place) is_more_likely.select(1, *place).fill_(false);
  const Rows num_more_likely(is_more_likely.sum(1));
  for (std::size_t row = 0; row < found.sums.size(); ++row) {
    found.differences.push_back(differences[row]);
    found.num_more_likely.push_back(num_more_likely[row]);
  }
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
  SPECTRACE_ASSERT(scores.dim() == 2 && scores.size(1) > 0 && scores.stride(1) == 1);
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
  SPECTRACE_ASSERT(scores.dim() == 2 && scores.size(1) > 0 && scores.stride(1) == 1);
  const Exponentials exponentials(scores);
  LensSums found{sums_of(exponentials, first), {}, {}};
  std::optional<std::int64_t> place;
  if (reference >= first && reference < first + scores.size(1)) place = reference - first;
  const auto compare = Device::of(scores).is_host() ? compare_on_host : compare_on_device;
  compare(scores, exponentials, place, of_reference, found);
  return found;
}

}  // namespace spectrace
