#include "../config_fields.hpp"
#include "../sources.hpp"

namespace spectrace {
namespace {

bool is_local(const JsonNode& word) {
  if (word.as_string() != "global" && word.as_string() != "local")
    throw word.error("unknown kind of attention '" + word.as_string() + "'", "known: 'global', 'local'");
  return word.as_string() == "local";
}

/// True for "local", per layer: from attention_layers ["global", "local", …], or from attention_types
/// [[["global", "local"], 12]], the words, repeated. Where both are there the first counts, as in transformers.
std::vector<bool> local_layers(ConfigFields& fields, std::int64_t num_layers) {
  std::vector<bool> local;
  const auto layers = fields.find("attention_layers"), types = fields.find("attention_types");
  if (layers) {
    layers->for_each([&](const JsonNode& word) { local.push_back(is_local(word)); });
  } else if (types) {
    types->for_each([&](const JsonNode& item) {
      const JsonNode words = item.element(0), repeats = item.element(1);
      if (words.size() == 0) throw words.error("is empty", "expected words that are repeated");
      // More than the layers is wrong already, however many more.
      for (std::int64_t i = 0; i < repeats.as_int() && std::cmp_less_equal(local.size(), num_layers); ++i)
        words.for_each([&](const JsonNode& word) { local.push_back(is_local(word)); });
    });
  } else {
    for (std::int64_t i = 0; i < 24; ++i) local.push_back(i % 2 == 1);
  }
  if (std::cmp_not_equal(local.size(), num_layers))
    throw fields.json().error("attention_types or attention_layers describes " + std::to_string(local.size()) +
                              " layers, num_layers is " + std::to_string(num_layers));
  return local;
}

}  // namespace

/// GPT-Neo (Black et al. 2021): GPT-2 with split q k v without biases, scores that are not scaled, and a window in
/// every other layer.
ModelDescription describe_gpt_neo(ConfigFields& fields, const TensorStore& store) {
  const Dim hidden{fields.size({"hidden_size"}), "hidden_size"};
  const Dim vocab{fields.size({"vocab_size"}), "vocab_size"};
  const Dim positions{fields.size({"max_position_embeddings"}), "max_position_embeddings"};
  const Dim inner{fields.size_or({"intermediate_size"}, 4 * hidden.size), "intermediate_size"};

  ModelDescription model;
  model.num_layers = fields.layers({"num_layers", "num_hidden_layers"});
  model.num_heads = model.num_kv_heads = fields.heads({"num_heads", "num_attention_heads"});
  model.head_dim = fields.divided_head_dim(hidden.size, model.num_heads);
  model.hidden_size = hidden.size;
  model.vocab_size = vocab.size;
  model.intermediate_size = inner.size;
  model.max_positions = positions.size;
  model.positions_are_limited = true;
  model.norm_placement = "pre";
  model.position_encoding = "learned";
  model.block.norm = {NormKind::layer_norm, fields.epsilon("layer_norm_epsilon", 1e-5), 0.0};
  model.block.activation = fields.activation({"activation_function"}, "gelu_new");
  const auto local = local_layers(fields, model.num_layers);
  const std::int64_t window = fields.count_or({"window_size"}, 256);
  const bool tied = fields.tied(true);

  const SourceNames names(store, {"transformer.", ""}, "wte.weight");
  for (std::int64_t i = 0; i < model.num_layers; ++i) {
    AttentionSpec attention;
    if (local[static_cast<std::size_t>(i)]) attention.sliding_window = window;
    model.attention.push_back(attention);

    const std::string base = "h." + std::to_string(i) + ".";
    LayerSources layer;
    layer.w_q = names.linear(base + "attn.attention.q_proj", hidden, hidden, Bias::no);
    layer.w_k = names.linear(base + "attn.attention.k_proj", hidden, hidden, Bias::no);
    layer.w_v = names.linear(base + "attn.attention.v_proj", hidden, hidden, Bias::no);
    layer.w_o = names.linear(base + "attn.attention.out_proj", hidden, hidden, Bias::yes);
    layer.attention_input_norm = names.norm(base + "ln_1", hidden, Bias::yes);
    layer.mlp_input_norm = names.norm(base + "ln_2", hidden, Bias::yes);
    layer.mlp_up = names.linear(base + "mlp.c_fc", inner, hidden, Bias::yes);
    layer.mlp_down = names.linear(base + "mlp.c_proj", hidden, inner, Bias::yes);
    model.layers.push_back(layer);
  }
  model.embedding.token = names.matrix("wte.weight", vocab, hidden);
  model.embedding.position = names.matrix("wpe.weight", positions, hidden);
  model.embedding.final_norm = names.norm("ln_f", hidden, Bias::yes);
  names.unembedding(model.embedding, {"lm_head.weight"}, tied, vocab, hidden);
  return model;
}

FamilyClass class_of_gpt_neo() { return {"GPTNeoForCausalLM"}; }

}  // namespace spectrace
