#include "../parts/llama_like.hpp"

namespace spectrace {

namespace {

/// Parameters are stored as vectors of one number, buffers as numbers.
XieluSource xielu_source(const SourceNames& names, const std::string& base) {
  const auto buffer = [&](const char* name) {
    TensorSource source = names.vector(base + name, {1, "hidden_act"});
    source.shape.clear();
    return source;
  };
  const auto parameter = [&](const char* name) { return names.vector(base + name, {1, "hidden_act"}); };
  return {parameter("alpha_p"), parameter("alpha_n"), buffer("beta"), buffer("eps")};
}

}  // namespace

/// Apertus (Swiss AI 2025, arXiv:2509.14233): Llama with norms on each head's query and key, and a plain MLP whose
/// activation, xIELU, has two parameters in each layer.
ModelDescription describe_apertus(ConfigFields& fields, const TensorStore& store) {
  LlamaLike llama = read_llama_like(
      fields, {.activation = "xielu", .has_xielu = true, .epsilon = 1e-5, .max_positions = 65536, .gated_mlp = false});
  const RopeFields rope_fields{
      .default_theta = 12e6,
      .default_settings = R"({"rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "low_freq_factor": 1.0,
                              "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"};
  set_attention(llama, read_rope(fields, rope_fields, llama.model.head_dim, llama.model.max_positions));
  const LlamaBiases biases = read_attention_biases(fields);
  if (!fields.flag("qk_norm", true))
    throw fields.json().error("the field 'qk_norm' is false", "transformers' class has these norms always");
  fields.refuse_if_set("post_norm", "the norms lie before attention and MLP");
  const bool tied = fields.tied(false);

  const SourceNames names = llama_names(store);
  for (std::int64_t i = 0; i < llama.model.num_layers; ++i) {
    const std::string base = layer_base(i);
    LayerSources layer = llama_layer(llama, names, i, biases);
    layer.attention_input_norm = names.norm(base + "attention_layernorm", llama.hidden, Bias::no);
    layer.mlp_input_norm = names.norm(base + "feedforward_layernorm", llama.hidden, Bias::no);
    set_head_norms(layer, llama, names, base + "self_attn.q_norm", base + "self_attn.k_norm");
    if (llama.model.block.activation == Activation::xielu) layer.xielu = xielu_source(names, base + "mlp.act_fn.");
    llama.model.layers.push_back(layer);
  }
  set_llama_embedding(llama, names, tied);
  return llama.model;
}

FamilyClass class_of_apertus() { return {"ApertusForCausalLM"}; }

}  // namespace spectrace
