// Spectra of what a head does with the residual stream: its output-value and its query-key map (docs/quantities.md).
#include <algorithm>
#include <array>

#include "../matrix_spectra.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/low_rank_product.hpp"

namespace spectrace {
namespace circuits {
namespace {

constexpr const char* kElhage = "Elhage et al. 2021";
constexpr const char *kPositivity = "ov_eigenvalue_positivity", *kRadius = "ov_spectral_radius",
                     *kBackwardError = "ov_eigenvalue_backward_error";

/// A map of the residual stream to itself: left right^T.
struct Circuit {
  const char* prefix;
  const char* name;   ///< for messages and meanings
  const char* map;    ///< in formulas
  MatrixRole left;    ///< of a query head
  MatrixRole right;   ///< of its key/value head
  FactorParts parts;  ///< the entries too, if it has eigenvalues
};
constexpr std::array<Circuit, 2> kCircuits = {
    {{"ov_", "output-value map", "W_O[h] W_V[g(h)]", MatrixRole::w_o, MatrixRole::w_v, FactorParts::entries_too},
     {"qk_", "query-key form", "W_Q[h]ᵀ W_K[g(h)]", MatrixRole::w_q, MatrixRole::w_k, FactorParts::triangle}}};

/// Its rank at most: the singular values that are stored.
std::int64_t rank_of(const ModelDescription& model) { return std::min(model.head_dim, model.hidden_size); }

std::vector<Quantity> quantities_of(const Circuit& circuit) {
  const std::string map = circuit.name, of_map = " of the head's " + map;
  const auto named = [&](const char* name) { return circuit.prefix + std::string(name); };
  const auto of_head = [&](const char* name, const std::string& meaning, const std::string& formula) {
    return Quantity{.name = named(name),
                    .dims = {"layer", "head"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = "product_spectrum",
                    .source = kElhage};
  };
  std::vector<Quantity> quantities = {
      of_head(spectral::kSingularValues, "Singular values" + of_map + ", descending: those that may differ from 0",
              std::string("the largest σᵢ of ") + circuit.map + ", as many as its rank can be, descending"),
      of_head(spectral::kSingularValueError, "Absolute error bound that holds for every singular value" + of_map,
              "bound of |computed − exact| for every σᵢ of the map"),
      of_head(spectral::kSpectralNorm, "Largest singular value" + of_map, "σ₁"),
      of_head(spectral::kFrobeniusNorm, "Frobenius norm" + of_map + ", from its singular values", "√Σ σᵢ²"),
      of_head(spectral::kEffectiveRank,
              "exp of the entropy of the singular values" + of_map + " scaled to sum 1; NaN of a zero map",
              "exp(−Σ p ln p), p = σ/Σσ"),
      of_head(spectral::kStableRank,
              "Squared Frobenius norm over squared spectral norm" + of_map + "; NaN of a zero map", "Σ σᵢ²/σ₁²"),
  };
  quantities.front().dims.push_back("index");
  return quantities;
}

std::vector<Quantity> quantities_of_eigenvalues() {
  const auto of_head = [](const char* name, const char* meaning, const char* formula) {
    return Quantity{.name = name,
                    .dims = {"layer", "head"},
                    .meaning = meaning,
                    .formula = formula,
                    .function = "product_eigenvalues",
                    .source = kElhage};
  };
  return {
      of_head(kPositivity,
              "Sum of real parts over sum of absolute values of the eigenvalues of the head's output-value map: 1 "
              "copies, -1 inverts; NaN if all are 0",
              "Σ Re λ/Σ |λ| of the eigenvalues of W_V[g(h)] W_O[h], which are those of W_O[h] W_V[g(h)] without its "
              "zeros"),
      of_head(kRadius, "Largest absolute eigenvalue of the head's output-value map", "max |λ| of these"),
      of_head(
          kBackwardError,
          "Bound of the distance, in the 2-norm, to a matrix that has the computed eigenvalue, for each eigenvalue of "
          "W_V W_O",
          "ε: each computed λ is an exact one of W_V[g(h)] W_O[h] + E with ‖E‖₂ ≤ ε"),
  };
}

std::vector<Quantity> circuit_quantities() {
  std::vector<Quantity> all;
  for (const auto& some : {quantities_of(kCircuits[0]), quantities_of(kCircuits[1]), quantities_of_eigenvalues()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

AnalysisInfo circuits_info() {
  return {
      .name = "circuits",
      .meaning = "Spectra of every head's output-value and query-key maps, and whether it copies.",
      .place = 25,
      .numerics_version = 2,
      .is_default = false,
      .group = "/circuits",
      .quantities = circuit_quantities(),
      .ignores_slicing = "the maps are products of slices that belong together as the model uses them",
  };
}

class Circuits final : public LayerAnalysis {
 public:
  Circuits() : LayerAnalysis(circuits_info()) {}

  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    return {{{"index"}, counted(rank_of(of.model))}};
  }
  std::string lacks_by_family(const FamilyLimits& limits) const override { return limits.no_heads; }
  MatrixRoles needs(const ModelDescription&) const override { return attention_roles(); }
  double flops(const ModelDescription& model) const override {
    const auto heads = static_cast<double>(model.num_heads), groups = static_cast<double>(model.num_kv_heads);
    const std::int64_t hidden = model.hidden_size, d = model.head_dim;
    return 2 * (heads + groups) * factorize_flops(hidden, d) + 2 * heads * product_spectrum_flops(d) +
           heads * product_eigenvalues_flops(hidden, d);
  }
  /// Factors of all key/value heads of each layer, and of each thread those of one query head at work.
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const override {
    const std::int64_t hidden = model.hidden_size, d = model.head_dim;
    std::int64_t of_groups = 0;
    for (const Circuit& circuit : kCircuits)
      of_groups += model.num_kv_heads * thin_factor_bytes(hidden, d, circuit.parts);
    return num_layers * of_groups +
           num_threads() * (thin_factor_bytes(hidden, d, FactorParts::entries_too) + low_rank_product_bytes(hidden, d));
  }
  Record measure(const LayerView& layer) const override;
};

/// A head's slice, [hidden_size, head_dim].
Tensor tall_slice(const LayerView& layer, MatrixRole role, std::int64_t head) {
  const std::int64_t d = layer.model.head_dim;
  const Tensor& w = layer.matrices.at(role);
  return info(role).axis == HeadAxis::rows ? w.narrow(0, head * d, d).t() : w.narrow(1, head * d, d);
}

std::string of_head(MatrixRole role, std::int64_t head) {
  return std::string(info(role).name) + " of " + (info(role).heads == HeadsOf::kv ? "key/value head " : "head ") +
         std::to_string(head);
}

/// Of each circuit and key/value head: query heads share them. [circuits * num_kv_heads]
std::vector<ThinFactor> right_factors(const LayerView& layer) {
  const std::int64_t groups = layer.model.num_kv_heads;
  std::vector<ThinFactor> factors(kCircuits.size() * static_cast<std::size_t>(groups));
  parallel_for(static_cast<std::int64_t>(factors.size()), [&](std::int64_t task) {
    const Circuit& circuit = kCircuits[static_cast<std::size_t>(task / groups)];
    const std::int64_t group = task % groups;
    factors[static_cast<std::size_t>(task)] = of_matrix(of_head(circuit.right, group), [&] {
      return factorize(tall_slice(layer, circuit.right, group), circuit.parts);
    });
  });
  return factors;
}

struct Solved {
  ProductSpectrum spectrum;
  ProductEigenvalues eigenvalues = {};  ///< of the output-value map
};

Solved solve(const LayerView& layer, const Circuit& circuit, std::int64_t head, const ThinFactor& right) {
  const std::string name = std::string(circuit.name) + " of head " + std::to_string(head);
  return of_matrix(name, [&] {
    const ThinFactor left = of_matrix(of_head(circuit.left, head),
                                      [&] { return factorize(tall_slice(layer, circuit.left, head), circuit.parts); });
    Solved solved{product_spectrum(left, right)};
    if (circuit.parts == FactorParts::entries_too) solved.eigenvalues = product_eigenvalues(left, right);
    return solved;
  });
}

void store(Record& record, const Circuit& circuit, std::size_t head, const ProductSpectrum& product) {
  const auto named = [&](const char* name) { return circuit.prefix + std::string(name); };
  const auto set = [&](const char* name, double value) { record.arrays.at(named(name)).values.at(head) = value; };
  store_values(record, named(spectral::kSingularValues).c_str(), head, product.singular.values);
  set(spectral::kSingularValueError, product.singular.error_bound);
  set(spectral::kSpectralNorm, product.summary.spectral_norm);
  set(spectral::kFrobeniusNorm, product.summary.frobenius_norm);
  set(spectral::kEffectiveRank, product.summary.effective_rank);
  set(spectral::kStableRank, product.summary.stable_rank);
}

Record Circuits::measure(const LayerView& layer) const {
  const ModelDescription& model = layer.model;
  const std::int64_t heads = model.num_heads;
  const std::vector<ThinFactor> right = right_factors(layer);
  std::vector<Solved> solved(kCircuits.size() * static_cast<std::size_t>(heads));
  parallel_for(static_cast<std::int64_t>(solved.size()), [&](std::int64_t task) {
    const std::int64_t circuit = task / heads, head = task % heads;
    const auto group = static_cast<std::int64_t>(model.kv_head_of(QueryHead{head}));
    solved[static_cast<std::size_t>(task)] =
        solve(layer, kCircuits[static_cast<std::size_t>(circuit)], head,
              right[static_cast<std::size_t>(circuit * model.num_kv_heads + group)]);
  });

  Record record;
  for (const Quantity& quantity : info().quantities) {
    const bool is_spectrum = quantity.dims.back() == "index";
    make_arrays(record, {quantity.name.c_str()}, is_spectrum ? std::vector{heads, rank_of(model)} : std::vector{heads});
  }
  for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
    for (std::size_t circuit = 0; circuit < kCircuits.size(); ++circuit)
      store(record, kCircuits[circuit], head, solved[circuit * static_cast<std::size_t>(heads) + head].spectrum);
    const ProductEigenvalues& eigenvalues = solved[head].eigenvalues;
    record.arrays.at(kPositivity).values[head] = eigenvalues.positivity;
    record.arrays.at(kRadius).values[head] = eigenvalues.spectral_radius;
    record.arrays.at(kBackwardError).values[head] = eigenvalues.backward_error;
  }
  return record;
}

}  // namespace
}  // namespace circuits

const Analysis& circuits_analysis() {
  static const circuits::Circuits analysis;
  return analysis;
}

}  // namespace spectrace
