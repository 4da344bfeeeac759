// Entropies and sparsity of attention after softmax (docs/quantities.md, section 3).
#include "spectrace/measure/analysis.hpp"
#include "spectrace/measure/transition_points.hpp"
#include "spectrace/numerics/attention_statistics.hpp"

namespace spectrace {
namespace attention {
namespace {

constexpr const char *kRowEntropy = "row_entropy", *kSparsity = "sparsity", *kFlatEntropy = "flat_entropy";
constexpr const char *kMeanRowEntropy = "row_entropy_mean_attention", *kMeanSparsity = "sparsity_mean_attention",
                     *kMeanFlatEntropy = "flat_entropy_mean_attention";
constexpr const char* kLStarEntropy = "l_star_entropy";

double l_star(const ResultNumbers& results, const std::string& set) {
  return l_star_entropy(means_over_prompts(results, set, kMeanFlatEntropy));
}

std::vector<Quantity> attention_quantities() {
  const std::vector<std::string> head = {"prompt", "layer", "head"}, layer = {"prompt", "layer"};
  return {
      {.name = kRowEntropy,
       .dims = head,
       .units = "nat",
       .meaning = "Mean over rows of the entropy of the attention",
       .formula = "mean over rows i of −Σⱼ aᵢⱼ ln aᵢⱼ",
       .function = "attention_statistics"},
      {.name = kSparsity,
       .dims = head,
       .meaning = "Share of all n^2 attention entries that are below 0.01",
       .formula = "share of all n² entries, the masked ones too, that are < 0.01",
       .function = "attention_statistics"},
      {.name = kFlatEntropy,
       .dims = head,
       .meaning = "Entropy of all attention entries above 1e-10, over the log of their number",
       .formula = "of the entries > 1e−10, scaled to sum 1: −Σ p ln p/ln(count); 0 if count < 2",
       .function = "attention_statistics"},
      {.name = kMeanRowEntropy,
       .dims = layer,
       .units = "nat",
       .meaning = "Row entropy of the attention averaged over heads",
       .formula = "`row_entropy` of Ā",
       .function = "attention_statistics"},
      {.name = kMeanSparsity,
       .dims = layer,
       .meaning = "Sparsity of the attention averaged over heads",
       .formula = "`sparsity` of Ā",
       .function = "attention_statistics"},
      {.name = kMeanFlatEntropy,
       .dims = layer,
       .meaning = "Flat entropy of the attention averaged over heads",
       .formula = "`flat_entropy` of Ā",
       .function = "attention_statistics"},
  };
}

AnalysisInfo attention_info() {
  return {
      .name = "attention",
      .meaning = "Entropies and sparsity of every head's attention.",
      .place = 40,
      .numerics_version = 2,
      .quantities = attention_quantities(),
      .scalars = {{{.name = kLStarEntropy,
                    .meaning = "First layer whose prompt-mean flat entropy has reached the midpoint of first and last",
                    .formula = "first layer whose `flat_entropy_mean_attention` has reached the midpoint of first and "
                               "last layer, in the direction of the change; ⌊L/2⌋ if none",
                    .function = "l_star_entropy"},
                   50,
                   l_star}},
      .summary = {{.name = kLStarEntropy,
                   .meaning = "Layer where the entropy has reached its midpoint",
                   .place = 30,
                   .value = l_star}},
  };
}

class Observer final : public PromptObserver {
 public:
  explicit Observer(PromptArrays& arrays) : arrays_(arrays) {}

  void see_heads(const HeadsView& heads) override {
    const auto of_heads = attention_statistics_of_heads(heads.a);
    for (std::size_t h = 0; h < of_heads.size(); ++h) {
      const std::int64_t head = heads.first_head + static_cast<std::int64_t>(h);
      arrays_.set(kRowEntropy, {heads.prompt, heads.layer, head}, of_heads[h].row_entropy);
      arrays_.set(kSparsity, {heads.prompt, heads.layer, head}, of_heads[h].sparsity);
      arrays_.set(kFlatEntropy, {heads.prompt, heads.layer, head}, of_heads[h].flat_entropy);
    }
  }

  void see_all_heads(const AllHeadsView& heads) override {
    const AttentionStatistics of_mean = attention_statistics(heads.mean);
    arrays_.set(kMeanRowEntropy, {heads.prompt, heads.layer}, of_mean.row_entropy);
    arrays_.set(kMeanSparsity, {heads.prompt, heads.layer}, of_mean.sparsity);
    arrays_.set(kMeanFlatEntropy, {heads.prompt, heads.layer}, of_mean.flat_entropy);
  }

 private:
  PromptArrays& arrays_;
};

class Attention final : public PromptAnalysis {
 public:
  Attention() : PromptAnalysis(attention_info()) {}

  PromptWants wants() const override { return {.mean_attention = true}; }
  std::int64_t device_bytes(const ModelDescription& model, std::int64_t num_tokens) const override {
    return attention_statistics_device_bytes(model.num_heads, num_tokens);
  }
  std::unique_ptr<PromptObserver> observe(const ModelDescription&, const TokenBatch&, const Settings&,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(arrays);
  }
};

}  // namespace
}  // namespace attention

const Analysis& attention_analysis() {
  static const attention::Attention analysis;
  return analysis;
}

}  // namespace spectrace
