// Norms and gains of the residual stream (docs/quantities.md, section 5).
#include "../matrix_spectra.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace residual {
namespace {

constexpr const char *kLastNorm = "last_token_norm", *kMeanNorm = "mean_token_norm",
                     *kFinalLastNorm = "final_norm_last_token", *kFinalMeanNorm = "final_norm_mean_token",
                     *kGain = "gain", *kLastGainAfterNorm = "last_gain_after_norm";
constexpr const char *kLastGainMean = "last_gain_mean", *kLastGainAfterNormMean = "last_gain_after_norm_mean",
                     *kEffectiveAmplification = "effective_amplification";

double last_gain_mean(const ResultNumbers& results, const std::string& set) {
  const std::vector<double> gains = means_over_prompts(results, set, kGain);
  return gains.empty() ? kNaN : gains.back();
}

double last_gain_after_norm_mean(const ResultNumbers& results, const std::string& set) {
  const std::vector<double> gains = means_over_prompts(results, set, kLastGainAfterNorm);
  return gains.empty() ? kNaN : gains.front();
}

double effective_amplification(const ResultNumbers& results, const std::string& set) {
  return scalar_of(results, "/unembedding", spectral::kSpectralNorm) * last_gain_mean(results, set);
}

std::vector<Quantity> residual_quantities() {
  const std::vector<std::string> boundary = {"prompt", "boundary"}, prompt = {"prompt"};
  return {
      {.name = kLastNorm,
       .dims = boundary,
       .meaning = "Norm of the last token's residual vector",
       .formula = "‖h_b‖₂",
       .function = "PromptMeasurement"},
      {.name = kMeanNorm,
       .dims = boundary,
       .meaning = "Mean over tokens of the norm of the residual vector",
       .formula = "mean over the tokens of the norm of their vector",
       .function = "PromptMeasurement"},
      {.name = kFinalLastNorm,
       .dims = prompt,
       .meaning = "Norm of the last token's vector after the final norm",
       .formula = "‖norm(h_L)‖₂",
       .function = "PromptMeasurement"},
      {.name = kFinalMeanNorm,
       .dims = prompt,
       .meaning = "Mean over tokens of the norm after the final norm",
       .formula = "the same, mean over the tokens",
       .function = "PromptMeasurement"},
      {.name = kGain,
       .dims = {"prompt", "layer"},
       .meaning = "Last token's norm leaving the layer over that entering it",
       .formula = "‖h_(l+1)‖₂/‖h_l‖₂; NaN or ∞ if h_l is 0",
       .function = "PromptMeasurement"},
      {.name = kLastGainAfterNorm,
       .dims = prompt,
       .meaning = "Last token's norm after the final norm over that entering the last layer",
       .formula = "‖norm(h_L)‖₂/‖h_(L−1)‖₂; NaN or ∞ if h_(L−1) is 0",
       .function = "PromptMeasurement"},
  };
}

std::vector<SetScalar> residual_scalars() {
  return {{{.name = kLastGainMean,
            .meaning = "Mean over prompts of the last layer's gain",
            .formula = "mean over the prompts of `gain` of block L−1",
            .function = "means_over_prompts"},
           10,
           last_gain_mean},
          {{.name = kLastGainAfterNormMean,
            .meaning = "Mean over prompts of the last gain with the final norm",
            .formula = "mean over the prompts of `last_gain_after_norm`",
            .function = "means_over_prompts"},
           20,
           last_gain_after_norm_mean},
          {{.name = kEffectiveAmplification,
            .meaning = "Spectral norm of W_U times last_gain_mean",
            .formula = "σ₁ of W_U times `last_gain_mean`",
            .function = "means_over_prompts"},
           30,
           effective_amplification}};
}

AnalysisInfo residual_info() {
  return {
      .name = "residual",
      .meaning = "Norms and gains of the residual stream.",
      .place = 60,
      .numerics_version = 2,
      .quantities = residual_quantities(),
      .scalars = residual_scalars(),
      .summary = {{.name = kLastGainMean,
                   .meaning = "Mean over prompts of the last layer's gain",
                   .place = 70,
                   .heading = "last gain",
                   .legend = "of the last layer, mean over prompts",
                   .value = last_gain_mean},
                  {.name = kLastGainAfterNormMean,
                   .meaning = "The same with the final norm",
                   .place = 71,
                   .value = last_gain_after_norm_mean},
                  {.name = kEffectiveAmplification,
                   .meaning = "Spectral norm of W_U times last_gain_mean",
                   .place = 72,
                   .value = effective_amplification}},
  };
}

class Observer final : public PromptObserver {
 public:
  Observer(const ModelDescription& model, const TokenBatch& batch, PromptArrays& arrays)
      : model_(model), batch_(batch), arrays_(arrays) {}

  void see_norms(std::int64_t boundary, const std::vector<double>& of_rows) override {
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      arrays_.set(kLastNorm, {p, boundary}, last_of(of_rows, p));
      arrays_.set(kMeanNorm, {p, boundary}, mean_of(of_rows, p));
    }
  }

  void see_final_norms(const std::vector<double>& of_rows) override {
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      arrays_.set(kFinalLastNorm, {p}, last_of(of_rows, p));
      arrays_.set(kFinalMeanNorm, {p}, mean_of(of_rows, p));
    }
  }

  void finish() override {
    const auto layers = static_cast<std::size_t>(model_.num_layers);
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      const auto norms = arrays_.slots(kLastNorm, {p});
      const auto gains = arrays_.slots(kGain, {p});
      for (std::size_t l = 0; l < layers; ++l) gains[l] = norms[l + 1] / norms[l];
      arrays_.set(kLastGainAfterNorm, {p}, arrays_.slots(kFinalLastNorm, {p}).front() / norms[layers - 1]);
    }
  }

 private:
  std::size_t begin(std::int64_t prompt) const {
    return static_cast<std::size_t>(batch_.row_start[static_cast<std::size_t>(prompt)]);
  }
  double last_of(const std::vector<double>& of_rows, std::int64_t prompt) const {
    return of_rows[begin(prompt + 1) - 1];
  }
  double mean_of(const std::vector<double>& of_rows, std::int64_t prompt) const {
    const std::size_t first = begin(prompt), end = begin(prompt + 1);
    double sum = 0;
    for (std::size_t row = first; row < end; ++row) sum += of_rows[row];
    return sum / static_cast<double>(end - first);
  }

  const ModelDescription& model_;
  const TokenBatch& batch_;
  PromptArrays& arrays_;
};

class Residual final : public PromptAnalysis {
 public:
  Residual() : PromptAnalysis(residual_info()) {}

  PromptWants wants() const override { return {.norms = true}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch& batch, const Settings&,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(model, batch, arrays);
  }
};

}  // namespace
}  // namespace residual

const Analysis& residual_analysis() {
  static const residual::Residual analysis;
  return analysis;
}

}  // namespace spectrace
