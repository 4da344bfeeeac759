// Where heads look, and how large their scores are (docs/quantities.md, "Attention patterns").
#include "spectrace/measure/analysis.hpp"
#include "spectrace/numerics/attention_patterns.hpp"

namespace spectrace {
namespace patterns {
namespace {

constexpr const char *kFirstTokenMass = "first_token_mass", *kSelfMass = "self_mass",
                     *kPreviousTokenMass = "previous_token_mass", *kMeanDistance = "mean_distance",
                     *kDuplicateTokenScore = "duplicate_token_score", *kInductionScore = "induction_score",
                     *kMaxLogit = "max_logit", *kMeanLogSumExp = "mean_log_sum_exp";

std::vector<Quantity> pattern_quantities() {
  const auto of_head = [](const char* name, const char* meaning, const char* formula,
                          const char* function = "attention_patterns", const char* source = "") {
    return Quantity{.name = name,
                    .dims = {"prompt", "layer", "head"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = function,
                    .source = source};
  };
  std::vector<Quantity> quantities = {
      of_head(kFirstTokenMass, "Mean over rows but the first of the attention to the first token; NaN for one token",
              "mean over i ≥ 1 of Aᵢ₀: the attention sink", "attention_patterns", "Xiao et al. 2023"),
      of_head(kSelfMass, "Mean over rows but the first of the attention to the row's own token; NaN for one token",
              "mean over i ≥ 1 of Aᵢᵢ"),
      of_head(kPreviousTokenMass,
              "Mean over rows but the first of the attention to the token before; NaN for one token",
              "mean over i ≥ 1 of Aᵢ,ᵢ₋₁"),
      of_head(kMeanDistance,
              "Mean over rows but the first of the distance to the tokens attended to; NaN for one token",
              "mean over i ≥ 1 of Σⱼ Aᵢⱼ (i − j)"),
      of_head(kDuplicateTokenScore,
              "Mean over rows whose token came before of the attention to its earlier places; NaN if none did",
              "mean over the rows i that have an earlier equal token of Σ Aᵢⱼ over the j < i with tⱼ = tᵢ"),
      of_head(kInductionScore,
              "Mean over rows whose token came before, another one between, of the attention to what followed it; NaN "
              "if none did",
              "mean over the rows i that have an equal token at j ≤ i − 2 of Σ Aᵢ,ⱼ₊₁ over these j (prefix matching)",
              "attention_patterns", "Olsson et al. 2022"),
      of_head(kMaxLogit, "Largest score as it enters the softmax, masked ones aside",
              "max over all rows of sᵢⱼ, the score as it enters the softmax, masked ones aside", "score_summaries"),
      of_head(kMeanLogSumExp,
              "Mean over rows of the log of the sum of exponentials of the scores as they enter the softmax",
              "mean over all rows of ln Σⱼ exp sᵢⱼ, masked ones aside", "score_summaries"),
  };
  quantities[3].units = "tokens";
  quantities.back().units = "nat";
  return quantities;
}

AnalysisInfo patterns_info() {
  return {
      .name = "patterns",
      .meaning = "Where every head looks: first, same, previous, equal and next tokens; and the size of its scores.",
      .place = 70,
      .numerics_version = 2,
      .is_default = false,
      .quantities = pattern_quantities(),
  };
}

std::span<const std::int64_t> tokens_of(const TokenBatch& batch, std::int64_t prompt) {
  const RowRange rows = batch.rows_of(prompt);
  return std::span(batch.token_ids).subspan(static_cast<std::size_t>(rows.first), static_cast<std::size_t>(rows.count));
}

class Observer final : public PromptObserver {
 public:
  Observer(const TokenBatch& batch, PromptArrays& arrays) : arrays_(arrays) {
    for (std::int64_t prompt = 0; prompt < batch.num_prompts(); ++prompt)
      tokens_.emplace_back(tokens_of(batch, prompt));
  }

  void see_heads(const HeadsView& heads) override {
    const auto of_heads = attention_patterns(heads.a, tokens_[static_cast<std::size_t>(heads.prompt)]);
    set(heads, kFirstTokenMass, of_heads, &AttentionPattern::first_token_mass);
    set(heads, kSelfMass, of_heads, &AttentionPattern::self_mass);
    set(heads, kPreviousTokenMass, of_heads, &AttentionPattern::previous_token_mass);
    set(heads, kMeanDistance, of_heads, &AttentionPattern::mean_distance);
    set(heads, kDuplicateTokenScore, of_heads, &AttentionPattern::duplicate_token_score);
    set(heads, kInductionScore, of_heads, &AttentionPattern::induction_score);
    const auto of_scores = score_summaries(heads.scores.max, heads.scores.log_sum_exp);
    set(heads, kMaxLogit, of_scores, &ScoreSummary::max_logit);
    set(heads, kMeanLogSumExp, of_scores, &ScoreSummary::mean_log_sum_exp);
  }

 private:
  template <typename OfHead>
  void set(const HeadsView& heads, const char* quantity, const std::vector<OfHead>& of_heads, double OfHead::*member) {
    const auto slots = arrays_.slots(quantity, {heads.prompt, heads.layer});
    for (std::size_t h = 0; h < of_heads.size(); ++h)
      slots[static_cast<std::size_t>(heads.first_head) + h] = of_heads[h].*member;
  }

  PromptArrays& arrays_;
  std::vector<EarlierTokens> tokens_;  // of each prompt
};

class Patterns final : public PromptAnalysis {
 public:
  Patterns() : PromptAnalysis(patterns_info()) {}

  PromptWants wants() const override { return {.scores = true}; }
  /// Each entry is weighed by its distance; its score is compared, and its exponential, of about 20 operations, summed.
  double flops(const ModelDescription& model, std::int64_t num_tokens) const override {
    constexpr double kOfDistance = 2, kOfScore = 1 + 22;
    const auto n = static_cast<double>(num_tokens);
    return (kOfDistance + kOfScore) * n * n * static_cast<double>(model.num_heads);
  }
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_tokens,
                               const Device& device) const override {
    return device.is_host() ? 0 : attention_patterns_bytes(model.num_heads, num_tokens);
  }
  std::unique_ptr<PromptObserver> observe(const ModelDescription&, const TokenBatch& batch, const Settings&,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(batch, arrays);
  }
};

}  // namespace
}  // namespace patterns

const Analysis& patterns_analysis() {
  static const patterns::Patterns analysis;
  return analysis;
}

}  // namespace spectrace
