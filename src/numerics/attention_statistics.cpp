#include "spectrace/numerics/attention_statistics.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kBlockEntries = 1 << 14;  // entries and their logarithms stay in the L2 cache

struct Sums {
  double entropy = 0;       // -sum a ln a over all entries
  double flat_entropy = 0;  // the same over the entries > 1e-10
  double flat_sum = 0;      // their sum
  std::int64_t flat_count = 0;
  std::int64_t num_sparse = 0;
};

/// The thresholds are rounded to the type of the entries, as comparing a float32 array with 0.01 does in numpy and
/// torch: 1/100 in float32 (a uniform row of 100 tokens) lies below the float64 number 0.01.
template <typename Real>
class Accumulator {
 public:
  explicit Accumulator(std::int64_t capacity)
      : entries_(static_cast<std::size_t>(capacity)), logs_(at::empty({capacity}, at::TensorOptions(at::kDouble))) {}

  /// @pre count <= capacity
  void add(const Real* a, std::int64_t count) {
    constexpr auto kSparse = static_cast<Real>(0.01);
    constexpr auto kFlat = static_cast<Real>(1e-10);
    double* const x = entries_.data();
    double* const ln = logs_.mutable_data_ptr<double>();
    // What is not zero moves up (the half above the diagonal is zero); zeros add nothing to any sum but num_sparse.
    std::int64_t size = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      x[size] = ln[size] = static_cast<double>(a[i]);
      size += a[i] != Real{0} ? 1 : 0;
      sums_.num_sparse += a[i] < kSparse ? 1 : 0;
    }
    logs_.narrow(0, 0, size).log_();
    const auto is_flat = [=](std::int64_t i) { return x[i] > static_cast<double>(kFlat); };
    sums_.entropy -= pairwise_sum(0, size, [=](std::int64_t i) { return x[i] * ln[i]; });
    sums_.flat_entropy -= pairwise_sum(0, size, [=](std::int64_t i) { return is_flat(i) ? x[i] * ln[i] : 0.0; });
    sums_.flat_sum += pairwise_sum(0, size, [=](std::int64_t i) { return is_flat(i) ? x[i] : 0.0; });
    for (std::int64_t i = 0; i < size; ++i) sums_.flat_count += is_flat(i) ? 1 : 0;
  }

  const Sums& sums() const { return sums_; }

 private:
  std::vector<double> entries_;
  Tensor logs_;  // [capacity] float64
  Sums sums_;
};

template <typename Real>
Sums accumulate(const Tensor& a) {
  const std::int64_t n = a.size(0), stride = a.stride(0);
  const Real* const data = a.const_data_ptr<Real>();
  // Rows of a dense matrix follow one another: all entries as one row.
  const bool is_dense = stride == n;
  const std::int64_t num_runs = is_dense ? 1 : n, run = is_dense ? n * n : n;
  Accumulator<Real> accumulator(std::min(kBlockEntries, run));
  for (std::int64_t row = 0; row < num_runs; ++row)
    for (std::int64_t begin = 0; begin < run; begin += kBlockEntries)
      accumulator.add(data + row * stride + begin, std::min(kBlockEntries, run - begin));
  return accumulator.sums();
}

constexpr std::int64_t kSumEntries = 1 << 14;  // of a task of the mean: 128 KiB
/// Heads are summed by 16, these sums by 16, and so on: the error does not grow with the heads.
constexpr std::int64_t kHeadsOfSum = 16;
/// So many entries at a time. Those that remain of a matrix are summed in four turns (sum_in_turns). Both are the order
/// of libtorch 2's sum over the first dimension, which the first results were made with.
constexpr std::int64_t kEntriesTogether = 16;
constexpr std::int64_t kTurns = 4;

/// Sums that are under way at once: one that is full goes into the next one, unless it has all heads that remain.
std::int64_t num_sums(std::int64_t num_heads) {
  std::int64_t num = 1;
  for (std::int64_t heads = kHeadsOfSum; heads < num_heads; heads *= kHeadsOfSum) ++num;
  return num;
}

/// sum += x, or sum = x where it begins.
template <typename Real>
void add_entries(const Real* x, std::int64_t count, bool begins, double* sum) {
  if (begins)
    for (std::int64_t i = 0; i < count; ++i) sum[i] = static_cast<double>(x[i]);
  else
    for (std::int64_t i = 0; i < count; ++i) sum[i] += static_cast<double>(x[i]);
}

/// Sum of x[0], x[stride], ...: by 16, these sums by 16, and so on, as of the entries that are summed together.
double sum_by_16(const double* x, std::int64_t stride, std::int64_t count) {
  std::array<double, 4> sums{};  // under way: of single numbers, of 16, 16^2 and 16^3
  for (std::int64_t i = 0; i < count; ++i) {
    sums[0] += x[i * stride];
    std::int64_t size = kHeadsOfSum;  // of a full sum
    for (std::size_t level = 1; level < sums.size() && (i + 1) % size == 0; ++level, size *= kHeadsOfSum)
      sums[level] += std::exchange(sums[level - 1], 0.0);
  }
  return std::accumulate(sums.begin() + 1, sums.end(), sums.front());
}

/// Heads 0, 4, 8, ...; heads 1, 5, 9, ...; and so on: each turn by sum_by_16, those that make no whole round are added
/// to the first one, then the other three.
double sum_in_turns(const double* x, std::int64_t stride, std::int64_t num_heads) {
  const std::int64_t num_rounds = num_heads / kTurns;
  double sum = sum_by_16(x, kTurns * stride, num_rounds);
  for (std::int64_t h = num_rounds * kTurns; h < num_heads; ++h) sum += x[h * stride];
  for (std::int64_t turn = 1; turn < kTurns; ++turn) sum += sum_by_16(x + turn * stride, kTurns * stride, num_rounds);
  return sum;
}

/// What the sums of one head's n^2 entries come to.
AttentionStatistics statistics_of(const Sums& sums, std::int64_t num_tokens) {
  // A NaN or infinite entry makes a ln a so; a comparison alone would take it for an ordinary number.
  if (!std::isfinite(sums.entropy)) return {kNaN, kNaN, kNaN};
  const auto n = static_cast<double>(num_tokens);
  AttentionStatistics result;
  result.row_entropy = sums.entropy / n;
  result.sparsity = static_cast<double>(sums.num_sparse) / (n * n);
  // With p = a / S: -sum p ln p = ln S - (sum a ln a) / S.
  if (sums.flat_count >= 2) {
    const double entropy = std::log(sums.flat_sum) + sums.flat_entropy / sums.flat_sum;
    result.flat_entropy = entropy / std::log(static_cast<double>(sums.flat_count));
  }
  return result;
}

constexpr std::int64_t kDeviceEntries = std::int64_t{1} << 24;  // of one pass on a device: 128 MiB of float64
constexpr std::int64_t kDeviceTensors = 5;                      // of that size, under way at once

std::int64_t heads_at_once(std::int64_t num_heads, std::int64_t num_tokens) {
  return std::clamp<std::int64_t>(kDeviceEntries / (num_tokens * num_tokens), 1, std::max<std::int64_t>(1, num_heads));
}

/// The sums of some heads, by tensor operations where `a` lies.
std::vector<Sums> device_sums(const Tensor& a) {
  const bool is_float = a.scalar_type() == at::kFloat;
  const auto rounded = [&](double x) { return is_float ? static_cast<double>(static_cast<float>(x)) : x; };
  const auto sum = [](const Tensor& x) { return x.sum(at::IntArrayRef({1, 2}), /*keepdim=*/false, at::kDouble); };
  const Tensor x = a.to(at::kDouble), x_ln_x = at::xlogy(x, x);
  const Tensor is_flat = a > rounded(1e-10), none = at::zeros({}, x.options());
  const Tensor all = at::stack({sum(x_ln_x), sum(at::where(is_flat, x_ln_x, none)), sum(at::where(is_flat, x, none)),
                                sum(is_flat), sum(a < rounded(0.01))});
  const Tensor here = Device::to_host(all);  // [5, heads]
  std::vector<Sums> sums;
  for (std::int64_t h = 0; h < a.size(0); ++h) {
    const auto of = [&](std::int64_t i) { return here.const_data_ptr<double>()[i * a.size(0) + h]; };
    sums.push_back({-of(0), -of(1), of(2), static_cast<std::int64_t>(of(3)), static_cast<std::int64_t>(of(4))});
  }
  return sums;
}

}  // namespace

AttentionStatistics attention_statistics(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 2 && a.size(0) == a.size(1) && a.size(0) > 0 && (a.size(1) == 1 || a.stride(1) == 1));
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  if (!Device::of(a).is_host()) return attention_statistics_of_heads(a.unsqueeze(0)).front();
  return statistics_of(a.scalar_type() == at::kFloat ? accumulate<float>(a) : accumulate<double>(a), a.size(0));
}

std::vector<AttentionStatistics> attention_statistics_of_heads(const Tensor& a) {
  std::vector<AttentionStatistics> statistics;
  if (Device::of(a).is_host()) {
    statistics.resize(static_cast<std::size_t>(a.size(0)));
    parallel_for(a.size(0), [&](std::int64_t h) {
      const c10::InferenceMode no_autograd;
      statistics[static_cast<std::size_t>(h)] = attention_statistics(a[h]);
    });
    return statistics;
  }
  const std::int64_t at_once = heads_at_once(a.size(0), a.size(1));
  for (std::int64_t first = 0; first < a.size(0); first += at_once)
    for (const Sums& sums : device_sums(a.narrow(0, first, std::min(at_once, a.size(0) - first))))
      statistics.push_back(statistics_of(sums, a.size(1)));
  return statistics;
}

std::int64_t attention_statistics_device_bytes(std::int64_t num_heads, std::int64_t num_tokens) {
  return heads_at_once(num_heads, num_tokens) * num_tokens * num_tokens * 8 * kDeviceTensors;
}

void MeanAttention::add(const Tensor& a) {
  SPECTRACE_ASSERT(a.dim() == 3 && a.size(1) == a.size(2) && a.size(1) > 0 && a.is_contiguous());
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  SPECTRACE_ASSERT(num_added_ + a.size(0) <= num_heads_);
  if (!Device::of(a).is_host()) {
    SPECTRACE_ASSERT(a.size(0) == num_heads_);
    sums_ = {a.mean(0, /*keepdim=*/false, at::kDouble)};
  } else {
    add_to_sums(a);
  }
  num_added_ += a.size(0);
}

void MeanAttention::add_to_sums(const Tensor& a) {
  const std::int64_t n = a.size(1), num_entries = n * n, num_last = num_entries % kEntriesTogether;
  if (num_added_ == 0) {
    sums_ = {at::empty({n, n}, a.options().dtype(at::kDouble))};
    while (std::ssize(sums_) < num_sums(num_heads_)) sums_.push_back(at::zeros_like(sums_.front()));
    last_entries_ = at::empty({num_heads_, num_last}, a.options().dtype(at::kDouble));
  }
  last_entries_.narrow(0, num_added_, a.size(0)).copy_(a.flatten(1).narrow(1, num_entries - num_last, num_last));
  std::vector<double*> sums;
  for (const Tensor& sum : sums_) sums.push_back(sum.mutable_data_ptr<double>());
  parallel_for((num_entries + kSumEntries - 1) / kSumEntries, [&](std::int64_t task) {
    const std::int64_t first = task * kSumEntries, count = std::min(kSumEntries, num_entries - first);
    for (std::int64_t h = 0; h < a.size(0); ++h) {
      const std::int64_t before = num_added_ + h, place = h * num_entries + first;
      const bool begins = before % kHeadsOfSum == 0;
      if (a.scalar_type() == at::kFloat)
        add_entries(a.const_data_ptr<float>() + place, count, begins, sums[0] + first);
      else
        add_entries(a.const_data_ptr<double>() + place, count, begins, sums[0] + first);
      std::int64_t heads = kHeadsOfSum;  // of a full sum
      for (std::size_t level = 1; level < sums.size(); ++level, heads *= kHeadsOfSum) {
        if ((before + 1) % heads != 0 || before + 1 == num_heads_) break;
        add_entries(sums[level - 1] + first, count, false, sums[level] + first);
        std::fill_n(sums[level - 1] + first, count, 0.0);
      }
    }
  });
}

Tensor MeanAttention::finish() {
  SPECTRACE_ASSERT(num_added_ == num_heads_ && num_heads_ > 0);
  const Tensor mean = sums_.front();
  if (!Device::of(mean).is_host()) return mean;
  const std::int64_t num_entries = mean.numel();
  std::vector<double*> sums;
  for (const Tensor& sum : sums_) sums.push_back(sum.mutable_data_ptr<double>());
  parallel_for((num_entries + kSumEntries - 1) / kSumEntries, [&](std::int64_t task) {
    const std::int64_t first = task * kSumEntries, end = std::min(first + kSumEntries, num_entries);
    for (std::size_t level = 1; level < sums.size(); ++level)
      for (std::int64_t i = first; i < end; ++i) sums[0][i] += sums[level][i];
    for (std::int64_t i = first; i < end; ++i) sums[0][i] /= static_cast<double>(num_heads_);
  });
  const std::int64_t num_last = last_entries_.size(1);
  const double* const last = last_entries_.const_data_ptr<double>();
  for (std::int64_t i = 0; i < num_last; ++i)
    sums[0][num_entries - num_last + i] =
        sum_in_turns(last + i, num_last, num_heads_) / static_cast<double>(num_heads_);
  sums_.clear();
  return mean;
}

std::int64_t mean_attention_bytes(std::int64_t num_heads, std::int64_t num_tokens) {
  return num_sums(num_heads) * num_tokens * num_tokens * 8;
}

}  // namespace spectrace
