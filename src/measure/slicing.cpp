#include "spectrace/measure/slicing.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// The fused matrix of NeoX and BLOOM as it is stored: rows [head, {q, k, v}, d].
Tensor stored_fused_qkv(const ModelDescription& model, const AttentionWeights& weights) {
  const auto heads = model.num_heads, d = model.head_dim, hidden = model.hidden_size;
  const auto per_head = [&](const Tensor& w) { return w.reshape({heads, 1, d, hidden}); };
  return at::cat({per_head(weights.w_q), per_head(weights.w_k), per_head(weights.w_v)}, 1)
      .reshape({3 * heads * d, hidden});
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

SlicedWeights slice_weights(const ModelDescription& model, const AttentionWeights& weights, Slicing slicing) {
  SlicedWeights sliced;
  sliced.matrices = {weights.w_q, weights.w_k, weights.w_v, weights.w_o};
  if (slicing != Slicing::correct && model.fused_qkv_per_head) {
    const Tensor fused = stored_fused_qkv(model, weights);
    const std::int64_t third = fused.size(0) / 3;
    for (int i = 0; i < 3; ++i) sliced.matrices[static_cast<std::size_t>(i)] = fused.narrow(0, i * third, third);
  }
  for (Tensor& matrix : sliced.matrices) matrix = rounded(matrix, slicing);
  for (std::int64_t h = 0; h < model.num_heads; ++h) {
    if (slicing == Slicing::correct) {
      const auto group = static_cast<std::int64_t>(model.kv_head_of(QueryHead{h}));
      sliced.value_rows.push_back({group * model.head_dim, model.head_dim});
    } else {
      const std::int64_t height = model.hidden_size / model.num_heads, rows = sliced.matrices[2].size(0);
      const std::int64_t first = std::min(h * height, rows);
      sliced.value_rows.push_back({first, std::min(height, rows - first)});
    }
  }
  return sliced;
}

std::int64_t head_index_size(const ModelDescription& model, Slicing slicing) {
  return slicing == Slicing::correct ? model.head_dim : std::max(model.head_dim, model.hidden_size / model.num_heads);
}

}  // namespace spectrace
