// Spectra of every query head's slice of the four attention matrices (docs/quantities.md, section 1).
#include "../matrix_spectra.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/singular_values.hpp"

namespace spectrace {
namespace heads {
namespace {

FactValues kv_head_of_head(const Circumstances& of) {
  std::vector<std::int64_t> kv_heads;
  for (std::int64_t h = 0; h < of.model.num_heads; ++h)
    kv_heads.push_back(static_cast<std::int64_t>(of.model.kv_head_of(QueryHead{h})));
  return kv_heads;
}

std::vector<Quantity> head_quantities() {
  const std::vector<std::string> head = {"layer", "matrix", "head"};
  return {
      {.name = spectral::kSingularValues,
       .dims = {"layer", "matrix", "head", "index"},
       .meaning = "Singular values of the head's slice, descending",
       .formula = "σᵢ of the slice, descending",
       .function = "singular_values"},
      {.name = spectral::kSpectralNorm,
       .dims = head,
       .meaning = "Largest singular value of the head's slice",
       .formula = "σ₁ of the slice",
       .function = "summarize_spectrum"},
      {.name = spectral::kFrobeniusNorm,
       .dims = head,
       .meaning = "Frobenius norm of the head's slice, from the entries",
       .formula = "‖W[h]‖_F, from the entries; of W_V it is the factor of the trace",
       .function = "entry_moments"},
      {.name = spectral::kEffectiveRank,
       .dims = head,
       .meaning = "exp of the entropy of the slice's singular values scaled to sum 1",
       .formula = "exp(−Σ p ln p), p = σ/Σσ",
       .function = "summarize_spectrum",
       .source = "Roy and Vetterli 2007"},
      {.name = spectral::kStableRank,
       .dims = head,
       .meaning = "Squared Frobenius norm over squared spectral norm of the slice",
       .formula = "‖W[h]‖_F²/σ₁²",
       .function = "summarize_spectrum"},
      {.name = spectral::kConditionNumber,
       .dims = head,
       .meaning = "Largest over smallest singular value of the slice; inf if the smallest is 0",
       .formula = "σ₁/σ_min; inf if σ_min = 0",
       .function = "summarize_spectrum"},
  };
}

AnalysisInfo heads_info() {
  return {
      .name = "heads",
      .meaning = "The same of every query head's slice of these matrices.",
      .place = 20,
      .numerics_version = 2,
      .group = "/heads",
      .quantities = head_quantities(),
      .dimensions = {{"matrix", "Attention matrix"}},
      .facts = {{{.name = kKvHeadOfHead,
                  .dims = {"head"},
                  .meaning = "Key/value head that the query head uses",
                  .formula = "g(h) = ⌊h·K/H⌋",
                  .function = "kv_head_of"},
                 kv_head_of_head}},
  };
}

class Heads final : public LayerAnalysis {
 public:
  Heads() : LayerAnalysis(heads_info()) {}

  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    return {matrix_dimension(attention_roles(), info().dimensions.front().meaning),
            {{"index"}, counted(head_index_size(of.model, of.slicing))}};
  }
  std::string lacks_by_family(const FamilyLimits& limits) const override { return limits.no_heads; }
  MatrixRoles needs(const ModelDescription&) const override { return attention_roles(); }
  bool needs_value_spectra() const override { return true; }
  double flops(const ModelDescription& model) const override {
    const auto slices = static_cast<double>(2 * model.num_heads + 2 * model.num_kv_heads);
    return slices * singular_values_flops(model.head_dim, model.hidden_size);
  }
  /// Less than the whole matrices take.
  std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const override {
    return spectra_workspace_bytes(shapes_of(model, attention_roles()), num_layers);
  }
  Record measure(const LayerView& layer) const override;
};

/// A head's slice of a matrix. Of W_V by the slicing's rows; of the others as the model has them.
Tensor head_slice(const LayerView& layer, MatrixRole role, std::int64_t head,
                  const std::vector<RowRange>& rows_of_values) {
  const Tensor& w = layer.matrices.at(role);
  const std::int64_t d = layer.model.head_dim;
  if (role == MatrixRole::w_v) {
    const RowRange rows = rows_of_values[static_cast<std::size_t>(head)];
    return w.narrow(0, rows.first, rows.count);
  }
  const bool is_of_group = info(role).heads == HeadsOf::kv;
  const std::int64_t which = is_of_group ? static_cast<std::int64_t>(layer.model.kv_head_of(QueryHead{head})) : head;
  return w.narrow(info(role).axis == HeadAxis::rows ? 0 : 1, which * d, d);
}

Record Heads::measure(const LayerView& layer) const {
  const ModelDescription& model = layer.model;
  const std::int64_t heads = model.num_heads;
  const auto num_matrices = static_cast<std::int64_t>(kAttentionRoles.size());
  Record record;
  make_arrays(record, {spectral::kSingularValues}, {num_matrices, heads, head_index_size(model, layer.slicing)});
  make_arrays(record,
              {spectral::kSpectralNorm, spectral::kFrobeniusNorm, spectral::kEffectiveRank, spectral::kStableRank,
               spectral::kConditionNumber},
              {num_matrices, heads});

  // W_V is solved already; W_K once a key/value head, copied to the query heads that use it.
  struct Solved {
    std::vector<double> singular;
    SpectralSummary summary;
  };
  std::vector<Solved> solved(static_cast<std::size_t>(num_matrices * heads));
  const std::vector<RowRange> rows_of_values = value_rows(model, layer.matrices.at(MatrixRole::w_v), layer.slicing);
  const auto group_of = [&](std::int64_t h) { return model.kv_head_of(QueryHead{h}); };
  const auto is_first_of_group = [&](std::int64_t h) { return h == 0 || group_of(h) != group_of(h - 1); };
  parallel_for(num_matrices * heads, [&](std::int64_t task) {
    const MatrixRole role = kAttentionRoles[static_cast<std::size_t>(task / heads)];
    const std::int64_t head = task % heads;
    if (role == MatrixRole::w_k && !is_first_of_group(head)) return;
    const Tensor slice = head_slice(layer, role, head, rows_of_values);
    auto& slot = solved[static_cast<std::size_t>(task)];
    const auto& value = layer.values[static_cast<std::size_t>(head)];
    slot.singular = value.singular_values;
    double frobenius = value.frobenius_norm;
    if (role != MatrixRole::w_v)
      of_matrix(spectrace::info(role).name + (" of head " + std::to_string(head)), [&] {
        slot.singular = singular_values(slice).values;
        frobenius = entry_moments(slice).frobenius_norm;
      });
    slot.summary = summarize_spectrum(slot.singular, frobenius, slice.size(0), slice.size(1));
  });
  const auto first_of_keys = static_cast<std::int64_t>(MatrixRole::w_k) * heads;
  for (std::int64_t h = 1; h < heads; ++h)
    if (!is_first_of_group(h))
      solved[static_cast<std::size_t>(first_of_keys + h)] = solved[static_cast<std::size_t>(first_of_keys + h - 1)];

  for (std::size_t slot = 0; slot < solved.size(); ++slot) {
    store_values(record, spectral::kSingularValues, slot, solved[slot].singular);
    store_summary(record, slot, solved[slot].summary);
  }
  return record;
}

}  // namespace
}  // namespace heads

const Analysis& heads_analysis() {
  static const heads::Heads analysis;
  return analysis;
}

}  // namespace spectrace
