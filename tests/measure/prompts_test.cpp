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

#include "measure/plain_prompts.hpp"
#include "numerics/peak_memory.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "support/unit_roundoff.hpp"

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

  /// Heads are from nearly uniform to `sharpest` times as sharp.
  static Tensor made_attention(std::int64_t num_tokens = kTokens, double sharpest = kHeads) {
    const Tensor places =
        at::arange(kHeads * num_tokens * num_tokens, at::kDouble).view({kHeads, num_tokens, num_tokens});
    const Tensor sharpness = at::arange(1, kHeads + 1, at::kDouble).view({kHeads, 1, 1}) * sharpest / kHeads;
    const Tensor hidden = at::ones({num_tokens, num_tokens}, at::kBool).triu(1);
    const Tensor scores = (places * 0.7).sin() * sharpness;
    return at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1).to(at::kFloat);
  }

  /// With the eigenvalues of every graph, at two temperatures.
  static AnalysisChoice analyses() {
    const Json section = {{"beta", {{"from", 0.1}, {"to", 1}, {"count", 2}}}, {"graph_eigenvalues", true}};
    const Analysis *attention = find_analysis("attention"), *sheaf = find_analysis("sheaf");
    return AnalysisChoice({{attention, attention->complete(std::nullopt)},
                           {sheaf, sheaf->complete(JsonNode::of(section, "job", ErrorKind::usage))}});
  }
  PromptMeasurement measurement() const { return {model_, batch_, analyses()}; }

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

/// Of prompt 1, quantity by quantity.
class Values {
 public:
  explicit Values(const Record& record) : record_(record) {}
  double of_head(const char* name, std::size_t head) const { return at(name, head, kHeads); }
  double of_layer(const char* name) const { return at(name, 0, 1); }
  /// `width` values for each head.
  double of_head(const char* name, std::size_t head, std::size_t i, std::size_t width) const {
    return at(name, head * width + i, kHeads * width);
  }

 private:
  double at(const char* name, std::size_t i, std::size_t of_prompt) const {
    return record_.arrays.at(name).values.at(of_prompt + i);
  }
  const Record& record_;
};

/// Sums of so many positive terms, each of a few roundings, added in pairs or blocks.
double of_sum(std::size_t num_terms) { return 4 * std::sqrt(static_cast<double>(num_terms)) * kUnitRoundoff; }

void expect_attention_statistics(const plain::Matrix& a, double least, double row_entropy, double sparsity,
                                 double flat_entropy) {
  const double tolerance = of_sum(a.size() * a.size());
  const auto expected = static_cast<double>(plain::row_entropy(a));
  EXPECT_NEAR(row_entropy, expected, tolerance * expected);
  EXPECT_EQ(sparsity, static_cast<double>(plain::sparsity(a, least)));
  // The quotient of two sums, of which one is a logarithm's argument; 1 at most.
  EXPECT_NEAR(flat_entropy, static_cast<double>(plain::flat_entropy(a)), 3 * tolerance);
}

TEST_F(PromptHeads, each_has_its_own_place) {
  const Tensor a = made_attention();
  const Record record = seen(a, 3);
  const Values values(record);
  std::vector<plain::Matrix> heads;
  plain::Real multihead = 0, off_diagonal = 0;
  for (std::size_t h = 0; h < kHeads; ++h) {
    SCOPED_TRACE(h);
    const plain::Matrix& head = heads.emplace_back(plain::matrix_of(a[static_cast<std::int64_t>(h)]));
    expect_attention_statistics(head, 0.01F, values.of_head("row_entropy", h), values.of_head("sparsity", h),
                                values.of_head("flat_entropy", h));
    const plain::Real norm = values_[h].frobenius_norm, sum = plain::off_diagonal_sum(head);
    const auto trace = static_cast<double>(sum * norm * norm);
    EXPECT_NEAR(values.of_head("trace", h), trace, of_sum(kTokens * kTokens) * trace);
    const plain::Real sigma = values_[h].singular_values[0], mu = plain::eigenvalues(plain::laplacian(head)).back();
    const auto lambda_max = static_cast<double>(mu * sigma * sigma);
    EXPECT_NEAR(values.of_head("lambda_max", h), lambda_max, 16 * kTokens * kUnitRoundoff * lambda_max);
    multihead += sum * norm * norm;
    off_diagonal += sum;
  }
  const double tolerance = of_sum(kTokens * kTokens);
  const auto of_all = static_cast<double>(multihead),
             of_mean = static_cast<double>(off_diagonal / kHeads * std::pow(values_[0].frobenius_norm, 2));
  EXPECT_NEAR(values.of_layer("trace_multihead"), of_all, tolerance * of_all);
  EXPECT_NEAR(values.of_layer("trace_mean_attention"), of_mean, tolerance * of_mean);
  const plain::Matrix mean = plain::mean_of(heads);
  expect_attention_statistics(mean, 0.01, values.of_layer("row_entropy_mean_attention"),
                              values.of_layer("sparsity_mean_attention"),
                              values.of_layer("flat_entropy_mean_attention"));
  const auto contraction = static_cast<double>(plain::contraction_ratio(mean));
  EXPECT_NEAR(values.of_layer("contraction_ratio"), contraction, tolerance * contraction);
  for (const double value : std::span(record.arrays.at("trace").values).first(kHeads)) EXPECT_TRUE(std::isnan(value));
}

/// What thermodynamics of levels may be off by that are within `error` of the right ones: weights change by factors of
/// at most e^(2 beta error), and means by as much of what they are means of.
void expect_thermodynamics(const plain::Canonical& expected, double beta, double error, const Values& values,
                           const std::string& prefix, std::size_t head, std::size_t i) {
  const auto of = [&](const std::string& name) { return values.of_head((prefix + name).c_str(), head, i, 2); };
  const auto capacity = static_cast<double>(expected.heat_capacity), x = beta * error, spread = std::sqrt(capacity);
  const double u = 32 * kUnitRoundoff;
  const auto log_z = static_cast<double>(expected.log_partition),
             energy = static_cast<double>(expected.internal_energy), entropy = static_cast<double>(expected.entropy);
  EXPECT_NEAR(of("log_partition_nonzero"), log_z, x + u * (1 + std::abs(log_z)));
  EXPECT_NEAR(of("internal_energy"), energy, error * (1 + 2 * spread) + u * energy);
  EXPECT_NEAR(of("heat_capacity"), capacity,
              2 * x * (capacity + spread) + u * (1 + static_cast<double>(expected.second_moment)));
  EXPECT_NEAR(of("thermal_entropy"), entropy, 2 * x * spread + u * (1 + entropy + beta * energy));
}

TEST_F(PromptHeads, sheaves_are_those_of_every_eigenvalue_by_itself) {
  constexpr std::int64_t n = 7, shorter = 4;
  batch_ = {std::vector<std::int64_t>(shorter + n, 1), {0, shorter, shorter + n}};
  const Tensor a = made_attention(n, 3);
  const Record record = seen(a, 4);
  const Values values(record);
  const std::vector<double> beta = {0.1, 1};
  const auto least = static_cast<plain::Real>(kHidden) * 0x1p-52L;  // max(n, D) 2^-52
  for (std::size_t h = 0; h < kHeads; ++h) {
    SCOPED_TRACE(h);
    const auto mu = plain::eigenvalues(plain::laplacian(plain::matrix_of(a[static_cast<std::int64_t>(h)])));
    std::vector<plain::Real> squares(kHidden, 0);
    for (std::size_t i = 0; i < values_[h].singular_values.size(); ++i)
      squares[i] = std::pow(static_cast<plain::Real>(values_[h].singular_values[i]), 2);
    const plain::Levels graph = plain::levels_of(mu, least),
                        sheaf = plain::product(graph, plain::levels_of(squares, least));
    ASSERT_EQ(graph.num_zeros, 1u) << "the graph is one";
    ASSERT_GT(graph.non_zero.front(), 1e-6) << "far from what counts as zero";
    const double of_mu = 16 * n * kUnitRoundoff * static_cast<double>(mu.back()),
                 of_lambda = of_mu * static_cast<double>(squares.front());
    for (std::size_t i = 0; i < n; ++i)
      EXPECT_NEAR(values.of_head("graph_eigenvalues", h, i, n), static_cast<double>(mu[i]), of_mu) << i;
    EXPECT_NEAR(values.of_head("graph_lambda_2", h), static_cast<double>(mu[1]), of_mu);
    EXPECT_NEAR(values.of_head("lambda_max", h), static_cast<double>(sheaf.non_zero.back()), of_lambda);
    EXPECT_NEAR(values.of_head("spectral_gap", h), static_cast<double>(sheaf.non_zero.front()), of_lambda);
    EXPECT_EQ(values.of_head("nullity", h), static_cast<double>(sheaf.num_zeros));
    // Each p is off by 16 n u at most, and -p ln p by ln p + 1 times that.
    const auto size = static_cast<double>(sheaf.size());
    EXPECT_NEAR(values.of_head("spectral_entropy", h), static_cast<double>(plain::entropy(sheaf)),
                16 * n * kUnitRoundoff * size * (1 + std::log(size)));
    for (std::size_t i = 0; i < beta.size(); ++i) {
      const auto log_partition = static_cast<double>(plain::log_partition(sheaf, beta[i]));
      EXPECT_NEAR(values.of_head("log_partition", h, i, 2), log_partition,
                  beta[i] * of_lambda + 32 * kUnitRoundoff * (1 + std::abs(log_partition)));
      expect_thermodynamics({sheaf, beta[i]}, beta[i], of_lambda, values, "", h, i);
      expect_thermodynamics({graph, beta[i]}, beta[i], of_mu, values, "graph_", h, i);
    }
  }
}

/// Rows of eigenvalues are as long as the batch's longest prompt.
TEST_F(PromptHeads, eigenvalues_of_a_shorter_prompt_end_in_nan) {
  constexpr std::int64_t n = 4, longer = 7;
  batch_ = {std::vector<std::int64_t>(longer + n, 1), {0, longer, longer + n}};
  const Tensor a = made_attention(n, 3);
  const Record record = seen(a, kHeads);
  for (std::size_t h = 0; h < kHeads; ++h)
    for (std::size_t i = 0; i < longer; ++i)
      EXPECT_EQ(std::isnan(Values(record).of_head("graph_eigenvalues", h, i, longer)), i >= n) << h << " " << i;
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

/// Has a value of another name than it declares.
class Misspelt final : public PromptAnalysis {
 public:
  Misspelt()
      : PromptAnalysis(
            {.name = "misspelt", .meaning = "Nothing.", .quantities = {{.name = "size", .dims = {"prompt"}}}}) {}
  PromptWants wants() const override { return {.attention = true}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription&, const TokenBatch&, const Settings&,
                                          PromptArrays& arrays) const override {
    struct Observer final : PromptObserver {
      explicit Observer(PromptArrays& its) : arrays(its) {}
      void see_heads(const HeadsView& heads) override { arrays.set("sise", {heads.prompt}, 1); }
      PromptArrays& arrays;
    };
    return std::make_unique<Observer>(arrays);
  }
};

TEST_F(PromptHeads, a_name_that_no_analysis_declares_is_a_bug_that_is_named) {
  const Misspelt analysis;
  PromptMeasurement measured(model_, batch_, AnalysisChoice({Chosen{&analysis, Json::object()}}));
  try {
    measured.see_attention(0, 1, 0, made_attention(), values_);
    ADD_FAILURE();
  } catch (const InternalError& error) {
    EXPECT_STREQ(error.what(), "an analysis has a value of 'sise', which none of these declares");
  }
}

TEST_F(PromptHeads, one_that_failed_keeps_nothing) {
  const Tensor good = made_attention(), bad = at::full_like(good.narrow(0, 0, 1), kNaN);
  // Of so many prompts the first head is good, the second one bad.
  const auto peak = [&](std::int64_t num_prompts) {
    return peak_tensor_bytes([&] {
      PromptMeasurement measured = measurement();
      for (std::int64_t prompt = 0; prompt < num_prompts; ++prompt) {
        measured.see_attention(0, prompt, 0, good.narrow(0, 0, 1), values_);
        measured.see_attention(0, prompt, 1, bad, values_);
      }
    });
  };
  EXPECT_GE(peak(1), mean_attention_bytes(kHeads, kTokens)) << "it is counted";
  EXPECT_EQ(peak(2), peak(1));
}

}  // namespace
}  // namespace spectrace
