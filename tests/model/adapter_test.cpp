#include "spectrace/model/adapter.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "checkpoint_case.hpp"
#include "support/safetensors_writer.hpp"

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

TEST(DescribeModelTest, untied_head_that_is_absent_is_lacked_alone) {
  const ChangedCase changed("gpt2", [](Json& config) { config["tie_word_embeddings"] = false; });
  const Model model(changed.folder());
  EXPECT_FALSE(model.description.embedding.has_unembedding);
  for (const TensorSource* source : model.description.all_sources()) EXPECT_NE(source->tensor, "lm_head.weight");
  EXPECT_TRUE(source_problems(model.description, model.store).empty());
}

TEST(Families, have_a_class_each_and_text_parts_theirs) {
  std::set<std::string> classes;
  for (const FamilyInfo& family : families()) {
    EXPECT_TRUE(classes.insert(family.class_name).second) << family.class_name;
    if (family.model_type == "llama") {
      EXPECT_EQ(family.class_name, "LlamaForCausalLM");
      EXPECT_TRUE(holds(Json(family.part_of).dump(), "\"llava\"", "\"smolvlm\""));
    }
  }
  EXPECT_EQ(classes.size(), known_families().size());
}

TEST(DescribeModelTest, unknown_family_lists_those_known) {
  const ChangedCase changed("gpt2", [](Json& config) { config["model_type"] = "mamba"; });
  EXPECT_TRUE(holds(changed.error(), "the model type 'mamba' is not supported", "'gpt_neox'"));
}

TEST(DescribeModelTest, old_names_say_the_new_one) {
  for (const auto& [old, said] : {std::pair{"RefinedWeb", "the old name of falcon"},
                                  {"RefinedWebModel", "since 4.33"},
                                  {"stablelm_epoch",
                                   "the old name of stablelm, with fields of its own; transformers has "
                                   "it since 4.38"}}) {
    const ChangedCase changed("gpt2", [&](Json& config) { config["model_type"] = old; });
    EXPECT_TRUE(holds(changed.error(), said)) << old;
  }
}

TEST(DescribeModelTest, mixtures_of_experts_encoders_and_others_are_refused_with_the_reason) {
  const std::pair<const char*, const char*> refused[] = {{"dbrx", "mixture of experts"},
                                                         {"grok-1", "mixture of experts"},
                                                         {"bert", "an encoder"},
                                                         {"t5", "an encoder-decoder"},
                                                         {"gemma3", "no object 'text_config'"},
                                                         {"paligemma", "all of the prompt at once"}};
  for (const auto& [type, reason] : refused) {
    const ChangedCase changed("llama", [&](Json& config) {
      config["model_type"] = type;
      if (type == std::string("paligemma")) config["text_config"] = {{"model_type", "gemma"}};
    });
    EXPECT_TRUE(holds(changed.error(), type, reason));
  }
}

TEST(TextPart, is_described_as_its_family_and_says_what_it_is_part_of) {
  const Model model(case_folder("qwen2_vl"));
  EXPECT_EQ(model.description.family, "qwen2_vl_text");
  EXPECT_EQ(model.description.architecture, "Qwen2VLForConditionalGeneration");
  EXPECT_EQ(model.description.part_of, "qwen2_vl");
  EXPECT_TRUE(model.description.warnings.empty());
  const auto others = tensors_of_other_parts(model.description, model.store);
  ASSERT_FALSE(others.empty());
  for (const auto& name : others) EXPECT_TRUE(name.starts_with("visual.")) << name;
  EXPECT_TRUE(unused_tensors(model.description, model.store).empty());
}

TEST(TextPart, of_an_unknown_type_names_it) {
  const ChangedCase changed("llava", [](Json& config) { config["text_config"]["model_type"] = "mamba"; });
  EXPECT_TRUE(holds(changed.error(), "the text part of 'llava' has the model type 'mamba'"));
}

TEST(TextPart, of_a_whole_that_was_never_tried_comes_with_a_warning) {
  const ChangedCase changed("llava", [](Json& config) { config["model_type"] = "llava_of_tomorrow"; });
  const Model model(changed.folder());
  ASSERT_EQ(model.description.warnings.size(), 1u);
  EXPECT_TRUE(holds(model.description.warnings[0], "'llava_of_tomorrow'", "'llama'"));
}

TEST(TextPart, has_the_sizes_of_its_class_where_the_config_has_none) {
  const ChangedCase changed("llava", [](Json& config) { config["text_config"].erase("num_attention_heads"); });
  EXPECT_TRUE(holds(changed.error(), "/text_config", "32 heads of 8 dimensions")) << "as LlamaConfig has them";
  const ChangedCase text("llama", [](Json& config) { config.erase("num_attention_heads"); });
  EXPECT_TRUE(holds(text.error(), "the field 'num_attention_heads' is missing"));
}

TEST(TiedHead, other_values_in_the_checkpoint_count) {
  const ChangedCase changed("llama", [](Json& config) { config["tie_word_embeddings"] = true; });
  const ModelDescription& model = Model(changed.folder()).description;
  EXPECT_FALSE(model.embedding.tied);
  EXPECT_EQ(model.embedding.unembedding.tensor, "lm_head.weight");
  ASSERT_EQ(model.warnings.size(), 1u);
  EXPECT_TRUE(holds(model.warnings[0], "'lm_head.weight'", "'model.embed_tokens.weight'"));
}

TEST(TiedHead, may_be_what_alone_is_stored) {
  const ChangedCase changed("qwen3", keep,
                            [](Json& header) { rename_key(header, "model.embed_tokens.weight", "lm_head.weight"); });
  const ModelDescription& model = Model(changed.folder()).description;
  EXPECT_TRUE(model.embedding.tied);
  EXPECT_EQ(model.embedding.token.tensor, "lm_head.weight");
  EXPECT_EQ(model.embedding.unembedding.tensor, "lm_head.weight");
  EXPECT_TRUE(model.warnings.empty());
}

TEST(DescribeModelTest, what_transformers_ignores_is_a_warning) {
  const ChangedCase scaled("llama_yarn", [](Json& config) { config["rope_parameters"]["attn_factor"] = 0.8; });
  ASSERT_EQ(Model(scaled.folder()).description.warnings.size(), 1u);
  EXPECT_TRUE(holds(Model(scaled.folder()).description.warnings[0], "'attn_factor'"));
  const ChangedCase unknown("llama_yarn", [](Json& config) { config["rope_parameters"]["betta_fast"] = 0.8; });
  EXPECT_TRUE(holds(unknown.error(), "betta_fast"));
  // Saved by transformers 4.45 to 4.57: the same number under both names.
  const ChangedCase both("gpt_neox", [](Json& config) { config["partial_rotary_factor"] = config["rotary_pct"]; });
  EXPECT_TRUE(Model(both.folder()).description.warnings.empty());
  const ChangedCase differing("gpt_neox", [](Json& config) { config["partial_rotary_factor"] = 0.25; });
  const ModelDescription& model = Model(differing.folder()).description;
  EXPECT_EQ(model.attention[0].rotary->rotary_dim, 4);
  ASSERT_EQ(model.warnings.size(), 1u);
  EXPECT_TRUE(holds(model.warnings[0], "'partial_rotary_factor'", "'rotary_pct'"));
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
                                                   {"qk_ln", true},
                                                   {"softmax_scale", 0.5},
                                                   {"multi_query", true},
                                                   {"attention_head_type", "multiquery"},
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

std::string error_of(const char* name, const Json& fields) {
  return ChangedCase(name, [&](Json& config) { config.update(fields); }).error();
}

TEST(DescribeModelTest, sizes_are_held_against_the_tensors_before_anything_is_sized_by_them) {
  constexpr std::int64_t kHuge = 1'000'000'000, kWraps = std::int64_t{1} << 62;
  const std::tuple<const char*, const char*> fields[] = {{"llama", "num_hidden_layers"},
                                                         {"llama", "num_attention_heads"},
                                                         {"llama", "num_key_value_heads"},
                                                         {"llama", "hidden_size"},
                                                         {"llama", "intermediate_size"},
                                                         {"llama", "vocab_size"},
                                                         {"gemma2", "head_dim"},
                                                         {"gpt2", "n_layer"},
                                                         {"gpt2", "n_head"},
                                                         {"gpt2", "n_embd"},
                                                         {"gpt2", "n_positions"},
                                                         {"gpt2", "n_inner"},
                                                         {"opt", "num_hidden_layers"},
                                                         {"opt", "ffn_dim"},
                                                         {"opt", "max_position_embeddings"},
                                                         {"opt", "word_embed_proj_dim"},
                                                         {"bloom", "n_layer"},
                                                         {"bloom", "n_head"},
                                                         {"falcon_40b", "num_kv_heads"},
                                                         {"falcon_rw", "num_attention_heads"},
                                                         {"gpt_neox", "num_hidden_layers"},
                                                         {"gpt_neo", "num_layers"},
                                                         {"gptj", "rotary_dim"},
                                                         {"stablelm", "num_hidden_layers"}};
  for (const auto& [name, field] : fields)
    for (const std::int64_t value : {kHuge, kWraps}) {
      SCOPED_TRACE(std::string(name) + " " + field);
      EXPECT_TRUE(holds(error_of(name, {{field, value}}), std::string("/") + field, "is " + std::to_string(value),
                        "expected at most", "the checkpoint"));
    }
}

TEST(DescribeModelTest, sizes_that_only_together_are_too_large) {
  const Model model(case_folder("gemma2"));
  std::int64_t largest = 0;
  for (const auto& tensor : model.store.tensors())
    for (const auto size : tensor.shape) largest = std::max(largest, size);
  EXPECT_TRUE(holds(error_of("gemma2", {{"head_dim", largest / 4 + 1}}), "4 heads of", "('head_dim')",
                    "a dimension of more than " + std::to_string(largest)));
  EXPECT_TRUE(holds(error_of("llama", {{"max_position_embeddings", std::int64_t{1} << 50}}), "/max_position_embeddings",
                    "no model has as many"));
  EXPECT_TRUE(holds(error_of("mistral", {{"sliding_window", 1e300}}), "/sliding_window", "an integer"));
  EXPECT_TRUE(holds(error_of("mistral", {{"sliding_window", 0}}), "/sliding_window", "at least 1"));
  const auto repeated = [](Json words) {
    const Json types = Json::array({Json::array({std::move(words), 1'000'000'000'000})});
    return error_of("gpt_neo", {{"attention_layers", nullptr}, {"attention_types", types}});
  };
  EXPECT_TRUE(holds(repeated(Json::array({"global", "local"})), "describes", "num_layers is"));
  EXPECT_TRUE(holds(repeated(Json::array()), "/attention_types/0/0", "is empty"));
}

/// A checkpoint of one long vector beside those of a case: no dimension is too large for it.
TEST(DescribeModelTest, sizes_that_the_tensors_allow_have_limits_all_the_same) {
  const ChangedCase changed("gpt_neox", [](Json& config) {
    config.update({{"num_attention_heads", 1'000'000}, {"hidden_size", 1'000'000}});
  });
  write_safetensors(
      changed.folder() / "model.safetensors",
      {{"gpt_neox.long", at::zeros({1'000'000}, at::kByte)}, {"a", at::zeros({1})}, {"b", at::zeros({1})}});
  EXPECT_TRUE(holds(changed.error(), "/num_attention_heads", "at most", "no model has as many"));
}

TEST(DescribeModelTest, factors_that_are_0_or_infinite_in_float32_are_refused) {
  for (const double value : {0.0, -1.0, 1e-40, 1e-300, 1e39, 1e300}) {
    SCOPED_TRACE(value);
    EXPECT_TRUE(holds(error_of("gemma2", {{"query_pre_attn_scalar", value}}), "/query_pre_attn_scalar", "positive"));
    EXPECT_TRUE(holds(error_of("gemma2", {{"attn_logit_softcapping", value}}), "/attn_logit_softcapping", "positive"));
    EXPECT_TRUE(holds(error_of("llama", {{"rms_norm_eps", value}}), "'rms_norm_eps'", "between 0"));
    EXPECT_TRUE(holds(error_of("llama", {{"rope_theta", value}}), "/rope_theta", "positive"));
    EXPECT_TRUE(holds(error_of("gemma3_text", {{"rope_local_base_freq", value}, {"rope_parameters", nullptr}}),
                      "/rope_local_base_freq", "positive"));
    EXPECT_TRUE(holds(error_of("gpt_neox", {{"rotary_emb_base", value}, {"rope_parameters", nullptr}}),
                      "/rotary_emb_base", "positive"));
  }
}

TEST(DescribeModelTest, rotary_settings_out_of_reason_are_refused) {
  const auto scaling = [](Json settings) {
    return error_of("llama", {{"rope_scaling", std::move(settings)}, {"rope_parameters", nullptr}});
  };
  for (const double factor : {0.0, -2.0, 1e-300, 1e300}) {
    SCOPED_TRACE(factor);
    for (const char* type : {"linear", "dynamic", "yarn"})
      EXPECT_TRUE(holds(scaling({{"rope_type", type}, {"factor", factor}}), "/rope_scaling/factor", "positive"))
          << type;
    EXPECT_TRUE(holds(scaling({{"rope_type", "llama3"},
                               {"factor", factor},
                               {"low_freq_factor", 1.0},
                               {"high_freq_factor", 4.0},
                               {"original_max_position_embeddings", 16}}),
                      "/rope_scaling/factor", "positive"));
    EXPECT_TRUE(holds(scaling({{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", factor}}),
                      "/rope_scaling/rope_theta", "positive"));
    EXPECT_TRUE(holds(scaling({{"rope_type", "yarn"}, {"factor", 2.0}, {"attention_factor", factor}}),
                      "/rope_scaling/attention_factor", "positive"));
  }
  EXPECT_TRUE(holds(scaling({{"rope_type", "yarn"}, {"factor", 2.0}, {"beta_fast", -1.0}}), "/rope_scaling/beta_fast"));
  EXPECT_TRUE(holds(scaling({{"rope_type", "yarn"}, {"factor", 1e30}, {"mscale", 1.0}, {"mscale_all_dim", -1.0}}),
                    "/rope_scaling/mscale_all_dim"));
  EXPECT_TRUE(holds(scaling({{"rope_type", "linear"}, {"factor", 3e38}}), "/rope_scaling", "a frequency of"));
  EXPECT_TRUE(holds(scaling({{"rope_type", "linear"}, {"factor", 2e-38}}), "/rope_scaling", "a frequency of"));
  EXPECT_TRUE(holds(scaling({{"rope_type", "dynamic"}, {"factor", 1e37}}), "/rope_scaling", "a frequency of"));
  EXPECT_TRUE(holds(scaling({{"rope_type", "yarn"}, {"factor", 2.0}, {"original_max_position_embeddings", -4}}),
                    "/rope_scaling/original_max_position_embeddings"));
  EXPECT_TRUE(holds(scaling("linear"), "/rope_scaling", "expected an object"));
  EXPECT_TRUE(holds(error_of("gemma3_text", {{"rope_scaling", "linear"}}), "/rope_scaling", "expected an object"));
  EXPECT_TRUE(holds(error_of("stablelm", {{"partial_rotary_factor", 1e300}}), "share of"));
  const auto long_list = [](double first) {
    return error_of("phi3_longrope", {{"rope_scaling",
                                       {{"type", "longrope"},
                                        {"short_factor", Json::array({first, 1.0, 1.0})},
                                        {"long_factor", Json::array({1.0, 1.0, 1.0})}}},
                                      {"rope_parameters", nullptr}});
  };
  EXPECT_TRUE(holds(long_list(0.0), "/rope_scaling/short_factor/0", "positive"));
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

ModelDescription described_with(const char* name, const Json& fields) {
  const ChangedCase changed(name, [&](Json& config) { config.update(fields); });
  return Model(changed.folder()).description;
}

// transformers takes the old style's theta for the layers without a window alone.
TEST(DescribeModelTest, olmo3_has_one_theta_in_the_old_style) {
  const auto olmo3 =
      described_with("olmo3", {{"rope_theta", 900.0}, {"rope_scaling", nullptr}, {"rope_parameters", nullptr}});
  EXPECT_EQ(olmo3.attention[0].rotary->inverse_frequencies, olmo3.attention[3].rotary->inverse_frequencies);
  EXPECT_FLOAT_EQ(olmo3.attention[0].rotary->inverse_frequencies[1], std::pow(900.0F, -1.0F / 3.0F));
}

TEST(DescribeModelTest, layers_without_rotary_are_told) {
  const auto told = [](const char* name) {
    const Model model(case_folder(name));
    for (const auto& [fact, value] : model.description.rope_facts)
      if (fact == "rope_layers_without") return value;
    return std::string("nothing");
  };
  EXPECT_EQ(told("smollm3"), "[1]");
  EXPECT_EQ(told("exaone4"), "[1]");
  EXPECT_EQ(told("exaone4_full"), "nothing");
  EXPECT_EQ(told("gpt2"), "nothing");
}

// transformers 5.23 needs layer_types beside it; its documentation says what the letters mean.
TEST(DescribeModelTest, exaone4_takes_its_pattern_as_letters) {
  const auto windows = [](const Json& pattern) {
    const auto model = described_with("exaone4", {{"sliding_window_pattern", pattern}});
    std::string found;
    for (const AttentionSpec& attention : model.attention) {
      EXPECT_EQ(attention.sliding_window.has_value(), attention.rotary.has_value());
      found += attention.sliding_window ? 'L' : 'G';
    }
    return found;
  };
  EXPECT_EQ(windows("LG"), "LGG") << "the last layer has no window";
  EXPECT_EQ(windows("GL"), "GLG");
  EXPECT_EQ(windows("LLLG"), "LLG");
  EXPECT_EQ(windows(2), "LGL");
  EXPECT_EQ(windows(4), "LLL");
  EXPECT_TRUE(holds(error_of("exaone4", {{"sliding_window_pattern", "LXG"}}), "/sliding_window_pattern", "L and G"));
  EXPECT_TRUE(holds(error_of("exaone4", {{"sliding_window_pattern", nullptr}}), "sliding_window_pattern is null"));
}

TEST(DescribeModelTest, what_transformers_itself_does_not_decide_is_refused) {
  EXPECT_TRUE(holds(error_of("smollm3", {{"use_sliding_window", false},
                                         {"layer_types", {"sliding_attention", "full_attention", "full_attention"}}}),
                    "layer_types has layers with a window", "use_sliding_window is false"));
  EXPECT_TRUE(holds(error_of("smollm3", {{"no_rope_layers", {1, 0}}}), "/no_rope_layers", "2 entries for 3 layers"));
  EXPECT_TRUE(holds(error_of("hunyuan_v1_dense", {{"use_qk_norm", false}}), "'use_qk_norm' is false"));
  EXPECT_TRUE(holds(error_of("hunyuan_v1_dense", {{"use_cla", true}}), "'use_cla'"));
  EXPECT_TRUE(holds(error_of("apertus", {{"qk_norm", false}}), "'qk_norm' is false"));
  EXPECT_TRUE(holds(error_of("ministral3", {{"rope_parameters", {{"rope_type", "default"}}}}), "/rope_parameters",
                    "llama_4_scaling_beta"));
  EXPECT_TRUE(
      holds(error_of("ministral3", {{"rope_parameters", {{"rope_type", "default"}, {"llama_4_scaling_beta", 0.1}}}}),
            "/rope_parameters", "original_max_position_embeddings"));
}

// Of yarn and its like the field beside the settings counts, of others that in them, as in transformers.
TEST(DescribeModelTest, ministral3_has_one_of_two_lengths_of_training) {
  const auto positions = [](Json settings) {
    settings.update({{"factor", 2.0}, {"original_max_position_embeddings", 5}, {"llama_4_scaling_beta", 0.1}});
    return described_with("ministral3", {{"rope_parameters", settings}, {"original_max_position_embeddings", 7}})
        .attention[0]
        .query_growth->positions;
  };
  EXPECT_EQ(positions({{"rope_type", "yarn"}}), 7);
  EXPECT_EQ(positions({{"rope_type", "linear"}}), 5);
  EXPECT_TRUE(holds(
      error_of("ministral3",
               {{"rope_parameters",
                 {{"rope_type", "default"}, {"llama_4_scaling_beta", 0.1}, {"original_max_position_embeddings", 0}}}}),
      "/rope_parameters/original_max_position_embeddings", "at least 1"));
}

TEST(DescribeModelTest, rotary_settings_of_one_family_are_refused_in_others) {
  const auto with = [](const char* name, const char* key) {
    return error_of(name, {{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2.0}, {key, 3.0}}},
                           {"rope_scaling", nullptr}});
  };
  for (const char* key : {"alpha", "llama_4_scaling_beta"})
    EXPECT_TRUE(holds(with("llama", key), "/rope_parameters", std::string("unknown key '") + key + "'"));
  EXPECT_TRUE(holds(with("ministral3", "alpha"), "unknown key 'alpha'"));
  EXPECT_TRUE(holds(with("hunyuan_v1_dense", "llama_4_scaling_beta"), "unknown key 'llama_4_scaling_beta'"));
}

TEST(UnusedTensorsTest, names_extra_tensors_but_no_buffers) {
  const ChangedCase changed("gpt2_bare", [](Json& config) { config["n_layer"] = 1; });
  const Model model(changed.folder());
  const auto unused = unused_tensors(model.description, model.store);
  EXPECT_EQ(unused.size(), 12u) << "the second block";
  for (const auto& name : unused) EXPECT_TRUE(holds(name, "h.1."));
}

/// The unused tensors of a case with others added.
std::vector<std::string> unused_with(const char* name, const Json& fields,
                                     const std::vector<std::pair<std::string, at::Tensor>>& added) {
  const ChangedCase changed(name, [&](Json& config) { config.update(fields); });
  auto tensors = added;
  const TensorStore store = TensorStore::open(case_folder(name));
  for (const auto& tensor : store.tensors())
    if (is_floating(tensor.type)) tensors.emplace_back(tensor.name, store.read(tensor, ComputeType::float32));
  write_safetensors(changed.folder() / "model.safetensors", tensors);
  const Model model(changed.folder());
  return unused_tensors(model.description, model.store);
}

TEST(UnusedTensorsTest, buffers_are_told_from_biases_by_their_shapes) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(unused_with("gpt2_bare", Json::object(),
                        {{"h.0.attn.bias", at::ones({1, 1, 8, 8})},
                         {"h.0.attn.masked_bias", at::ones({})},
                         {"h.1.attn.bias", at::ones({15})},
                         {"h.1.attn.masked_bias", at::ones({15})},
                         {"empty", at::ones({0, 3})}}),
            (Names{"h.1.attn.bias", "h.1.attn.masked_bias"}));
  EXPECT_EQ(unused_with("llama", Json::object(),
                        {{"model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({4})},
                         {"model.layers.0.self_attn.q_proj.lora_A.weight", at::ones({4, 4})}}),
            (Names{"model.layers.0.self_attn.q_proj.lora_A.weight"}));
}

TEST(UnusedTensorsTest, biases_that_the_config_switches_off) {
  const auto unused = unused_with("qwen3", {{"attention_bias", false}}, {});
  EXPECT_NE(std::find(unused.begin(), unused.end(), "model.layers.0.self_attn.q_proj.bias"), unused.end());
  for (const auto& name : unused) EXPECT_TRUE(name.ends_with(".bias")) << name;
}

TEST(UnusedTensorsTest, heads_that_predict_further_tokens_are_told_apart) {
  using Names = std::vector<std::string>;
  const Model mimo(case_folder("mimo"));
  const Names named = mtp_tensors(mimo.description, mimo.store);
  EXPECT_EQ(named.size(), 16u);
  for (const auto& name : named) EXPECT_TRUE(name.starts_with("model.mtp_layers.0.")) << name;
  EXPECT_EQ(unused_with("mimo", {{"num_nextn_predict_layers", 0}}, {}), named) << "no such head in the config";
  EXPECT_TRUE(holds(error_of("mimo", {{"num_nextn_predict_layers", -1}}), "/num_nextn_predict_layers"));
  // Where such a head is layers behind the model's own.
  EXPECT_EQ(unused_with("llama", {{"num_nextn_predict_layers", 1}},
                        {{"model.layers.2.eh_proj.weight", at::ones({4, 4})},
                         {"model.layers.3.eh_proj.weight", at::ones({4, 4})},
                         {"mtp.fc.weight", at::ones({4, 4})},
                         {"model.mtp_like.weight", at::ones({4, 4})}}),
            (Names{"model.layers.3.eh_proj.weight", "model.mtp_like.weight"}));
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
  const LayerMatrices w = read_matrices(model.description, model.store, 0,
                                        {MatrixRole::w_q, MatrixRole::w_k, MatrixRole::w_v}, ComputeType::float32)
                              .matrices;
  EXPECT_EQ(w.at(MatrixRole::w_q).storage().data(), w.at(MatrixRole::w_k).storage().data());
  EXPECT_EQ(w.at(MatrixRole::w_q).storage().data(), w.at(MatrixRole::w_v).storage().data());
}

// What is read already in a wider type is converted to the type that is asked for, not to float32.
TEST(LayerWeightsTest, wide_matrices_get_the_type_that_is_asked_for) {
  const Model model(case_folder("gpt2"));
  const MatrixRoles roles = attention_roles();
  const LayerMatrices wide = read_matrices(model.description, model.store, 0, roles, ComputeType::float64).matrices;
  for (const ComputeType type : {ComputeType::float32, ComputeType::float64}) {
    const LayerWeights layer = read_layer(model.description, model.store, 0, type, &wide);
    EXPECT_EQ(layer.w_q.weight.scalar_type(), scalar_type(type));
    EXPECT_EQ(layer.w_o.weight.scalar_type(), scalar_type(type));
    EXPECT_EQ(layer.mlp_up.weight.scalar_type(), scalar_type(type));
    EXPECT_TRUE(at::equal(layer.w_k.weight, read_layer(model.description, model.store, 0, type).w_k.weight));
  }
}

}  // namespace
}  // namespace spectrace
