// What the model expects next, in the end and at every boundary (docs/quantities.md, "Prediction").
#include <cmath>
#include <string>

#include "spectrace/core/floats.hpp"
#include "spectrace/measure/analysis.hpp"

namespace spectrace {
namespace prediction {
namespace {

constexpr const char *kNextTokenNll = "next_token_nll", *kPerplexity = "perplexity", *kTop1Accuracy = "top1_accuracy",
                     *kEntropy = "prediction_entropy", *kLensKl = "lens_kl", *kLensEntropy = "lens_entropy",
                     *kLensRank = "lens_rank";
constexpr const char *kMeanNll = "next_token_nll_mean", *kMeanPerplexity = "perplexity_of_mean";

double mean_of(const ResultNumbers& results, const std::string& set, const char* quantity) {
  const std::vector<double> mean = means_over_prompts(results, set, quantity);
  return mean.empty() ? kNaN : mean.front();
}
double mean_nll(const ResultNumbers& results, const std::string& set) { return mean_of(results, set, kNextTokenNll); }
double perplexity_of_mean(const ResultNumbers& results, const std::string& set) {
  return std::exp(mean_nll(results, set));
}
double mean_accuracy(const ResultNumbers& results, const std::string& set) {
  return mean_of(results, set, kTop1Accuracy);
}

std::vector<Quantity> prediction_quantities() {
  const std::vector<std::string> prompt = {"prompt"}, boundary = {"prompt", "boundary"};
  return {
      {.name = kNextTokenNll,
       .dims = prompt,
       .units = "nat",
       .meaning = "Mean over tokens but the last of the negative log-likelihood of the next token; NaN for one token",
       .formula = "mean over i < n − 1 of −ln p(tᵢ₊₁ | t₀ … tᵢ)",
       .function = "predict"},
      {.name = kPerplexity,
       .dims = prompt,
       .meaning = "exp of next_token_nll",
       .formula = "exp of `next_token_nll`",
       .function = "predict",
       .source = "Jelinek et al. 1977"},
      {.name = kTop1Accuracy,
       .dims = prompt,
       .meaning = "Share of tokens but the last whose most probable next token is the one that follows; NaN for one "
                  "token",
       .formula = "share of the i < n − 1 with argmax p(· | t₀ … tᵢ) = tᵢ₊₁",
       .function = "predict"},
      {.name = kEntropy,
       .dims = prompt,
       .units = "nat",
       .meaning = "Mean over tokens of the entropy of the distribution over the next token",
       .formula = "mean over all i of −Σ p ln p, p = p(· | t₀ … tᵢ)",
       .function = "predict"},
      {.name = kLensKl,
       .dims = boundary,
       .units = "nat",
       .meaning = "Divergence of the final distribution after the last token from the logit lens at the boundary",
       .formula = "Σ p_L ln(p_L/p_b), p_b = softmax of W_U·norm(h_b) of the last token, with the model's own final "
                  "norm, bias, scale and soft cap",
       .function = "predict",
       .source = "nostalgebraist 2020"},
      {.name = kLensEntropy,
       .dims = boundary,
       .units = "nat",
       .meaning = "Entropy of the logit lens of the last token at the boundary",
       .formula = "−Σ p_b ln p_b",
       .function = "predict"},
      {.name = kLensRank,
       .dims = boundary,
       .meaning = "Tokens more probable in the logit lens at the boundary than the one that is most probable in the "
                  "end",
       .formula = "number of tokens more probable in p_b than p_L's most probable one; 0 at the last boundary",
       .function = "predict"},
  };
}

AnalysisInfo prediction_info() {
  return {
      .name = "prediction",
      .meaning = "What the model expects next: likelihood, entropy, and the logit lens over depth.",
      .place = 65,
      .is_default = false,
      .quantities = prediction_quantities(),
      .scalars = {{{.name = kMeanNll,
                    .units = "nat",
                    .meaning = "Mean over prompts of next_token_nll",
                    .formula = "mean over the prompts of `next_token_nll`",
                    .function = "means_over_prompts"},
                   70,
                   mean_nll},
                  {{.name = kMeanPerplexity,
                    .meaning = "exp of next_token_nll_mean",
                    .formula = "exp of `next_token_nll_mean`: the geometric mean of the prompts' perplexities",
                    .function = "means_over_prompts"},
                   80,
                   perplexity_of_mean}},
      .summary = {{.name = kMeanPerplexity,
                   .meaning = "exp of the mean over prompts of next_token_nll",
                   .place = 80,
                   .heading = "perplexity",
                   .legend = "exp of the mean over prompts of the next token's negative log-likelihood",
                   .value = perplexity_of_mean},
                  {.name = "top1_accuracy_mean",
                   .meaning = "Mean over prompts of top1_accuracy",
                   .place = 81,
                   .value = mean_accuracy}},
  };
}

class Observer final : public PromptObserver {
 public:
  Observer(const ModelDescription& model, const TokenBatch& batch, PromptArrays& arrays)
      : model_(model), batch_(batch), arrays_(arrays) {}

  void see_predictions(const Predictions& predictions) override {
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      see_tokens(p, predictions);
      see_lens(p, predictions);
    }
  }

 private:
  void see_tokens(std::int64_t prompt, const Predictions& predictions) {
    const RowRange rows = batch_.rows_of(prompt);
    const auto first = static_cast<std::size_t>(rows.first), end = static_cast<std::size_t>(rows.last());
    double nll = 0, entropy = 0, num_right = 0;
    for (std::size_t row = first; row < end; ++row) {
      entropy += predictions.entropy[row];
      if (row + 1 == end) break;
      nll += predictions.next_token_nll[row];
      num_right += predictions.most_probable[row] == batch_.token_ids[row + 1] ? 1 : 0;
    }
    const auto num_tokens = static_cast<double>(end - first), num_next = num_tokens - 1;
    const bool has_next = num_next > 0;
    arrays_.set(kNextTokenNll, {prompt}, has_next ? nll / num_next : kNaN);
    arrays_.set(kPerplexity, {prompt}, has_next ? std::exp(nll / num_next) : kNaN);
    arrays_.set(kTop1Accuracy, {prompt}, has_next ? num_right / num_next : kNaN);
    arrays_.set(kEntropy, {prompt}, entropy / num_tokens);
  }

  void see_lens(std::int64_t prompt, const Predictions& predictions) {
    const auto put = [&](const char* quantity, const std::vector<double>& all) {
      const auto slots = arrays_.slots(quantity, {prompt});
      const auto first = all.begin() + prompt * (model_.num_layers + 1);
      std::copy(first, first + model_.num_layers + 1, slots.begin());
    };
    put(kLensKl, predictions.lens_kl);
    put(kLensEntropy, predictions.lens_entropy);
    put(kLensRank, predictions.lens_rank);
  }

  const ModelDescription& model_;
  const TokenBatch& batch_;
  PromptArrays& arrays_;
};

class Prediction final : public PromptAnalysis {
 public:
  Prediction() : PromptAnalysis(prediction_info()) {}

  PromptWants wants() const override { return {.predictions = true}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch& batch, const Settings&,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(model, batch, arrays);
  }

 private:
  std::string find_lack(const ModelDescription& model) const override { return find_lack_of_head(model); }
};

}  // namespace
}  // namespace prediction

const Analysis& prediction_analysis() {
  static const prediction::Prediction analysis;
  return analysis;
}

}  // namespace spectrace
