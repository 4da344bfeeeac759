#include "spectrace/measure/slicing.hpp"

#include <algorithm>
#include <array>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// The fused matrix of NeoX and BLOOM as it is stored: rows [head, {q, k, v}, d].
Tensor stored_fused_qkv(const ModelDescription& model, const LayerMatrices& matrices) {
  const auto heads = model.num_heads, d = model.head_dim, hidden = model.hidden_size;
  const auto per_head = [&](MatrixRole role) { return matrices.at(role).reshape({heads, 1, d, hidden}); };
  return at::cat({per_head(MatrixRole::w_q), per_head(MatrixRole::w_k), per_head(MatrixRole::w_v)}, 1)
      .reshape({3 * heads * d, hidden});
}

constexpr std::array kFusedRoles = {MatrixRole::w_q, MatrixRole::w_k, MatrixRole::w_v};

bool is_cut_in_thirds(const ModelDescription& model, Slicing slicing) {
  return slicing != Slicing::correct && model.fused_qkv_per_head;
}

}  // namespace

Slicing parse_slicing(const std::string& text) {
  if (text == "correct") return Slicing::correct;
  if (text == "as-published") return Slicing::as_published;
  if (text == "as-published-float16") return Slicing::as_published_float16;
  throw InputError(ErrorKind::usage, "unknown slicing '" + text + "'",
                   "allowed: correct, as-published, as-published-float16");
}

const char* name(Slicing slicing) {
  switch (slicing) {
    case Slicing::correct: return "correct";
    case Slicing::as_published: return "as-published";
    case Slicing::as_published_float16: break;
  }
  return "as-published-float16";
}

Tensor rounded(const Tensor& weights, Slicing slicing) {
  if (slicing != Slicing::as_published_float16) return weights;
  return weights.to(at::kHalf).to(weights.scalar_type());
}

MatrixRoles roles_to_slice(const ModelDescription& model, const MatrixRoles& roles, Slicing slicing) {
  MatrixRoles all = roles;
  const auto is_asked = [&](MatrixRole role) { return has_role(roles, role); };
  if (is_cut_in_thirds(model, slicing) && std::any_of(kFusedRoles.begin(), kFusedRoles.end(), is_asked))
    add_roles(all, {kFusedRoles.begin(), kFusedRoles.end()});
  return all;
}

LayerMatrices slice_matrices(const ModelDescription& model, const LayerMatrices& matrices, Slicing slicing) {
  LayerMatrices sliced = matrices;
  if (is_cut_in_thirds(model, slicing) && matrices.has(MatrixRole::w_v)) {
    const Tensor fused = stored_fused_qkv(model, matrices);
    const std::int64_t third = fused.size(0) / 3;
    std::int64_t first = 0;
    for (const MatrixRole role : kFusedRoles) {
      sliced.set(role, fused.narrow(0, first, third));
      first += third;
    }
  }
  for (std::size_t role = 0; role < kNumMatrixRoles; ++role)
    if (const auto which = static_cast<MatrixRole>(role); sliced.has(which))
      sliced.set(which, rounded(sliced.at(which), slicing));
  return sliced;
}

std::vector<RowRange> value_rows(const ModelDescription& model, const Tensor& sliced_w_v, Slicing slicing) {
  std::vector<RowRange> of_heads;
  for (std::int64_t h = 0; h < model.num_heads; ++h) {
    if (slicing == Slicing::correct) {
      const auto group = static_cast<std::int64_t>(model.kv_head_of(QueryHead{h}));
      of_heads.push_back({group * model.head_dim, model.head_dim});
    } else {
      const std::int64_t height = model.hidden_size / model.num_heads, rows = sliced_w_v.size(0);
      const std::int64_t first = std::min(h * height, rows);
      of_heads.push_back({first, std::min(height, rows - first)});
    }
  }
  return of_heads;
}

std::int64_t head_index_size(const ModelDescription& model, Slicing slicing) {
  return slicing == Slicing::correct ? model.head_dim : std::max(model.head_dim, model.hidden_size / model.num_heads);
}

}  // namespace spectrace
