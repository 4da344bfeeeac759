#include "spectrace/model/adapter.hpp"

#include <gtest/gtest.h>

#include "checkpoint_case.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

void keep(Json&) {}

/// Whether the text holds every one of the parts.
template <typename... Parts>
::testing::AssertionResult holds(const std::string& text, const Parts&... parts) {
  for (const std::string& part : {std::string(parts)...})
    if (text.find(part) == std::string::npos)
      return ::testing::AssertionFailure() << "no \"" << part << "\" in \"" << text << "\"";
  return ::testing::AssertionSuccess();
}

TEST(DescribeModelTest, absent_tensors_are_named_all_at_once) {
  const ChangedCase changed("gpt2", keep, [](Json& header) {
    rename_key(header, "transformer.h.1.ln_2.bias", "other.bias");
    rename_key(header, "transformer.ln_f.weight", "other.weight");
  });
  EXPECT_TRUE(holds(changed.error(), "tensor 'transformer.h.1.ln_2.bias' is absent",
                    "tensor 'transformer.ln_f.weight' is absent"));
}

TEST(DescribeModelTest, wrong_shape_tells_both_shapes_and_the_config_keys) {
  const ChangedCase changed("opt", [](Json& config) { config["ffn_dim"] = 29; });
  EXPECT_TRUE(holds(changed.error(),
                    "tensor 'model.decoder.layers.0.fc1.weight' has shape [28, 24], expected [29, 24] (from "
                    "config.json ffn_dim, hidden_size)"));
}

TEST(DescribeModelTest, transposed_tensor_is_found) {
  const ChangedCase changed("gpt2", keep, [](Json& header) {
    auto& shape = header["transformer.h.0.mlp.c_fc.weight"]["shape"];
    std::swap(shape[0], shape[1]);
  });
  EXPECT_TRUE(holds(changed.error(), "tensor 'transformer.h.0.mlp.c_fc.weight' has shape [20, 15], expected [15, 20]"));
}

TEST(DescribeModelTest, untied_head_that_is_absent_is_an_error) {
  const ChangedCase changed("gpt2", [](Json& config) { config["tie_word_embeddings"] = false; });
  EXPECT_TRUE(holds(changed.error(), "tensor 'lm_head.weight' is absent"));
}

TEST(DescribeModelTest, unknown_family_lists_those_known) {
  const ChangedCase changed("gpt2", [](Json& config) { config["model_type"] = "mamba"; });
  EXPECT_TRUE(holds(changed.error(), "the model type 'mamba' is not supported", "'gpt_neox'"));
}

TEST(DescribeModelTest, mixtures_of_experts_encoders_and_others_are_refused_with_the_reason) {
  const std::pair<const char*, const char*> refused[] = {{"mixtral", "mixture of experts"},
                                                         {"qwen3_moe", "mixture of experts"},
                                                         {"bert", "an encoder"},
                                                         {"t5", "an encoder-decoder"},
                                                         {"gemma3", "more than text"}};
  for (const auto& [type, reason] : refused) {
    const ChangedCase changed("llama", [&](Json& config) { config["model_type"] = type; });
    EXPECT_TRUE(holds(changed.error(), type, reason));
  }
}

TEST(DescribeModelTest, family_follows_from_the_class_where_the_type_is_missing) {
  const ChangedCase changed("gpt_neox", [](Json& config) { config.erase("model_type"); });
  EXPECT_EQ(Model(changed.folder()).description.family, "gpt_neox");
  const ChangedCase nameless("gpt_neox", [](Json& config) {
    config.erase("model_type");
    config.erase("architectures");
  });
  EXPECT_TRUE(holds(nameless.error(), "names no model_type and no architectures"));
}

TEST(DescribeModelTest, switches_that_change_the_mathematics_are_refused_by_name) {
  const std::pair<const char*, Json> switches[] = {{"attn_logit_softcapping", 30.0},
                                                   {"residual_multiplier", 0.22},
                                                   {"alibi", true},
                                                   {"use_qk_norm", true},
                                                   {"partial_rotary_factor", 0.5},
                                                   {"num_experts", 8},
                                                   {"per_layer_config", {{"1", {{"intermediate_size", 8}}}}},
                                                   {"is_causal", false}};
  for (const auto& [name, value] : switches) {
    const ChangedCase changed("llama", [&](Json& config) { config[name] = value; });
    EXPECT_TRUE(holds(changed.error(), std::string("'") + name + "'"));
  }
  const ChangedCase cross("gpt2", [](Json& config) { config["add_cross_attention"] = true; });
  EXPECT_TRUE(holds(cross.error(), "'add_cross_attention'"));
  const ChangedCase both_ways("gemma2", [](Json& config) { config["use_bidirectional_attention"] = true; });
  EXPECT_TRUE(holds(both_ways.error(), "'use_bidirectional_attention'"));
  const ChangedCase sliced("bloom", [](Json& config) {
    config.update({{"slow_but_exact", true}, {"pretraining_tp", 2}});
  });
  EXPECT_TRUE(holds(sliced.error(), "slow_but_exact", "pretraining_tp"));
}

TEST(DescribeModelTest, harmless_fields_are_ignored) {
  const ChangedCase changed("llama", [](Json& config) {
    config["_name_or_path"] = "somewhere";
    config["task_specific_params"] = {{"text-generation", {{"do_sample", true}}}};
    config["alibi"] = false;
    config["residual_multiplier"] = 1.0;
    config["summary_type"] = "cls_index";
  });
  EXPECT_EQ(changed.error(), "");
}

TEST(DescribeModelTest, bad_values_are_named_with_their_place) {
  const auto error = [](const char* name, const char* key, Json value) {
    return ChangedCase(name, [&](Json& config) { config[key] = value; }).error();
  };
  EXPECT_TRUE(holds(error("llama", "hidden_act", "softplus"), "unknown activation 'softplus'", "'silu'"));
  EXPECT_TRUE(holds(error("llama", "num_key_value_heads", 3), "3 key/value heads do not divide 4 heads"));
  EXPECT_TRUE(holds(error("llama", "hidden_size", nullptr), "the field 'hidden_size' is missing"));
  EXPECT_TRUE(holds(error("llama", "hidden_size", "wide"), "/hidden_size", "an integer"));
  EXPECT_TRUE(holds(error("llama", "num_hidden_layers", 0), "/num_hidden_layers", "at least 1"));
  EXPECT_TRUE(holds(error("llama", "rms_norm_eps", -1.0), "'rms_norm_eps'"));
  EXPECT_TRUE(holds(error("llama", "rope_scaling", Json{{"rope_type", "spiral"}, {"factor", 2.0}}),
                    "unknown kind of rope scaling 'spiral'", "'llama3'"));
  EXPECT_TRUE(holds(error("llama", "rope_scaling", Json{{"rope_type", "linear"}, {"factor", 2.0}, {"twist", 1}}),
                    "unknown key 'twist'"));
  EXPECT_TRUE(holds(error("llama", "rope_scaling", Json{{"rope_type", "linear"}}), "'factor' is missing"));
  EXPECT_TRUE(holds(error("gpt_neox_serial", "rope_parameters",
                          Json{{"rope_type", "dynamic"}, {"factor", 2.0}, {"partial_rotary_factor", 0.17}}),
                    "dynamic scaling of 2 dimensions"));
  EXPECT_TRUE(holds(error("gpt2", "n_head", 4), "not a multiple of the 4 heads"));
  EXPECT_TRUE(holds(error("gemma2", "layer_types", Json{"full_attention"}), "has 1 entries for 3 layers"));
  EXPECT_TRUE(holds(error("gemma2", "layer_types", Json{"full_attention", "chunked_attention", "full_attention"}),
                    "unknown kind of layer 'chunked_attention'"));
}

TEST(DescribeModelTest, config_styles_mean_the_same) {
  const auto rotary = [](const ChangedCase& changed) {
    return Model(changed.folder()).description.attention[0].rotary->inverse_frequencies;
  };
  const ChangedCase old_style("llama_linear", [](Json& config) {
    config["rope_theta"] = 700.0;
    config["rope_scaling"] = {{"type", "linear"}, {"factor", 3.0}};
  });
  const auto expected = rotary(old_style);
  const ChangedCase new_style("llama_linear", [](Json& config) {
    config.erase("rope_theta");
    config.erase("rope_scaling");
    config["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 3.0}, {"rope_theta", 700.0}};
  });
  EXPECT_EQ(rotary(new_style), expected);
}

TEST(UnusedTensorsTest, names_extra_tensors_but_no_buffers) {
  const ChangedCase changed("gpt2_bare", [](Json& config) { config["n_layer"] = 1; });
  const Model model(changed.folder());
  const auto unused = unused_tensors(model.description, model.store);
  EXPECT_EQ(unused.size(), 12u) << "the second block";
  for (const auto& name : unused) EXPECT_TRUE(holds(name, "h.1."));
  const ChangedCase with_buffer(
      "gpt2_bare", [](Json& config) { config["n_layer"] = 1; },
      [](Json& header) { rename_key(header, "h.1.ln_1.bias", "h.0.attn.masked_bias"); });
  const Model buffered(with_buffer.folder());
  EXPECT_EQ(unused_tensors(buffered.description, buffered.store).size(), 11u);
}

TEST(LayerSizeTest, is_the_size_of_what_is_read) {
  for (const char* name : {"gpt2", "gpt_neox", "llama", "gemma2"}) {
    const Model model(case_folder(name));
    const LayerWeights w = read_layer(model.description, model.store, 0, ComputeType::float64);
    std::int64_t elements = 0;
    for (const Linear* linear : {&w.w_q, &w.w_k, &w.w_v, &w.w_o, &w.mlp_up, &w.mlp_down})
      elements += linear->weight.numel() + (linear->bias ? linear->bias->numel() : 0);
    if (w.mlp_gate) elements += w.mlp_gate->weight.numel() + (w.mlp_gate->bias ? w.mlp_gate->bias->numel() : 0);
    for (const auto* norm : {&w.attention_input_norm, &w.attention_output_norm, &w.mlp_input_norm, &w.mlp_output_norm})
      if (*norm) elements += (*norm)->weight->numel() + ((*norm)->bias ? (*norm)->bias->numel() : 0);
    EXPECT_EQ(layer_size_bytes(model.description, 0, ComputeType::float64), elements * 8) << name;
  }
}

TEST(LayerWeightsTest, contiguous_parts_of_a_fused_matrix_are_views) {
  const Model model(case_folder("gpt2"));
  const AttentionWeights w = read_attention_weights(model.description, model.store, 0, ComputeType::float32);
  EXPECT_EQ(w.w_q.storage().data(), w.w_k.storage().data());
  EXPECT_EQ(w.w_q.storage().data(), w.w_v.storage().data());
}

}  // namespace
}  // namespace spectrace
