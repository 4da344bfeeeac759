// What families have of their own beside the forward pass that oracle_test.cpp holds against transformers: what they
// refuse by name, and defaults that no case has.
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint_case.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

void keep_config(Json&) {}

std::string error_with(const char* name, const char* key, const Json& value) {
  return ChangedCase(name, [&](Json& config) { config[key] = value; }).error();
}

/// The message holds the words; shown where it does not.
void expect_words(const std::string& message, std::initializer_list<const char*> words) {
  for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << word << " in: " << message;
}

TEST(MptTest, keys_of_attn_config_that_are_on_are_refused_by_name) {
  const std::pair<const char*, Json> keys[] = {
      {"qk_ln", true},       {"prefix_lm", true},       {"attn_uses_sequence_id", true},
      {"alibi", false},      {"alibi_bias_max", 0},     {"attn_type", "multiquery_attention"},
      {"attn_impl", "ring"}, {"clip_qkv", -1.0},        {"softmax_scale", 0.0},
      {"rope", true},        {"sliding_window_size", 4}};
  for (const auto& [key, value] : keys) {
    const ChangedCase changed("mpt", [&](Json& config) { config["attn_config"][key] = value; });
    expect_words(changed.error(), {("/attn_config/" + std::string(key)).c_str()});
  }
  const ChangedCase off("mpt", [](Json& config) {
    config["attn_config"].update({{"rope", false}, {"kv_n_heads", nullptr}});
  });
  EXPECT_EQ(off.error(), "");
}

TEST(MptTest, blocks_of_other_kinds_are_refused_by_name) {
  expect_words(error_with("mpt", "no_bias", false), {"'no_bias'"});
  expect_words(error_with("mpt", "expansion_ratio", 2), {"'expansion_ratio'"});
  expect_words(error_with("mpt", "norm_type", "rmsnorm"), {"'rmsnorm'", "'norm_type'"});
  expect_words(error_with("mpt", "logit_scale", "sqrt"), {"'sqrt'", "logit_scale", "'inv_sqrt_d_model'"});
}

TEST(MptTest, absent_attn_config_is_that_of_the_class) {
  const ChangedCase changed("mpt", [](Json& config) {
    config.erase("attn_config");
    config["logit_scale"] = "inv_sqrt_d_model";
  });
  const ModelDescription model = Model(changed.folder()).description;
  EXPECT_FALSE(model.attention[0].clip_qkv);
  EXPECT_DOUBLE_EQ(model.attention[0].score_scale, 1 / std::sqrt(6.0));
  EXPECT_EQ(model.attention[0].alibi_slopes, (std::vector<double>{std::exp2(-4), std::exp2(-8), std::exp2(-2)}));
  EXPECT_DOUBLE_EQ(model.embedding.logits.scale, 1 / std::sqrt(18.0));
}

TEST(CohereTest, blocks_of_other_kinds_are_refused_by_name) {
  expect_words(error_with("cohere2", "position_embedding_type", "learned"), {"'learned'", "'position_embedding_type'"});
  expect_words(error_with("cohere2", "use_parallel_block", false), {"'use_parallel_block'"});
  expect_words(error_with("cohere2", "use_gated_activation", false), {"'use_gated_activation'"});
  expect_words(error_with("cohere2", "sliding_window", nullptr), {"'sliding_window'"});
  expect_words(error_with("cohere", "logit_scale", 0.0), {"logit_scale", "positive"});
}

TEST(CodegenTest, heads_that_do_not_fill_four_blocks_are_refused) {
  expect_words(error_with("codegen", "n_head", 6), {"6 heads", "multiple of 4", "n_head"});
}

TEST(PersimmonTest, grouped_heads_are_refused) {
  expect_words(error_with("persimmon", "num_key_value_heads", 1), {"num_key_value_heads"});
  expect_words(error_with("persimmon", "head_dim", 4), {"head_dim"});
}

TEST(XglmTest, positions_that_there_are_not_are_refused) {
  expect_words(error_with("xglm", "pad_token_id", -1), {"pad_token_id", "-1"});
}

TEST(PhiTest, head_without_its_bias_is_an_error) {
  const ChangedCase changed("phi", keep_config, [](Json& header) { rename_key(header, "lm_head.bias", "other.bias"); });
  expect_words(changed.error(), {"tensor 'lm_head.bias' is absent"});
}

}  // namespace
}  // namespace spectrace
