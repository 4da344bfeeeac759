// Trace, spectrum and thermodynamics of the sheaf Laplacian (docs/quantities.md, section 4).
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/analysis.hpp"
#include "spectrace/measure/transition_points.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"
#include "spectrace/numerics/sheaf_spectrum.hpp"

namespace spectrace {
namespace sheaf {
namespace {

constexpr const char *kTrace = "trace", *kLambdaMax = "lambda_max", *kSpectralGap = "spectral_gap",
                     *kNullity = "nullity", *kSpectralEntropy = "spectral_entropy", *kGraphLambda2 = "graph_lambda_2",
                     *kTraceMultihead = "trace_multihead", *kTraceMeanAttention = "trace_mean_attention",
                     *kContractionRatio = "contraction_ratio", *kLogPartition = "log_partition",
                     *kFreeEnergy = "free_energy", *kGraphEigenvalues = "graph_eigenvalues";
/// ln Z, U, C and S over the non-zero eigenvalues of the sheaf Laplacian, and of the token graph's.
struct ThermodynamicsNames {
  const char *log_partition, *internal_energy, *heat_capacity, *entropy;
};
constexpr ThermodynamicsNames kNonZero = {"log_partition_nonzero", "internal_energy", "heat_capacity",
                                          "thermal_entropy"};
constexpr ThermodynamicsNames kOfGraph = {"graph_log_partition_nonzero", "graph_internal_energy", "graph_heat_capacity",
                                          "graph_thermal_entropy"};
constexpr const char *kLStarTrace = "l_star_trace", *kLStarSignChange = "l_star_sign_change";
/// In the job's section, and where graph_eigenvalues go along.
constexpr const char *kBeta = "beta", *kGraphIndex = "graph_index";

constexpr const char* kTooLarge = "W_V is too large for its squares to be float64 numbers";

double mean_trace(const ResultNumbers& results, const std::string& set) {
  const std::vector<double> of_layers = means_over_prompts(results, set, kTraceMultihead);
  if (of_layers.empty()) return kNaN;
  return std::accumulate(of_layers.begin(), of_layers.end(), 0.0) / static_cast<double>(of_layers.size());
}
double steepest_layer(const ResultNumbers& results, const std::string& set) {
  return l_star_trace(means_over_prompts(results, set, kTraceMultihead));
}
double turning_layer(const ResultNumbers& results, const std::string& set) {
  return l_star_sign_change(means_over_prompts(results, set, kTraceMultihead));
}

std::vector<Quantity> quantities_of_heads() {
  const std::vector<std::string> head = {"prompt", "layer", "head"};
  return {
      {.name = kTrace,
       .dims = head,
       .meaning = "Trace of the sheaf Laplacian",
       .formula = "Tr Δ_F = (ΣA − tr A)·‖W_V[h]‖_F²",
       .function = "graph_spectra",
       .must_be_finite = kTooLarge},
      {.name = kLambdaMax,
       .dims = head,
       .meaning = "Largest eigenvalue of the sheaf Laplacian",
       .formula = "μ_n·σ₁²",
       .function = "summarize_sheaf",
       .must_be_finite = kTooLarge},
      {.name = kSpectralGap,
       .dims = head,
       .meaning = "Smallest non-zero eigenvalue of the sheaf Laplacian; NaN if there is none",
       .formula = "smallest non-zero λ; NaN if there is none",
       .function = "summarize_sheaf"},
      {.name = kNullity,
       .dims = head,
       .meaning = "Dimension of the sheaf Laplacian's null space",
       .formula = "nD − rank Δ_F",
       .function = "summarize_sheaf"},
      {.name = kSpectralEntropy,
       .dims = head,
       .units = "nat",
       .meaning = "Entropy of the sheaf Laplacian's eigenvalues scaled to sum 1",
       .formula = "−Σ p ln p, p = λ/Tr Δ_F = S(μ/Σμ) + S(σ²/Σσ²); 0 if the trace is 0",
       .function = "summarize_sheaf",
       .must_be_finite = kTooLarge},
      {.name = kGraphLambda2,
       .dims = head,
       .meaning = "Second smallest eigenvalue of the token graph's Laplacian (Fiedler value); NaN for one token",
       .formula = "second smallest μ of L_G, 0 if the graph falls apart; NaN for one token",
       .function = "summarize_sheaf",
       .source = "Fiedler 1973"},
  };
}

std::vector<Quantity> quantities_of_layers() {
  const std::vector<std::string> layer = {"prompt", "layer"};
  return {
      {.name = kTraceMultihead,
       .dims = layer,
       .meaning = "Sum over heads of the traces",
       .formula = "Σ_h `trace`",
       .function = "graph_spectra",
       .must_be_finite = kTooLarge},
      {.name = kTraceMeanAttention,
       .dims = layer,
       .meaning = "Trace with the attention averaged over heads and the first head's W_V",
       .formula = "(ΣĀ − tr Ā)·‖W_V[0]‖_F²",
       .function = "graph_spectra"},
      {.name = kContractionRatio,
       .dims = layer,
       .meaning = "Mean over token pairs j <= i of the root of the attention averaged over heads",
       .formula = "mean over the n(n+1)/2 pairs j ≤ i of √Āᵢⱼ: ‖√Āᵢⱼ·W‖₂/‖W‖₂",
       .function = "contraction_ratio"},
  };
}

std::vector<Quantity> quantities_over_beta() {
  const std::vector<std::string> beta = {"prompt", "layer", "head", kBeta};
  const auto large = [&](const char* name, const char* units, const char* meaning, const char* formula) {
    return Quantity{.name = name,
                    .dims = beta,
                    .units = units,
                    .meaning = meaning,
                    .formula = formula,
                    .function = "thermodynamics",
                    .keep = Keep::if_asked};
  };
  return {
      {.name = kLogPartition,
       .dims = beta,
       .units = "nat",
       .meaning = "Log of the partition function over all eigenvalues, zeros included",
       .formula = "ln Z(β) = ln Σ e^(−βλ) over all nD eigenvalues, the zeros too",
       .function = "summarize_sheaf",
       .must_be_finite = kTooLarge},
      {.name = kFreeEnergy,
       .dims = beta,
       .meaning = "Minus log_partition over beta",
       .formula = "−ln Z/β",
       .function = "summarize_sheaf",
       .keep = Keep::never_rows,
       .derived = {kLogPartition, [](double log_partition, double at) { return -log_partition / at; }}},
      large(kNonZero.log_partition, "nat", "Log of the partition function over the non-zero eigenvalues",
            "ln Z(β) = ln Σ e^(−βλ) over the non-zero eigenvalues"),
      large(kNonZero.internal_energy, "1", "Mean of the non-zero eigenvalues weighted by exp(-beta lambda)",
            "U = Σ pλ over them, p = e^(−βλ)/Z"),
      large(kNonZero.heat_capacity, "1",
            "beta^2 times the variance of the non-zero eigenvalues weighted by exp(-beta lambda)",
            "C = β² Σ p(λ − U)²"),
      large(kNonZero.entropy, "nat", "Entropy of the weights exp(-beta lambda) of the non-zero eigenvalues",
            "S = −Σ p ln p = ln Z + βU"),
      large(kOfGraph.log_partition, "nat", "log_partition_nonzero of the token graph's Laplacian alone",
            "ln Σ e^(−βμ) over the non-zero μ of L_G"),
      large(kOfGraph.internal_energy, "1", "internal_energy of the token graph's Laplacian alone", "U of these"),
      large(kOfGraph.heat_capacity, "1", "heat_capacity of the token graph's Laplacian alone", "C of these"),
      large(kOfGraph.entropy, "nat", "thermal_entropy of the token graph's Laplacian alone", "S of these"),
      {.name = kGraphEigenvalues,
       .dims = {"prompt", "layer", "head", kGraphIndex},
       .meaning = "Eigenvalues of the token graph's Laplacian, ascending; NaN past the last",
       .formula = "μ of L_G, ascending; kept if `sheaf.graph_eigenvalues` says so",
       .function = "graph_spectra",
       .has_statistics = false,
       .option = kGraphEigenvalues},
  };
}

std::vector<Quantity> sheaf_quantities() {
  std::vector<Quantity> all;
  for (const auto& some : {quantities_of_heads(), quantities_of_layers(), quantities_over_beta()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

std::vector<SetScalar> sheaf_scalars() {
  return {{{.name = kLStarTrace,
            .meaning = "Layer of the steepest change of the prompt-mean trace_multihead",
            .formula = "argmax over l of |central difference of `trace_multihead`|, one-sided at the ends "
                       "(`numpy.gradient`); NaN for one layer",
            .function = "l_star_trace"},
           40,
           steepest_layer},
          {{.name = kLStarSignChange,
            .meaning = "First layer where the prompt-mean trace_multihead turns from rising to falling",
            .formula = "first l where the forward difference of `trace_multihead` turns from + to −; NaN if it nowhere "
                       "does",
            .function = "l_star_sign_change"},
           60,
           turning_layer}};
}

Json sheaf_section() {
  const Json positive = {{"type", "number"}, {"exclusiveMinimum", 0}};
  return {
      {kBeta,
       {{"description",
         "The grid of inverse temperatures: `count` points from `from` to `to`, evenly spaced in log beta."},
        {"type", "object"},
        {"additionalProperties", false},
        {"required", {"from", "to", "count"}},
        {"properties",
         {{"from", positive}, {"to", positive}, {"count", {{"type", "integer"}, {"minimum", 1}, {"maximum", 100000}}}}},
        {"default", {{"from", 1e-3}, {"to", 1e3}, {"count", 25}}}}},
      {kGraphEigenvalues,
       {{"description", "Also keep the eigenvalues of every attention graph's Laplacian."},
        {"type", "boolean"},
        {"default", false}}}};
}

AnalysisInfo sheaf_info() {
  return {
      .name = "sheaf",
      .meaning = "The sheaf Laplacian's trace, spectrum, partition function and thermodynamics.",
      .place = 50,
      .numerics_version = 3,
      .quantities = sheaf_quantities(),
      .dimensions = {{kBeta, "Inverse temperature"}, {kGraphIndex, "Place of the eigenvalue, smallest first, from 0"}},
      .scalars = sheaf_scalars(),
      .summary = {{.name = "mean_trace",
                   .meaning = "Mean over layers and prompts of trace_multihead",
                   .place = 10,
                   .heading = "mean trace",
                   .legend = "sheaf Laplacian, summed over heads, mean over prompts and layers",
                   .value = mean_trace},
                  {.name = kLStarTrace,
                   .meaning = "Layer of the steepest change of the trace",
                   .place = 20,
                   .heading = "L*",
                   .format = "{:.0f}",
                   .legend = "layer of its steepest change",
                   .value = steepest_layer},
                  {.name = kLStarSignChange,
                   .meaning = "Layer where the trace turns from rising to falling",
                   .place = 40,
                   .value = turning_layer}},
      .section_schema = sheaf_section(),
      .section_meaning = "Settings of the sheaf analysis.",
  };
}

/// `count` points, evenly spaced in log beta; the ends exact.
std::vector<double> beta_grid(const Settings& settings) {
  const Json& beta = settings.at(kBeta);
  const double from = beta.at("from"), to = beta.at("to"), low = std::log(from), high = std::log(to);
  const std::int64_t count = beta.at("count");
  std::vector<double> grid = {from};
  for (std::int64_t i = 1; i < count - 1; ++i)
    grid.push_back(std::exp(low + (high - low) * static_cast<double>(i) / static_cast<double>(count - 1)));
  if (count > 1) grid.push_back(to);
  return grid;
}

/// Row `row` of what has rows as long as `values`.
void set_row(std::span<double> rows, std::size_t row, const std::vector<double>& values) {
  std::copy(values.begin(), values.end(), rows.subspan(row * values.size(), values.size()).begin());
}

/// Where thermodynamics of all heads go, [head, beta] each.
struct ThermodynamicsSlots {
  std::span<double> log_partition, internal_energy, heat_capacity, entropy;

  ThermodynamicsSlots(PromptArrays& arrays, const ThermodynamicsNames& names, std::int64_t prompt, std::int64_t layer)
      : log_partition(arrays.slots(names.log_partition, {prompt, layer})),
        internal_energy(arrays.slots(names.internal_energy, {prompt, layer})),
        heat_capacity(arrays.slots(names.heat_capacity, {prompt, layer})),
        entropy(arrays.slots(names.entropy, {prompt, layer})) {}

  void set(std::size_t head, const Thermodynamics& of_head) const {
    set_row(log_partition, head, of_head.log_partition);
    set_row(internal_energy, head, of_head.internal_energy);
    set_row(heat_capacity, head, of_head.heat_capacity);
    set_row(entropy, head, of_head.entropy);
  }
};

class Observer final : public PromptObserver {
 public:
  Observer(const ModelDescription& model, const Settings& settings, PromptArrays& arrays)
      : model_(model), arrays_(arrays), beta_(beta_grid(settings)) {}

  void see_all_heads(const AllHeadsView& heads) override;

 private:
  const ModelDescription& model_;
  PromptArrays& arrays_;
  const std::vector<double> beta_;
};

void Observer::see_all_heads(const AllHeadsView& heads) {
  const std::int64_t prompt = heads.prompt, layer = heads.layer;
  const std::vector<GraphSpectrum>& graphs = heads.graphs;
  // Of all heads: finding an array by its name takes longer than filling it for one.
  const auto of_heads = [&](const char* name) { return arrays_.slots(name, {prompt, layer}); };
  const auto traces = of_heads(kTrace), lambda_max = of_heads(kLambdaMax), spectral_gap = of_heads(kSpectralGap),
             nullity = of_heads(kNullity), spectral_entropy = of_heads(kSpectralEntropy),
             graph_lambda_2 = of_heads(kGraphLambda2), log_partition = of_heads(kLogPartition),
             eigenvalues = of_heads(kGraphEigenvalues);
  const ThermodynamicsSlots non_zero(arrays_, kNonZero, prompt, layer), of_graph(arrays_, kOfGraph, prompt, layer);
  std::vector<SheafSummary> sheaves(graphs.size(), SheafSummary(beta_.size()));
  parallel_for(model_.num_heads, [&](std::int64_t head) {
    const c10::InferenceMode no_autograd;
    const auto h = static_cast<std::size_t>(head);
    sheaves[h] = summarize_sheaf(graphs[h].eigenvalues, *heads.values[h].levels, beta_);
  });
  double trace = 0, off_diagonal_sum = 0;
  for (std::size_t h = 0; h < graphs.size(); ++h) {
    const double norm = heads.values[h].frobenius_norm;
    traces[h] = graphs[h].off_diagonal_sum * norm * norm;
    lambda_max[h] = sheaves[h].lambda_max;
    spectral_gap[h] = sheaves[h].spectral_gap;
    nullity[h] = sheaves[h].nullity;
    spectral_entropy[h] = sheaves[h].spectral_entropy;
    graph_lambda_2[h] = sheaves[h].graph_lambda_2;
    set_row(log_partition, h, sheaves[h].log_partition);
    non_zero.set(h, sheaves[h].non_zero);
    of_graph.set(h, sheaves[h].graph);
    if (!eigenvalues.empty()) {  // rows as long as the batch's longest prompt
      const std::size_t width = eigenvalues.size() / static_cast<std::size_t>(model_.num_heads);
      std::copy(graphs[h].eigenvalues.begin(), graphs[h].eigenvalues.end(),
                eigenvalues.subspan(h * width, width).begin());
    }
    trace += traces[h];
    off_diagonal_sum += graphs[h].off_diagonal_sum;
  }
  arrays_.set(kTraceMultihead, {prompt, layer}, trace);
  // The mean over heads is linear: its off-diagonal sum is the mean of theirs.
  const double first = heads.values.front().frobenius_norm;
  arrays_.set(kTraceMeanAttention, {prompt, layer},
              off_diagonal_sum / static_cast<double>(model_.num_heads) * first * first);
  arrays_.set(kContractionRatio, {prompt, layer}, contraction_ratio(Device::to_host(heads.mean)));
}

class Sheaf final : public PromptAnalysis {
 public:
  Sheaf() : PromptAnalysis(sheaf_info()) {}

  Settings complete(const std::optional<JsonNode>& section) const override {
    Settings settings = Analysis::complete(section);
    const double from = settings.at(kBeta).at("from"), to = settings.at(kBeta).at("to");
    if (to < from || (settings.at(kBeta).at("count") > 1 && to <= from))
      throw section->at(kBeta).error("'to' must be larger than 'from'");
    return settings;
  }
  std::vector<Setting> deciding(const Settings& settings) const override {
    return {{"beta grid", kBeta, beta_grid(settings)}};
  }
  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    return {{info().dimensions[0], beta_grid(of.settings)}, {info().dimensions[1], counted(of.longest_prompt)}};
  }
  PromptWants wants() const override { return {.mean_attention = true, .graph_spectra = true, .value_spectra = true}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch&, const Settings& settings,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(model, settings, arrays);
  }
};

}  // namespace
}  // namespace sheaf

const Analysis& sheaf_analysis() {
  static const sheaf::Sheaf analysis;
  return analysis;
}

}  // namespace spectrace
