#include "../parts/gptj_like.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kBlocks = 4;  // TPU cores that a layer was spread over in training

/// [block, {q, v, k}, heads of the block, head_dim]
FusedRows codegen_rows(std::int64_t hidden_size) {
  const std::int64_t part = hidden_size / kBlocks;
  FusedRows rows;
  for (std::int64_t block = 0; block < kBlocks; ++block) {
    const std::int64_t first = 3 * part * block;
    rows.q.push_back({first, part});
    rows.v.push_back({first + part, part});
    rows.k.push_back({first + 2 * part, part});
  }
  return rows;
}

}  // namespace

/// CodeGen (Nijkamp et al. 2022, arXiv:2203.13474): GPT-J with q, v and k in one matrix of four blocks.
ModelDescription describe_codegen(ConfigFields& fields, const TensorStore& store) {
  GptjLike gptj = read_gptj_like(fields);
  if (gptj.model.num_heads % kBlocks != 0)
    throw fields.json().error(std::to_string(gptj.model.num_heads) + " heads are not a multiple of 4",
                              "from n_head; CodeGen's q, v and k lie in four blocks");
  const bool tied = fields.tied(false);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  const FusedRows rows = codegen_rows(gptj.hidden.size);
  for (std::int64_t i = 0; i < gptj.model.num_layers; ++i) {
    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer = gptj_layer(gptj, names, base);
    names.fused_qkv(layer, base + "attn.qkv_proj", 3 * gptj.hidden, gptj.hidden, Bias::no, rows);
    gptj.model.layers.push_back(layer);
  }
  set_gptj_embedding(gptj, names, tied);
  return gptj.model;
}

FamilyClass class_of_codegen() { return {"CodeGenForCausalLM"}; }

}  // namespace spectrace
