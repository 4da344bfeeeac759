// The token graph of every head beyond its Laplacian's spectrum (docs/quantities.md, section 4).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/analysis.hpp"
#include "spectrace/numerics/attention_graph.hpp"
#include "spectrace/numerics/device.hpp"
#include "spectrace/numerics/sheaf_spectrum.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/token_geometry.hpp"

namespace spectrace {
namespace graph {
namespace {

constexpr const char *kDirectedMean = "directed_laplacian_mean", *kDirectedMax = "directed_laplacian_max",
                     *kDirectedTop = "directed_laplacian_top", *kGraphRatio = "graph_spacing_ratio",
                     *kGraphLevels = "graph_num_levels", *kSheafRatio = "sheaf_spacing_ratio",
                     *kSheafLevels = "sheaf_num_levels", *kDirichletEnergy = "dirichlet_energy",
                     *kSpectralNorm = "attention_spectral_norm", *kEffectiveRank = "attention_effective_rank";
constexpr const char* kTop = "top";
constexpr std::int64_t kNumTop = 10;

std::vector<Quantity> graph_quantities() {
  const auto of_head = [](const char* name, const char* meaning, const char* formula, const char* function,
                          const char* source = "") {
    return Quantity{.name = name,
                    .dims = {"prompt", "layer", "head"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = function,
                    .source = source};
  };
  const char *const directed = "directed_laplacian_diagonal", *const laplacian = "Binkowski et al. 2025",
                    *const spacing = "Oganesyan and Huse 2007";
  std::vector<Quantity> quantities = {
      of_head(kDirectedMean, "Mean diagonal entry of the directed Laplacian, whose eigenvalues these are",
              "mean over i of Σᵤ Aᵤᵢ/(n − i) − Aᵢᵢ", directed, laplacian),
      of_head(kDirectedMax, "Largest diagonal entry of the directed Laplacian", "max over i of Σᵤ Aᵤᵢ/(n − i) − Aᵢᵢ",
              directed, laplacian),
      of_head(kDirectedTop, "The ten largest diagonal entries of the directed Laplacian; NaN past the last",
              "the ten largest Σᵤ Aᵤᵢ/(n − i) − Aᵢᵢ, descending", directed, laplacian),
      of_head(kGraphRatio,
              "Mean ratio of neighbouring spacings of the non-zero eigenvalues of the token graph's Laplacian; NaN for "
              "fewer than 3",
              "mean of min(s, s′)/max(s, s′) over neighbouring spacings of the non-zero μ that are apart by more than "
              "their error",
              "level_spacing", spacing),
      of_head(kGraphLevels, "Non-zero eigenvalues of the token graph's Laplacian that differ by more than their error",
              "number of non-zero μ that are apart by more than their error", "level_spacing"),
      of_head(kSheafRatio,
              "Mean ratio of neighbouring spacings of the sheaf Laplacian's non-zero eigenvalues; NaN for fewer than 3",
              "the same of the non-zero λ = μσ²", "level_spacing", spacing),
      of_head(kSheafLevels, "Non-zero eigenvalues of the sheaf Laplacian that differ by more than their error",
              "number of non-zero λ = μσ² that are apart by more than their error", "level_spacing"),
      of_head(kDirichletEnergy,
              "Dirichlet energy of the vectors that enter the block on the token graph, over twice their squares' sum",
              "Σᵢⱼ wᵢⱼ‖hᵢ − hⱼ‖²/(2 Σ‖hᵢ‖²) = tr(Hᵀ L_G H)/tr(HᵀH), hᵢ: what enters the block", "dirichlet_energy"),
      of_head(kSpectralNorm, "Largest singular value of the attention matrix", "σ₁ of A", "attention_rank"),
      of_head(kEffectiveRank, "exp of the entropy of the attention matrix' singular values scaled to sum 1",
              "exp(−Σ p ln p), p = σ/Σσ of A", "attention_rank", "Roy and Vetterli 2007"),
  };
  quantities[2].dims.emplace_back(kTop);
  quantities[2].keep = Keep::if_asked;
  return quantities;
}

AnalysisInfo graph_info() {
  return {
      .name = "graph",
      .meaning =
          "Every head's token graph: directed Laplacian, level spacing, Dirichlet energy, rank of the attention.",
      .place = 55,
      .is_default = false,
      .quantities = graph_quantities(),
      .dimensions = {{kTop, "Place among the largest, from 0"}},
  };
}

/// Runs of `length` numbers that ascend, merged two by two.
std::vector<double> merged(std::vector<double> runs, std::size_t length) {
  std::vector<double> next(runs.size());
  for (; length < runs.size(); length *= 2) {
    for (std::size_t begin = 0; begin < runs.size(); begin += 2 * length) {
      const auto at = [&](std::size_t place) {
        return runs.begin() + static_cast<std::ptrdiff_t>(std::min(place, runs.size()));
      };
      std::merge(at(begin), at(begin + length), at(begin + length), at(begin + 2 * length),
                 next.begin() + static_cast<std::ptrdiff_t>(begin));
    }
    runs.swap(next);
  }
  return runs;
}

class Observer final : public PromptObserver {
 public:
  Observer(const ModelDescription& model, const TokenBatch& batch, PromptArrays& arrays)
      : model_(model), batch_(batch), arrays_(arrays), entering_(static_cast<std::size_t>(batch.num_prompts())) {}

  void see_entering(std::int64_t, const Tensor& hidden) override {
    parallel_for(batch_.num_prompts(), [&](std::int64_t p) {
      const RowRange of_prompt = batch_.rows_of(p);
      const Tensor rows = hidden.narrow(0, of_prompt.first, of_prompt.count);
      Entering& entering = entering_[static_cast<std::size_t>(p)];
      entering.distances = squared_distances(rows);
      entering.sum_of_squares = rows.to(at::kDouble).square().sum().item<double>();
    });
  }

  void see_heads(const HeadsView& heads) override {
    const Tensor here = Device::to_host(heads.a);
    const Entering& entering = entering_[static_cast<std::size_t>(heads.prompt)];
    struct OfHead {
      std::vector<double> directed;
      double energy = 0;
      AttentionRank rank;
    };
    std::vector<OfHead> found(static_cast<std::size_t>(here.size(0)));
    parallel_for(here.size(0), [&](std::int64_t head) {
      const Tensor a = here.select(0, head);
      OfHead& of_head = found[static_cast<std::size_t>(head)];
      of_head.directed = directed_laplacian_diagonal(a);
      of_head.energy = dirichlet_energy(a, entering.distances, entering.sum_of_squares);
      of_head.rank = attention_rank(a);
    });
    for (std::size_t h = 0; h < found.size(); ++h) {
      const std::int64_t head = heads.first_head + static_cast<std::int64_t>(h);
      put_directed(heads.prompt, heads.layer, head, std::move(found[h].directed));
      arrays_.set(kDirichletEnergy, {heads.prompt, heads.layer, head}, found[h].energy);
      arrays_.set(kSpectralNorm, {heads.prompt, heads.layer, head}, found[h].rank.spectral_norm);
      arrays_.set(kEffectiveRank, {heads.prompt, heads.layer, head}, found[h].rank.effective_rank);
    }
  }

  void see_all_heads(const AllHeadsView& heads) override {
    struct OfHead {
      LevelSpacing graph, sheaf;
    };
    std::vector<OfHead> found(heads.graphs.size());
    parallel_for(std::ssize(heads.graphs), [&](std::int64_t head) {
      const auto h = static_cast<std::size_t>(head);
      found[h] = {spacing_of_graph(heads.graphs[h].eigenvalues),
                  spacing_of_sheaf(heads.graphs[h].eigenvalues, heads.values[h])};
    });
    for (std::size_t h = 0; h < found.size(); ++h) {
      const auto head = static_cast<std::int64_t>(h);
      const auto set = [&](const char* quantity, double value) {
        arrays_.set(quantity, {heads.prompt, heads.layer, head}, value);
      };
      set(kGraphRatio, found[h].graph.mean_ratio);
      set(kGraphLevels, static_cast<double>(found[h].graph.num_levels));
      set(kSheafRatio, found[h].sheaf.mean_ratio);
      set(kSheafLevels, static_cast<double>(found[h].sheaf.num_levels));
    }
  }

 private:
  /// Of the vectors that enter the block.
  struct Entering {
    Tensor distances;  // [n, n]
    double sum_of_squares = 0;
  };

  void put_directed(std::int64_t prompt, std::int64_t layer, std::int64_t head, std::vector<double> diagonal) {
    const double sum = std::accumulate(diagonal.begin(), diagonal.end(), 0.0);
    arrays_.set(kDirectedMean, {prompt, layer, head}, sum / static_cast<double>(diagonal.size()));
    const auto top = arrays_.slots(kDirectedTop, {prompt, layer, head});
    const auto count = static_cast<std::ptrdiff_t>(std::min(top.size(), diagonal.size()));
    std::partial_sort(diagonal.begin(), diagonal.begin() + count, diagonal.end(), std::greater<>());
    std::copy(diagonal.begin(), diagonal.begin() + count, top.begin());
    arrays_.set(kDirectedMax, {prompt, layer, head}, diagonal.front());
  }

  /// Of the non-zero eigenvalues, as the sheaf has them.
  std::span<const double> non_zero(std::span<const double> values, std::size_t num_tokens) const {
    return non_zero_levels(values, std::max(static_cast<std::int64_t>(num_tokens), model_.hidden_size));
  }

  LevelSpacing spacing_of_graph(const std::vector<double>& mu) const {
    return level_spacing(non_zero(mu, mu.size()), graph_eigenvalue_error(std::ssize(mu), mu.back()));
  }

  LevelSpacing spacing_of_sheaf(const std::vector<double>& mu, const ValueSpectrum& values) const {
    const std::vector<double>& squares = values.levels->squares();
    if (squares.empty()) return {kNaN, 0};
    const auto of_graph = non_zero(mu, mu.size()), of_values = non_zero(squares, mu.size());
    std::vector<double> products;
    products.reserve(of_graph.size() * of_values.size());
    for (const double one : of_graph)
      for (const double square : of_values) products.push_back(one * square);
    const double largest = mu.back(), largest_square = squares.back();
    const double error = graph_eigenvalue_error(std::ssize(mu), largest) * largest_square +
                         largest * (2.0 * std::sqrt(largest_square) + values.error_bound) * values.error_bound;
    return level_spacing(merged(std::move(products), of_values.size()), error);
  }

  const ModelDescription& model_;
  const TokenBatch& batch_;
  PromptArrays& arrays_;
  std::vector<Entering> entering_;  // of each prompt
};

class Graph final : public PromptAnalysis {
 public:
  Graph() : PromptAnalysis(graph_info()) {}

  std::vector<DimensionValues> dimensions(const Circumstances&) const override {
    return {{info().dimensions[0], counted(kNumTop)}};
  }
  PromptWants wants() const override {
    return {.entering = true, .attention = true, .graph_spectra = true, .value_spectra = true};
  }
  /// Singular values of every head's attention; products of eigenvalues in order.
  double flops(const ModelDescription& model, std::int64_t num_tokens) const override {
    const auto n = static_cast<double>(num_tokens), levels = n * static_cast<double>(model.head_dim);
    return static_cast<double>(model.num_heads) *
               (singular_values_flops(num_tokens, num_tokens) + 5 * levels * std::log2(n + 1)) +
           2 * n * n * static_cast<double>(model.hidden_size);
  }
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_tokens,
                               const Device& device) const override {
    const bool has_all_threads = !device.is_host() || has_long_attention(model, num_tokens);
    const std::int64_t heads = std::min<std::int64_t>(model.num_heads, has_all_threads ? num_threads() : 1);
    return heads * bytes_of_head(model, num_tokens) + bytes_of_prompt(model, num_tokens);
  }
  std::int64_t least_bytes(const ModelDescription& model, std::int64_t num_tokens) const override {
    return bytes_of_head(model, num_tokens) + bytes_of_prompt(model, num_tokens);
  }
  std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch& batch, const Settings&,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(model, batch, arrays);
  }

 private:
  static std::int64_t bytes_of_head(const ModelDescription& model, std::int64_t num_tokens) {
    return std::max(singular_values_bytes(num_tokens, num_tokens), 2 * 8 * num_tokens * model.head_dim);
  }
  static std::int64_t bytes_of_prompt(const ModelDescription& model, std::int64_t num_tokens) {
    return 8 * num_tokens * (num_tokens + model.hidden_size);
  }
};

}  // namespace
}  // namespace graph

const Analysis& graph_analysis() {
  static const graph::Graph analysis;
  return analysis;
}

}  // namespace spectrace
