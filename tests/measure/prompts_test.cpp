#include "spectrace/measure/prompts.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/attention_statistics.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kHeads = 19, kTokens = 37, kHidden = 24;

/// Attention whose heads come some at a time, no two of them alike: one that took another's place would show.
class PromptHeads : public ::testing::Test {
 protected:
  PromptHeads() {
    model_.num_layers = 1;
    model_.num_heads = model_.num_kv_heads = kHeads;
    batch_ = {std::vector<std::int64_t>(2 * kTokens, 1), {0, kTokens, 2 * kTokens}};
    for (std::int64_t h = 0; h < kHeads; ++h) {
      ValueSpectrum value;
      value.singular_values = {4.0 + static_cast<double>(h), 2.0, 0.5};
      for (const double s : value.singular_values) value.frobenius_norm = std::hypot(value.frobenius_norm, s);
      value.levels = std::make_shared<ValueLevels>(value.singular_values, kHidden);
      values_.push_back(value);
    }
  }
  void TearDown() override { set_compute_threads(1); }

  static Tensor made_attention() {
    const Tensor places = at::arange(kHeads * kTokens * kTokens, at::kDouble).view({kHeads, kTokens, kTokens});
    const Tensor sharpness = at::arange(1, kHeads + 1, at::kDouble).view({kHeads, 1, 1});
    const Tensor hidden = at::ones({kTokens, kTokens}, at::kBool).triu(1);
    const Tensor scores = (places * 0.7).sin() * sharpness;
    return at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1).to(at::kFloat);
  }

  PromptMeasurement measurement() const { return {model_, batch_, {true, true, false, true, {0.1, 1.0}}}; }

  /// What is found of prompt 1 whose heads come `together` at a time.
  Record seen(const Tensor& a, std::int64_t together) const {
    PromptMeasurement measured = measurement();
    for (std::int64_t h = 0; h < kHeads; h += together)
      measured.see_attention(0, 1, h, a.narrow(0, h, std::min(together, kHeads - h)), values_);
    return measured.so_far();
  }

  ModelDescription model_;
  TokenBatch batch_;
  std::vector<ValueSpectrum> values_;
};

void expect_same_values(const Record& found, const Record& expected) {
  ASSERT_EQ(found.arrays.size(), expected.arrays.size());
  for (const auto& [name, array] : expected.arrays) {
    const auto& values = found.arrays.at(name).values;
    ASSERT_EQ(values.size(), array.values.size()) << name;
    EXPECT_EQ(std::memcmp(values.data(), array.values.data(), values.size() * sizeof(double)), 0) << name;
  }
}

TEST_F(PromptHeads, some_at_a_time_have_the_bits_of_all_at_once_with_any_number_of_threads) {
  const Tensor a = made_attention();
  const Record whole = seen(a, kHeads);
  for (const int threads : {1, 2, 3}) {
    set_compute_threads(threads);
    for (const std::int64_t together : {std::int64_t{1}, std::int64_t{4}, kHeads}) {
      SCOPED_TRACE(std::to_string(threads) + " threads, heads together: " + std::to_string(together));
      expect_same_values(seen(a, together), whole);
    }
  }
}

TEST_F(PromptHeads, each_has_its_own_place) {
  const Tensor a = made_attention();
  const Record found = seen(a, 3);
  const auto of_prompt_1 = [&](const char* name, std::size_t i, std::size_t count) {
    return found.arrays.at(name).values.at(count + i);
  };
  double multihead = 0, off_diagonal_sum = 0;
  for (std::size_t h = 0; h < kHeads; ++h) {
    const Tensor head = a[static_cast<std::int64_t>(h)].to(at::kDouble);
    const double entropy = -at::xlogy(head, head).sum().item<double>() / kTokens;
    EXPECT_NEAR(of_prompt_1("row_entropy", h, kHeads), entropy, 1e-13 * entropy) << h;
    EXPECT_EQ(of_prompt_1("sparsity", h, kHeads),
              (a[static_cast<std::int64_t>(h)] < 0.01f).to(at::kDouble).mean().item<double>());
    const double off_diagonal = (head.sum() - head.trace()).item<double>();
    const double trace = off_diagonal * values_[h].frobenius_norm * values_[h].frobenius_norm;
    EXPECT_NEAR(of_prompt_1("trace", h, kHeads), trace, 1e-13 * trace) << h;
    const double sigma = values_[h].singular_values[0], mu = graph_spectra(head.unsqueeze(0))[0].eigenvalues.back();
    EXPECT_NEAR(of_prompt_1("lambda_max", h, kHeads), mu * sigma * sigma, 1e-12 * mu * sigma * sigma) << h;
    multihead += trace;
    off_diagonal_sum += off_diagonal;
  }
  EXPECT_NEAR(of_prompt_1("trace_multihead", 0, 1), multihead, 1e-13 * multihead);
  const double of_mean = off_diagonal_sum / kHeads * std::pow(values_[0].frobenius_norm, 2);
  EXPECT_NEAR(of_prompt_1("trace_mean_attention", 0, 1), of_mean, 1e-13 * of_mean);
  const Tensor mean = a.to(at::kDouble).mean(0);
  EXPECT_EQ(of_prompt_1("contraction_ratio", 0, 1), contraction_ratio(mean));
  EXPECT_EQ(of_prompt_1("row_entropy_mean_attention", 0, 1), attention_statistics(mean).row_entropy);
  for (const double value : std::span(found.arrays.at("trace").values).first(kHeads)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(PromptHeads, one_that_is_not_finite_fails_the_prompt_alone_and_by_the_same_words) {
  const Tensor good = made_attention();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensor a = good.clone();
    a[5][3][2] = a[11][1][0] = bad;
    for (const int threads : {1, 3}) {
      set_compute_threads(threads);
      for (const std::int64_t together : {std::int64_t{1}, std::int64_t{4}, kHeads}) {
        PromptMeasurement measured = measurement();
        for (std::int64_t h = 0; h < kHeads; h += together) {
          const std::int64_t count = std::min(together, kHeads - h);
          measured.see_attention(0, 0, h, good.narrow(0, h, count), values_);
          measured.see_attention(0, 1, h, a.narrow(0, h, count), values_);
        }
        const Record record = measured.finish();
        const auto& errors = record.texts.at("prompt_errors");
        EXPECT_EQ(errors[0], "");
        EXPECT_EQ(errors[1],
                  "the attention of layer 0 is not finite: a weight is too large, or the compute type overflows (dtype "
                  "float64 reaches further)");
        const auto& trace = record.arrays.at("trace").values;
        for (std::size_t h = 0; h < kHeads; ++h)
          EXPECT_TRUE(std::isfinite(trace[h]) && std::isnan(trace[kHeads + h])) << h;
      }
    }
  }
}

}  // namespace
}  // namespace spectrace
