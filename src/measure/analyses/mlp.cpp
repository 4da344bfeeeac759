// Spectra of the matrices of every layer's MLP, of each expert where there are several (docs/quantities.md).
#include <algorithm>
#include <array>
#include <iterator>

#include "../matrix_spectra.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace mlp {
namespace {

constexpr const char* kExpert = "expert";
constexpr std::array kRoles = {MatrixRole::w_gate, MatrixRole::w_up, MatrixRole::w_down};

std::vector<Quantity> mlp_quantities() {
  std::vector<Quantity> quantities = matrix_quantities({"layer", kExpert, "matrix"});
  for (Quantity& quantity : quantities) quantity.optional_dim = kExpert;
  return quantities;
}

AnalysisInfo mlp_info() {
  return {
      .name = "mlp",
      .meaning = "Spectra and norms of W_gate, W_up and W_down of every layer, and of every expert.",
      .place = 27,
      .numerics_version = 2,
      .is_default = false,
      .matrices_name = "MLP matrices",
      .group = "/mlp",
      .quantities = mlp_quantities(),
      .dimensions = {{kExpert,
                      "Expert, where layers have several; shared: of every token; dense: of a layer without others"},
                     {"matrix", "Matrix of the MLP; W_gate of gated ones only"}},
      .ignores_slicing = "it is heads that the notebooks cut otherwise, and an MLP has none",
  };
}

/// Null if the expert has no such matrix.
const PartSource* part_of(const ExpertSources& expert, MatrixRole role) {
  if (role == MatrixRole::w_gate) return expert.gate ? &*expert.gate : nullptr;
  return role == MatrixRole::w_up ? &expert.up : &expert.down;
}

/// Along the dimension `expert`; none where no layer has several.
std::vector<std::string> expert_names(const ModelDescription& model) {
  std::vector<std::string> numbered, others;
  for (const LayerSources& layer : model.layers)
    for (const ExpertSources& expert : layer.experts) {
      auto& names = expert.name == "shared" || expert.name == "dense" ? others : numbered;
      if (&names == &numbered && std::stoull(expert.name) < numbered.size()) continue;
      if (std::find(names.begin(), names.end(), expert.name) == names.end()) names.push_back(expert.name);
    }
  std::sort(others.rbegin(), others.rend());  // those that are shared first
  numbered.insert(numbered.end(), others.begin(), others.end());
  return numbered;
}

bool has_experts(const ModelDescription& model) {
  return std::any_of(model.layers.begin(), model.layers.end(),
                     [](const LayerSources& layer) { return !layer.experts.empty(); });
}

/// Along the dimension `matrix`.
MatrixRoles roles_of(const ModelDescription& model) {
  if (!has_experts(model)) return roles_in(model, {kRoles.begin(), kRoles.end()});
  MatrixRoles roles;
  for (const MatrixRole role : kRoles)
    if (std::any_of(model.layers.begin(), model.layers.end(), [&](const LayerSources& layer) {
          return std::any_of(layer.experts.begin(), layer.experts.end(),
                             [&](const ExpertSources& expert) { return part_of(expert, role) != nullptr; });
        }))
      roles.push_back(role);
  return roles;
}

StoredMatrix stored_matrix(const ModelDescription& model, const PartSource& part, MatrixRole role) {
  const std::string& name = part.whole.tensor;
  const std::vector<std::int64_t>& shape = part.whole.shape;
  StoredMatrix matrix{.name = name, .tensor = name, .rows = part.num_rows(), .columns = part.num_columns()};
  // Of one that is absent the unit fails.
  if (const TensorInfo* tensor = model.find_tensor(name)) {
    matrix.type = tensor->type;
    matrix.exceeds_float32 = tensor->exceeds_float32();
  }
  matrix.slice = part.slice;
  if (part.slice) matrix.name += "[" + std::to_string(*part.slice) + "]";
  if (part.rows || part.columns) {
    matrix.name += std::string(" ") + spectrace::info(role).name;
    matrix.cut = MatrixCut{part.rows ? part.rows->first : 0, part.columns ? part.columns->first : 0, part.column_step,
                           shape[shape.size() - 2], shape.back()};
  }
  return matrix;
}

class Mlp final : public MatrixSpectra {
 public:
  Mlp() : MatrixSpectra(mlp_info()) {}

  /// Of a layer's one MLP: experts' matrices are too many to be in memory together (DeepSeek-V3: 45 GB a layer).
  MatrixRoles needs(const ModelDescription& model) const override {
    return has_experts(model) ? MatrixRoles() : roles_of(model);
  }
  std::vector<PlacedMatrix> matrices(const ModelDescription& model, const Settings&) const override;
  std::vector<DimensionValues> dimensions(const Circumstances& of) const override;

 private:
  std::string find_lack(const ModelDescription& model) const override {
    return roles_of(model).empty() ? "its blocks have no MLP" : "";
  }
};

std::vector<PlacedMatrix> Mlp::matrices(const ModelDescription& model, const Settings&) const {
  const std::vector<std::string> names = expert_names(model);
  const MatrixRoles roles = roles_of(model);
  const auto num_experts = static_cast<std::int64_t>(names.size()), num_roles = static_cast<std::int64_t>(roles.size());
  std::vector<PlacedMatrix> placed;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer)
    for (const ExpertSources& expert : model.layers[static_cast<std::size_t>(layer)].experts) {
      const std::int64_t slot = std::distance(names.begin(), std::find(names.begin(), names.end(), expert.name));
      for (std::int64_t i = 0; i < num_roles; ++i) {
        const MatrixRole role = roles[static_cast<std::size_t>(i)];
        if (const PartSource* part = part_of(expert, role))
          placed.push_back({(layer * num_experts + slot) * num_roles + i, stored_matrix(model, *part, role)});
      }
    }
  return placed;
}

std::vector<DimensionValues> Mlp::dimensions(const Circumstances& of) const {
  if (!has_experts(of.model)) return MatrixSpectra::dimensions(of);
  std::int64_t most = 0;
  for (const PlacedMatrix& placed : matrices(of.model, of.settings))
    most = std::max(most, placed.matrix.num_singular_values());
  return {{info().dimensions[0], expert_names(of.model)},
          matrix_dimension(roles_of(of.model), info().dimensions[1].meaning),
          {{"index"}, counted(most)}};
}

}  // namespace
}  // namespace mlp

const Analysis& mlp_analysis() {
  static const mlp::Mlp analysis;
  return analysis;
}

}  // namespace spectrace
