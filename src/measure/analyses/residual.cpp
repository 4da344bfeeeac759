// Norms, gains and geometry of the residual stream, and what each block writes into it (docs/quantities.md, section 5).
#include <algorithm>
#include <cmath>

#include "../matrix_spectra.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/token_geometry.hpp"

namespace spectrace {
namespace residual {
namespace {

constexpr const char *kLastNorm = "last_token_norm", *kMeanNorm = "mean_token_norm",
                     *kFinalLastNorm = "final_norm_last_token", *kFinalMeanNorm = "final_norm_mean_token",
                     *kGain = "gain", *kLastGainAfterNorm = "last_gain_after_norm";
constexpr const char *kBoundaryCosine = "boundary_cosine", *kAttentionNorm = "attention_write_norm",
                     *kAttentionCosine = "attention_write_cosine", *kMlpNorm = "mlp_write_norm",
                     *kMlpCosine = "mlp_write_cosine";
constexpr const char *kMaxAbsEntry = "max_abs_entry", *kMaxAbsToken = "max_abs_token",
                     *kMaxAbsChannel = "max_abs_channel", *kMassiveRatio = "massive_ratio", *kKurtosis = "kurtosis",
                     *kMatrixEntropy = "matrix_entropy", *kAnisotropy = "anisotropy";
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

std::vector<Quantity> quantities_of_norms() {
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

std::vector<Quantity> quantities_of_writes() {
  const auto of_layer = [](const char* name, const char* meaning, const char* formula, const char* source = "") {
    return Quantity{.name = name,
                    .dims = {"prompt", "layer"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = "BlockWrites",
                    .source = source};
  };
  return {
      of_layer(kBoundaryCosine, "Mean over tokens of the cosine of what enters the block and what leaves it",
               "mean over tokens of cos(h_l, h_(l+1)); 1 − it is the block influence", "Men et al. 2024"),
      of_layer(kAttentionNorm, "Mean over tokens of the norm of what attention adds to the residual",
               "mean over tokens of ‖a_l‖₂, a_l: what attention adds"),
      of_layer(kAttentionCosine, "Mean over tokens of the cosine of what attention adds and what enters the block",
               "mean over tokens of cos(a_l, h_l); NaN where one is 0"),
      of_layer(kMlpNorm, "Mean over tokens of the norm of what the MLP adds to the residual",
               "mean over tokens of ‖m_l‖₂, m_l: what the MLP adds"),
      of_layer(kMlpCosine, "Mean over tokens of the cosine of what the MLP adds and what enters the block",
               "mean over tokens of cos(m_l, h_l); NaN where one is 0"),
  };
}

std::vector<Quantity> quantities_of_geometry() {
  const auto of_boundary = [](const char* name, const char* meaning, const char* formula, const char* source = "") {
    return Quantity{.name = name,
                    .dims = {"prompt", "boundary"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = "token_geometry",
                    .source = source};
  };
  const char* const massive = "Sun et al. 2024";
  std::vector<Quantity> quantities = {
      of_boundary(kMaxAbsEntry, "Largest absolute entry of the residual vectors over all tokens",
                  "max over tokens and channels of |h_b|", massive),
      of_boundary(kMaxAbsToken, "Token, counted from 0, that has the largest absolute entry",
                  "its token, from 0; the first of equals", massive),
      of_boundary(kMaxAbsChannel, "Channel, counted from 0, that has the largest absolute entry",
                  "its channel, from 0; of the first token of equals", massive),
      of_boundary(kMassiveRatio, "Largest absolute entry over the lower median of all absolute entries",
                  "`max_abs_entry` over the lower median of |h_b| over tokens and channels", massive),
      of_boundary(kKurtosis, "Excess kurtosis of the entries over tokens and channels",
                  "m₄/m₂² − 3 of all entries, mₖ: their central moments; NaN if they are equal"),
      of_boundary(kMatrixEntropy, "Entropy of the normalised Gram matrix of the tokens' vectors",
                  "−Σ p ln p, p: eigenvalues of H Hᵀ/tr, the rows of H the tokens' h_b", "Skean et al. 2025"),
      of_boundary(kAnisotropy, "Mean cosine over pairs of different tokens; NaN for one token",
                  "mean over i ≠ j of cos(h_b[i], h_b[j])", "Ethayarajh 2019"),
  };
  quantities[1].units = "token";
  quantities[1].has_statistics = quantities[2].has_statistics = false;  // a mean of places says nothing
  quantities[2].units = "channel";
  quantities[5].units = "nat";
  return quantities;
}

std::vector<Quantity> residual_quantities() {
  std::vector<Quantity> all;
  for (const auto& some : {quantities_of_norms(), quantities_of_writes(), quantities_of_geometry()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
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
      .meaning = "Norms, gains and geometry of the residual stream, and what each block writes into it.",
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
      : model_(model), batch_(batch), arrays_(arrays), is_finite_(static_cast<std::size_t>(batch.num_prompts())) {}

  void see_norms(std::int64_t boundary, const std::vector<double>& of_rows) override {
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      is_finite_[static_cast<std::size_t>(p)] = std::isfinite(mean_of(of_rows, p));
      arrays_.set(kLastNorm, {p, boundary}, last_of(of_rows, p));
      arrays_.set(kMeanNorm, {p, boundary}, mean_of(of_rows, p));
    }
  }

  void see_boundary(std::int64_t boundary, const Tensor& hidden) override {
    std::vector<TokenGeometry> found(is_finite_.size());
    parallel_for(batch_.num_prompts(), [&](std::int64_t p) {
      const RowRange rows = batch_.rows_of(p);
      if (is_finite_[static_cast<std::size_t>(p)])  // else it has failed
        found[static_cast<std::size_t>(p)] = token_geometry(hidden.narrow(0, rows.first, rows.count));
    });
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      const TokenGeometry& of_prompt = found[static_cast<std::size_t>(p)];
      arrays_.set(kMaxAbsEntry, {p, boundary}, of_prompt.max_abs_entry);
      arrays_.set(kMaxAbsToken, {p, boundary}, static_cast<double>(of_prompt.max_abs_token));
      arrays_.set(kMaxAbsChannel, {p, boundary}, static_cast<double>(of_prompt.max_abs_channel));
      arrays_.set(kMassiveRatio, {p, boundary}, of_prompt.massive_ratio);
      arrays_.set(kKurtosis, {p, boundary}, of_prompt.kurtosis);
      arrays_.set(kMatrixEntropy, {p, boundary}, of_prompt.matrix_entropy);
      arrays_.set(kAnisotropy, {p, boundary}, of_prompt.anisotropy);
    }
  }

  void see_writes(std::int64_t layer, const BlockWrites& writes) override {
    for (std::int64_t p = 0; p < batch_.num_prompts(); ++p) {
      arrays_.set(kBoundaryCosine, {p, layer}, mean_of(writes.leaving_cosine, p));
      arrays_.set(kAttentionNorm, {p, layer}, mean_of(writes.attention_norm, p));
      arrays_.set(kAttentionCosine, {p, layer}, mean_of(writes.attention_cosine, p));
      arrays_.set(kMlpNorm, {p, layer}, mean_of(writes.mlp_norm, p));
      arrays_.set(kMlpCosine, {p, layer}, mean_of(writes.mlp_cosine, p));
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
  double last_of(const std::vector<double>& of_rows, std::int64_t prompt) const {
    return of_rows[static_cast<std::size_t>(batch_.rows_of(prompt).last() - 1)];
  }
  double mean_of(const std::vector<double>& of_rows, std::int64_t prompt) const {
    const RowRange rows = batch_.rows_of(prompt);
    double sum = 0;
    for (std::int64_t row = rows.first; row < rows.last(); ++row) sum += of_rows[static_cast<std::size_t>(row)];
    return sum / static_cast<double>(rows.count);
  }

  const ModelDescription& model_;
  const TokenBatch& batch_;
  PromptArrays& arrays_;
  std::vector<char> is_finite_;  // of each prompt, at the boundary that was seen last; not bits: threads write beside
};

class Residual final : public PromptAnalysis {
 public:
  Residual() : PromptAnalysis(residual_info()) {}

  PromptWants wants() const override { return {.norms = true, .boundaries = true, .writes = true}; }
  double flops(const ModelDescription& model, std::int64_t num_tokens) const override {
    constexpr double kOfEntry = 60;  // moments, the median, cosines
    return token_geometry_flops(num_tokens, model.hidden_size) +
           kOfEntry * static_cast<double>(num_tokens) * static_cast<double>(model.hidden_size);
  }
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_tokens, const Device&) const override {
    return token_geometry_bytes(num_tokens, model.hidden_size);
  }
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
