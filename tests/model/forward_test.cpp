#include "spectrace/model/forward.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "checkpoint_case.hpp"
#include "numerics/peak_memory.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

/// Prompts of many lengths with more rows than one chunk, ids that differ from place to place.
std::vector<std::vector<std::int64_t>> many_prompts(std::int64_t vocab, std::int64_t longest) {
  std::vector<std::vector<std::int64_t>> prompts;
  std::int64_t id = 5;
  for (std::int64_t p = 0; p < 70; ++p) {
    auto& prompt = prompts.emplace_back();
    for (std::int64_t i = 0; i <= p * 7 % longest; ++i) prompt.push_back(id = (id * 31 + 7 * p + i) % vocab);
  }
  return prompts;
}

std::vector<std::int64_t> long_prompt(std::int64_t vocab, std::int64_t count) {
  std::vector<std::int64_t> prompt;
  for (std::int64_t i = 0; i < count; ++i) prompt.push_back((i * i + 3 * i) % vocab);
  return prompt;
}

void expect_same_bits(const ForwardResult& a, const ForwardResult& b) {
  ASSERT_EQ(a.boundaries.size(), b.boundaries.size());
  for (std::size_t i = 0; i < a.boundaries.size(); ++i) EXPECT_TRUE(at::equal(a.boundaries[i], b.boundaries[i])) << i;
  for (std::size_t l = 0; l < a.attentions.size(); ++l)
    for (std::size_t p = 0; p < a.attentions[l].size(); ++p)
      EXPECT_TRUE(at::equal(a.attentions[l][p], b.attentions[l][p])) << "layer " << l << ", prompt " << p;
  EXPECT_TRUE(at::equal(a.final_norm, b.final_norm));
}

class ForwardTest : public ::testing::TestWithParam<std::string> {
 protected:
  void TearDown() override { set_compute_threads(1); }
};

TEST_P(ForwardTest, bits_do_not_depend_on_threads) {
  const Model model(case_folder(GetParam()));
  const TokenBatch batch = make_batch(many_prompts(model.description.vocab_size, 15));
  ASSERT_GT(batch.num_tokens(), 256) << "more rows than one chunk";
  set_compute_threads(1);
  const ForwardResult one = run_forward(model, batch, ComputeType::float32);
  for (const int threads : {2, 3}) {
    set_compute_threads(threads);
    expect_same_bits(one, run_forward(model, batch, ComputeType::float32));
  }
}

TEST_P(ForwardTest, prompts_do_not_see_each_other) {
  const Model model(case_folder(GetParam()));
  const auto prompts = many_prompts(model.description.vocab_size, 15);
  const ForwardResult together = run_forward(model, make_batch(prompts), ComputeType::float64);
  const TokenBatch batch = make_batch(prompts);
  // Sums of at most some thousand terms in another order, layer after layer.
  const double tolerance = 1e4 * std::numeric_limits<double>::epsilon();
  for (const std::size_t p : {std::size_t{0}, std::size_t{3}, prompts.size() - 1}) {
    const ForwardResult alone = run_forward(model, make_batch({prompts[p]}), ComputeType::float64);
    const std::int64_t first = batch.row_start[p], count = batch.row_start[p + 1] - first;
    EXPECT_LE(relative_error(together.final_norm.narrow(0, first, count), alone.final_norm), tolerance) << p;
    for (std::size_t l = 0; l < alone.attentions.size(); ++l)
      EXPECT_LE(relative_error(together.attentions[l][p], alone.attentions[l][0]), tolerance) << p;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ForwardTest, ::testing::Values("gpt2", "gpt_neox", "opt_350m", "llama", "gemma2"),
                         [](const auto& test) { return test.param; });

// 4 heads of 1100 x 1100 entries: past the size from which a prompt's attention is cut into heads and blocks of rows.
constexpr std::int64_t kLongPrompt = 1100;

TEST(ForwardLongPromptTest, agrees_with_its_beginning) {
  // What a token sees does not depend on what follows: the beginning, on its own, takes the path of short prompts.
  for (const char* name : {"llama", "gemma2"}) {
    const Model model(case_folder(name));
    const auto prompt = long_prompt(model.description.vocab_size, kLongPrompt);
    const std::vector<std::int64_t> beginning(prompt.begin(), prompt.begin() + 300);
    const ForwardResult whole = run_forward(model, make_batch({prompt, beginning}), ComputeType::float64);
    const double tolerance = 1e5 * std::numeric_limits<double>::epsilon();
    EXPECT_LE(relative_error(whole.final_norm.narrow(0, 0, 300), whole.final_norm.narrow(0, kLongPrompt, 300)),
              tolerance);
    for (const auto& attentions : whole.attentions) {
      const Tensor& a = attentions[0];
      EXPECT_LE(relative_error(a.narrow(1, 0, 300).narrow(2, 0, 300), attentions[1]), tolerance);
      EXPECT_LE((a.sum(-1) - 1).abs().max().item<double>(), tolerance) << "rows sum to 1";
      EXPECT_EQ(a.triu(1).count_nonzero().item<std::int64_t>(), 0) << "causal";
    }
  }
}

TEST(ForwardLongPromptTest, bits_do_not_depend_on_threads_or_observer) {
  const Model model(case_folder("llama"));
  const auto prompt = long_prompt(model.description.vocab_size, kLongPrompt);
  const TokenBatch batch = make_batch({{1, 2, 3}, prompt});
  set_compute_threads(1);
  const ForwardResult one = run_forward(model, batch, ComputeType::float32);
  set_compute_threads(3);
  expect_same_bits(one, run_forward(model, batch, ComputeType::float32));
  Tensor hidden = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  run_block(model.description, 0, weights, batch, hidden, {});
  EXPECT_TRUE(at::equal(hidden, one.boundaries[1]));
  set_compute_threads(1);
}

TEST(ForwardLongPromptTest, never_has_the_attention_of_all_heads) {
  const Model model(case_folder("llama3"));  // all heads share their keys
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const TokenBatch batch = make_batch({long_prompt(model.description.vocab_size, kLongPrompt)});
  const Tensor first = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  std::int64_t num_seen = 0, most_together = 0;
  const auto peak = [&](const AttentionObserver& observe) {
    return peak_tensor_bytes([&] {
      Tensor hidden = first;
      run_block(model.description, 0, weights, batch, hidden, observe);
    });
  };
  const std::int64_t seen = peak([&](std::int64_t, std::int64_t first_head, const Tensor& a, const RowScores&) {
    EXPECT_EQ(first_head, num_seen);
    num_seen += a.size(0);
    most_together = std::max(most_together, a.size(0));
  });
  EXPECT_EQ(num_seen, model.description.num_heads);
  EXPECT_EQ(most_together, long_attention_heads(model.description.num_heads, 1));
  const std::int64_t square = kLongPrompt * kLongPrompt * 4;
  EXPECT_LT(seen, model.description.num_heads * square);
  EXPECT_GE(seen, most_together * square) << "it is counted";
  EXPECT_LT(peak({}), seen - most_together * square / 2) << "less where nobody looks";
}

/// With their scores, if those are wanted.
std::int64_t peak_of_block(const Model& model, const TokenBatch& batch, bool wants_scores,
                           const AttentionObserver& observe) {
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const Tensor first = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  return peak_tensor_bytes([&] {
    BlockBatch one{.tokens = &batch, .hidden = first.clone(), .observe = observe, .wants_scores = wants_scores};
    run_block(model.description, 0, weights, std::span(&one, 1));
    EXPECT_FALSE(one.error);
  });
}

TEST(ForwardScoresTest, are_those_of_the_attention_and_take_what_is_planned) {
  for (const std::int64_t num_tokens : {std::int64_t{1}, std::int64_t{300}, kLongPrompt}) {
    SCOPED_TRACE(num_tokens);
    const Model model(case_folder("llama"));
    const TokenBatch batch = make_batch({long_prompt(model.description.vocab_size, num_tokens)});
    std::int64_t num_seen = 0;
    const auto see = [&](std::int64_t, std::int64_t, const Tensor& a, const RowScores& scores) {
      num_seen += a.size(0);
      ASSERT_EQ(scores.max.sizes(), a.sizes().slice(0, 2));
      ASSERT_EQ(scores.log_sum_exp.sizes(), scores.max.sizes());
      // The largest entry of a row is exp(its score - log_sum_exp), in float32.
      const Tensor largest = a.amax(-1).to(at::kDouble), expected = (scores.max - scores.log_sum_exp).exp();
      EXPECT_LE(((largest - expected) / expected).abs().max().item<double>(), 64 * 0x1p-24);
    };
    const auto see_nothing = [](std::int64_t, std::int64_t, const Tensor&, const RowScores& scores) {
      EXPECT_FALSE(scores.max.defined() || scores.log_sum_exp.defined());
    };
    peak_of_block(model, batch, true, see);
    EXPECT_EQ(num_seen, model.description.num_heads);
    const auto see_any = [](std::int64_t, std::int64_t, const Tensor&, const RowScores&) {};
    const std::int64_t more =
                           peak_of_block(model, batch, true, see_any) - peak_of_block(model, batch, false, see_nothing),
                       planned = scores_workspace_bytes(model.description, num_tokens, ComputeType::float32);
    EXPECT_LE(more, planned + 4096) << "and single numbers";
    if (num_tokens > 1) {
      EXPECT_GE(more, planned / 2);
    }
  }
}

TEST(ForwardLongPromptTest, what_an_observer_throws_of_a_head_is_the_batchs_error_and_ends_it) {
  const Model model(case_folder("llama"));
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const TokenBatch batch = make_batch({long_prompt(model.description.vocab_size, kLongPrompt)});
  Tensor hidden = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  std::vector<std::int64_t> seen;
  const auto observe = [&](std::int64_t, std::int64_t first_head, const Tensor&, const RowScores&) {
    seen.push_back(first_head);
    if (first_head > 0) throw std::runtime_error("head " + std::to_string(first_head));
  };
  EXPECT_THROW(run_block(model.description, 0, weights, batch, hidden, observe), std::runtime_error);
  EXPECT_EQ(seen, (std::vector<std::int64_t>{0, 2}));
}

TEST(ForwardTogetherTest, batches_have_the_bits_that_they_have_alone) {
  const Model model(case_folder("llama"));
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const auto long_one = long_prompt(model.description.vocab_size, kLongPrompt);
  const TokenBatch batches[] = {make_batch({{1, 2, 3}, {4, 5}}), make_batch({long_one, {7}}),
                                make_batch({{6, 5, 4, 3}})};
  for (const int threads : {1, 3}) {
    set_compute_threads(threads);
    std::vector<BlockBatch> together;
    std::vector<Tensor> alone;
    std::vector<std::vector<Tensor>> seen(3);
    for (std::size_t b = 0; b < 3; ++b) {
      Tensor hidden = embed(model.description, model.store, batches[b], ComputeType::float32).hidden;
      seen[b].resize(static_cast<std::size_t>(batches[b].num_prompts()));
      together.push_back({&batches[b], hidden.clone(),
                          [&, b](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores&) {
                            add_heads(a, first_head, seen[b][static_cast<std::size_t>(prompt)]);
                          }});
      run_block(model.description, 0, weights, batches[b], hidden, {});
      alone.push_back(hidden);
    }
    run_block(model.description, 0, weights, together);
    for (std::size_t b = 0; b < 3; ++b) {
      EXPECT_FALSE(together[b].error);
      EXPECT_TRUE(at::equal(together[b].hidden, alone[b])) << "batch " << b << ", threads " << threads;
      for (const Tensor& a : seen[b]) EXPECT_EQ(a.size(0), model.description.num_heads);
    }
  }
  set_compute_threads(1);
}

TEST(ForwardTogetherTest, what_an_observer_throws_is_its_batch_alone) {
  const Model model(case_folder("llama"));
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const TokenBatch batch = make_batch({{1, 2, 3}, {4, 5}});
  const Tensor first = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  std::vector<BlockBatch> together;
  together.push_back({&batch, first.clone(), [](std::int64_t prompt, std::int64_t, const Tensor&, const RowScores&) {
                        throw std::runtime_error(std::to_string(prompt));
                      }});
  together.push_back({&batch, first.clone(), {}});
  run_block(model.description, 0, weights, together);
  ASSERT_TRUE(together[0].error);
  try {
    std::rethrow_exception(together[0].error);
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "0") << "the first prompt's, whatever the threads";
  }
  EXPECT_FALSE(together[1].error);
  Tensor alone = first.clone();
  run_block(model.description, 0, weights, batch, alone, {});
  EXPECT_TRUE(at::equal(together[1].hidden, alone));
}

TEST(ForwardOverflowTest, a_norm_whose_squares_overflow_is_no_number) {
  for (const char* family : {"llama", "gpt2"}) {  // RMSNorm, LayerNorm
    const Model model(case_folder(family));
    const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
    const TokenBatch batch = make_batch({{1, 2, 3}, {4, 5}});
    Tensor hidden = embed(model.description, model.store, batch, ComputeType::float32).hidden;
    hidden.narrow(0, 0, 3).mul_(1e30);
    run_block(model.description, 0, weights, batch, hidden, {});
    EXPECT_FALSE(hidden.narrow(0, 0, 3).isfinite().any().item<bool>()) << family;
    EXPECT_TRUE(hidden.narrow(0, 3, 2).isfinite().all().item<bool>()) << family << ": another prompt";
  }
}

TEST(ForwardWindowTest, tokens_see_the_window_and_no_more) {
  const Model model(case_folder("mistral"));
  const std::int64_t window = *model.description.attention[0].sliding_window, count = 3 * window;
  const ForwardResult found =
      run_forward(model, make_batch({long_prompt(model.description.vocab_size, count)}), ComputeType::float64);
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t j = 0; j < count; ++j)
      EXPECT_EQ((found.attentions[0][0].select(1, i).select(1, j) > 0).all().item<bool>(), j <= i && j > i - window)
          << i << ", " << j;
}

TEST(ForwardEmptyBatchTest, has_no_rows) {
  const Model model(case_folder("gpt2"));
  const TokenBatch batch{{}, {0}};
  const ForwardResult found = run_forward(model, batch, ComputeType::float32);
  EXPECT_EQ(found.final_norm.size(0), 0);
}

TEST(CheckTokensTest, names_what_is_wrong) {
  const Model gpt2(case_folder("gpt2")), llama(case_folder("llama"));
  const std::int64_t limit = gpt2.description.max_positions, vocab = gpt2.description.vocab_size;
  const std::vector<std::int64_t> empty, fits(static_cast<std::size_t>(limit), 1),
      too_long(static_cast<std::size_t>(limit + 1), 1), high = {1, vocab}, negative = {-1};
  EXPECT_EQ(check_tokens(gpt2.description, empty), "the prompt has no tokens");
  EXPECT_EQ(check_tokens(gpt2.description, fits), "");
  EXPECT_EQ(check_tokens(gpt2.description, too_long),
            "the prompt has 17 tokens, more than the 16 of the model's position table");
  EXPECT_EQ(check_tokens(gpt2.description, high), "token id 43 at position 1 is not in the vocabulary of 43 tokens");
  EXPECT_EQ(check_tokens(gpt2.description, negative),
            "token id -1 at position 0 is not in the vocabulary of 43 tokens");
  const std::vector<std::int64_t> past_context(static_cast<std::size_t>(llama.description.max_positions + 1), 1);
  EXPECT_EQ(check_tokens(llama.description, past_context), "") << "rotary positions have no table to run out of";
}

TEST(BlockWorkspaceTest, does_not_grow_with_the_mlp_past_a_chunk) {
  const Model model(case_folder("gpt2"));
  const auto bytes = [&](std::int64_t tokens) {
    return block_workspace_bytes(model.description, tokens, 16, ComputeType::float32, true);
  };
  const std::int64_t projections_row = 3 * model.description.hidden_size * 4;
  EXPECT_EQ(bytes(200000) - bytes(100000), 100000 * projections_row);
}

}  // namespace
}  // namespace spectrace
