#include "spectrace/model/prediction.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint_case.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

const std::vector<std::vector<std::int64_t>> kPrompts = {{3, 1, 4, 1, 5}, {9}, {2, 6, 5, 3, 5, 8, 9, 7}};

struct Case {
  explicit Case(const std::string& name, std::vector<std::vector<std::int64_t>> prompts = kPrompts)
      : model(case_folder(name)), tokens(make_batch(prompts)) {
    const ForwardResult found = run_forward(model, tokens, ComputeType::float64);
    Tensor last =
        at::empty({tokens.num_prompts(), model.description.num_layers + 1, model.description.hidden_size}, at::kDouble);
    for (std::int64_t p = 0; p < tokens.num_prompts(); ++p)
      for (std::size_t b = 0; b < found.boundaries.size(); ++b)
        last[p][static_cast<std::int64_t>(b)] =
            found.boundaries[b][tokens.row_start[static_cast<std::size_t>(p) + 1] - 1];
    batch = {&tokens, found.final_norm, last};
  }

  Model model;
  TokenBatch tokens;
  PredictionBatch batch;
};

bool always(double) { return true; }

/// Of all scores at once.
Tensor log_probabilities(const Case& of, const Tensor& normed) {
  const EmbeddingSources& embedding = of.model.description.embedding;
  const auto read = [&](const TensorSource& source) {
    return of.model.store.read(*of.model.store.find(source.tensor), ComputeType::float64);
  };
  Tensor x = normed;
  if (embedding.project_out) x = x.matmul(read(embedding.project_out->weight).t());
  Tensor scores = x.matmul(read(embedding.unembedding).t());
  if (embedding.unembedding_bias) scores = scores + read(*embedding.unembedding_bias);
  scores = scores * embedding.logits.scale;
  if (embedding.logits.softcap) scores = at::tanh(scores / *embedding.logits.softcap) * *embedding.logits.softcap;
  return at::log_softmax(scores, -1);
}

/// Families whose heads differ: bias, soft cap, scale, projection.
TEST(Predict, is_what_all_scores_at_once_give) {
  for (const char* name : {"gpt2", "gptj", "gemma2", "cohere", "opt_350m"}) {
    Case of(name);
    ASSERT_TRUE(predict(of.model.description, of.model.store, std::span(&of.batch, 1), always));
    const Predictions& found = of.batch.found;
    const Tensor log_p = log_probabilities(of, of.batch.normed);
    const Tensor lens = log_probabilities(
        of, apply_final_norm(of.model.description, of.model.store, of.batch.last_tokens.flatten(0, 1)));
    const std::int64_t boundaries = of.batch.last_tokens.size(1);
    for (std::int64_t p = 0; p < of.tokens.num_prompts(); ++p) {
      const std::int64_t first = of.tokens.row_start[static_cast<std::size_t>(p)],
                         end = of.tokens.row_start[static_cast<std::size_t>(p) + 1];
      for (std::int64_t row = first; row < end; ++row) {
        const auto place = static_cast<std::size_t>(row);
        EXPECT_NEAR(found.entropy[place], -(log_p[row].exp() * log_p[row]).sum().item<double>(), 1e-12) << name;
        EXPECT_EQ(found.most_probable[place], log_p[row].argmax().item<std::int64_t>()) << name;
        if (row + 1 == end)
          EXPECT_TRUE(std::isnan(found.next_token_nll[place])) << name;
        else
          EXPECT_NEAR(found.next_token_nll[place], -log_p[row][of.tokens.token_ids[place + 1]].item<double>(), 1e-12);
      }
      const Tensor final = lens[(p + 1) * boundaries - 1], best = final.argmax();
      for (std::int64_t b = 0; b < boundaries; ++b) {
        const auto place = static_cast<std::size_t>(p * boundaries + b);
        const Tensor here = lens[p * boundaries + b];
        EXPECT_NEAR(found.lens_kl[place], (final.exp() * (final - here)).sum().item<double>(), 1e-12) << name;
        EXPECT_NEAR(found.lens_entropy[place], -(here.exp() * here).sum().item<double>(), 1e-12) << name;
        EXPECT_EQ(found.lens_rank[place], (here > here[best]).sum().item<double>()) << name;
      }
    }
  }
}

TEST(Predict, gives_a_batch_the_same_bits_alone_and_beside_others_on_any_threads) {
  Case one("llama"), other("llama", {{7, 7, 1, 2}, {11, 13}});
  ASSERT_TRUE(predict(one.model.description, one.model.store, std::span(&one.batch, 1), always));
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    std::vector<PredictionBatch> both = {other.batch, one.batch};
    both[1].found = {};
    ASSERT_TRUE(predict(one.model.description, one.model.store, both, always));
    EXPECT_EQ(both[1].found.entropy, one.batch.found.entropy);
    EXPECT_EQ(both[1].found.lens_kl, one.batch.found.lens_kl);
    EXPECT_EQ(both[1].found.lens_rank, one.batch.found.lens_rank);
  }
  set_num_threads(1);
}

/// A prompt that failed is there all the same, and its numbers are none: the others do not notice.
TEST(Predict, a_prompt_that_is_not_finite_leaves_the_others_alone) {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    Case good("llama"), damaged("llama");
    const RowRange rows = damaged.tokens.rows_of(1);
    damaged.batch.normed.narrow(0, rows.first, rows.count).fill_(bad);
    damaged.batch.last_tokens.select(0, 1).fill_(bad);
    for (Case* one : {&good, &damaged})
      ASSERT_TRUE(predict(one->model.description, one->model.store, std::span(&one->batch, 1), always));
    const Predictions &expected = good.batch.found, &found = damaged.batch.found;
    for (std::int64_t row = 0; row < good.tokens.num_tokens(); ++row) {
      const auto place = static_cast<std::size_t>(row);
      if (row >= rows.first && row < rows.last()) {
        EXPECT_FALSE(std::isfinite(found.entropy[place]));
      } else {
        EXPECT_EQ(expected.entropy[place], found.entropy[place]) << row;
      }
    }
    const auto boundaries = static_cast<std::size_t>(good.batch.last_tokens.size(1));
    for (std::size_t place = 0; place < expected.lens_kl.size(); ++place) {
      if (place / boundaries == 1) continue;
      EXPECT_EQ(expected.lens_kl[place], found.lens_kl[place]) << place;
    }
  }
}

TEST(Predict, stops_where_it_is_told_to_and_tells_how_far_it_is) {
  Case of("gpt2");
  double share = 0;
  ASSERT_TRUE(predict(of.model.description, of.model.store, std::span(&of.batch, 1), [&](double more) {
    share += more;
    return true;
  }));
  EXPECT_NEAR(share, 1, 1e-12);
  of.batch.found = {};
  EXPECT_FALSE(predict(of.model.description, of.model.store, std::span(&of.batch, 1), [](double) { return false; }));
}

}  // namespace
}  // namespace spectrace
