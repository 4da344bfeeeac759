#include "spectrace/numerics/attention_patterns.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <unordered_map>

#include "pairwise_sum.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/device.hpp"

namespace spectrace {
namespace {

/// That are brought over at a time, if all threads have a head of them.
constexpr std::int64_t kBroughtEntries = 1 << 22;

double mean_over(double sum, std::int64_t count) { return count == 0 ? kNaN : sum / static_cast<double>(count); }

/// @pre rows are contiguous.
template <typename Real>
AttentionPattern pattern_of(const Real* a, std::int64_t row_stride, const EarlierTokens& tokens) {
  AttentionPattern sums;
  const std::int64_t n = tokens.num_tokens();
  std::int64_t num_duplicates = 0, num_inductions = 0;
  for (std::int64_t i = 1; i < n; ++i) {
    const Real* const row = a + i * row_stride;
    const auto at = [row](std::int64_t j) { return static_cast<double>(row[j]); };
    sums.first_token_mass += at(0);
    sums.self_mass += at(i);
    sums.previous_token_mass += at(i - 1);
    sums.mean_distance += pairwise_sum(0, i, [=](std::int64_t j) { return at(j) * static_cast<double>(i - j); });
    double same = 0, followed = 0;
    std::int64_t j = tokens.last_before(i);
    if (j >= 0) ++num_duplicates;
    if (j == i - 1) {  // what followed it is row i itself
      same += at(j);
      j = tokens.last_before(j);
    }
    if (j >= 0) ++num_inductions;
    for (; j >= 0; j = tokens.last_before(j)) {
      same += at(j);
      followed += at(j + 1);
    }
    sums.duplicate_token_score += same;
    sums.induction_score += followed;
  }
  return {mean_over(sums.first_token_mass, n - 1),
          mean_over(sums.self_mass, n - 1),
          mean_over(sums.previous_token_mass, n - 1),
          mean_over(sums.mean_distance, n - 1),
          mean_over(sums.duplicate_token_score, num_duplicates),
          mean_over(sums.induction_score, num_inductions)};
}

AttentionPattern pattern_of(const Tensor& a, const EarlierTokens& tokens) {
  if (a.scalar_type() == at::kFloat) return pattern_of(a.const_data_ptr<float>(), a.stride(0), tokens);
  return pattern_of(a.const_data_ptr<double>(), a.stride(0), tokens);
}

std::int64_t heads_brought(std::int64_t num_heads, std::int64_t num_tokens) {
  const std::int64_t wanted = kBroughtEntries / std::max<std::int64_t>(1, num_tokens * num_tokens);
  return std::min(std::max<std::int64_t>(wanted, num_threads()), num_heads);
}

}  // namespace

EarlierTokens::EarlierTokens(std::span<const std::int64_t> token_ids) {
  std::unordered_map<std::int64_t, std::int64_t> last_place;
  last_.reserve(token_ids.size());
  for (const std::int64_t token : token_ids) {
    const auto here = static_cast<std::int64_t>(last_.size());
    const auto [place, is_new] = last_place.try_emplace(token, here);
    last_.push_back(is_new ? -1 : place->second);
    place->second = here;
  }
}

std::vector<AttentionPattern> attention_patterns(const Tensor& a, const EarlierTokens& tokens) {
  SPECTRACE_ASSERT(a.dim() == 3 && a.size(1) == a.size(2) && a.size(1) == tokens.num_tokens() && a.size(1) > 0);
  SPECTRACE_ASSERT(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble);
  const std::int64_t num_heads = a.size(0);
  std::vector<AttentionPattern> patterns(static_cast<std::size_t>(num_heads));
  const bool is_here = Device::of(a).is_host();
  const std::int64_t at_once = is_here ? num_heads : heads_brought(num_heads, a.size(1));
  for (std::int64_t first = 0; first < num_heads; first += at_once) {
    const Tensor some = a.narrow(0, first, std::min(at_once, num_heads - first));
    const Tensor here = (is_here ? some : Device::to_host(some)).contiguous();
    parallel_for(here.size(0), [&](std::int64_t head) {
      const c10::InferenceMode no_autograd;
      patterns[static_cast<std::size_t>(first + head)] = pattern_of(here.select(0, head), tokens);
    });
  }
  return patterns;
}

std::int64_t attention_patterns_bytes(std::int64_t num_heads, std::int64_t num_tokens) {
  return heads_brought(num_heads, num_tokens) * num_tokens * num_tokens * 8;
}

std::vector<ScoreSummary> score_summaries(const Tensor& row_max, const Tensor& row_log_sum_exp) {
  const c10::InferenceMode no_autograd;
  SPECTRACE_ASSERT(row_max.dim() == 2 && row_max.sizes() == row_log_sum_exp.sizes() && row_max.size(1) > 0);
  const Tensor largest = Device::to_host(row_max).to(at::kDouble).contiguous();
  const Tensor logs = Device::to_host(row_log_sum_exp).to(at::kDouble).contiguous();
  const std::int64_t n = largest.size(1);
  std::vector<ScoreSummary> summaries;
  for (std::int64_t head = 0; head < largest.size(0); ++head) {
    const double* const of_rows = largest.const_data_ptr<double>() + head * n;
    const double* const log_of_rows = logs.const_data_ptr<double>() + head * n;
    summaries.push_back({*std::max_element(of_rows, of_rows + n),
                         mean_over(pairwise_sum({log_of_rows, static_cast<std::size_t>(n)}), n)});
  }
  return summaries;
}

}  // namespace spectrace
