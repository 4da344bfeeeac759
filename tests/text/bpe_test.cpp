#include "spectrace/text/bpe.hpp"

#include <gtest/gtest.h>

#include <random>

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

using Ids = std::vector<std::int64_t>;

struct RandomModel {
  Vocabulary vocabulary;
  std::vector<Merge> merges;
};

/// Letters a to d and random merges of what is there already.
RandomModel random_model(std::mt19937& random, std::size_t num_merges) {
  RandomModel model;
  std::vector<std::string> tokens{"a", "b", "c", "d"};
  while (model.merges.size() < num_merges) {
    const Merge merge{tokens[random() % tokens.size()], tokens[random() % tokens.size()]};
    const std::string merged = merge.left + merge.right;
    if (merged.size() > 6 || std::find(tokens.begin(), tokens.end(), merged) != tokens.end()) continue;
    tokens.push_back(merged);
    model.merges.push_back(merge);
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) model.vocabulary[tokens[id]] = static_cast<std::int64_t>(id);
  return model;
}

/// The definition: again and again, merge the leftmost pair of the lowest rank.
Ids merge_by_definition(const RandomModel& model, const std::string& text) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  for (;;) {
    std::size_t best_rank = model.merges.size(), best = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (model.merges[rank].left == symbols[i] && model.merges[rank].right == symbols[i + 1]) {
          best_rank = rank;
          best = i;
        }
    if (best_rank == model.merges.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) ids.push_back(model.vocabulary.at(symbol));
  return ids;
}

TEST(Bpe, merges_as_by_definition) {
  std::mt19937 random(11);
  for (int round = 0; round < 30; ++round) {
    const RandomModel model = random_model(random, 25);
    const Bpe bpe(model.vocabulary, model.merges, {}, "test");
    for (int i = 0; i < 60; ++i) {
      std::string text;
      for (std::size_t n = 1 + random() % 30; n > 0; --n) text += static_cast<char>('a' + random() % 4);
      Ids ids;
      bpe.encode(text, ids);
      ASSERT_EQ(ids, merge_by_definition(model, text)) << text;
    }
  }
}

Ids encode(const Bpe& bpe, std::string_view text) {
  Ids ids, again;
  bpe.encode(text, ids);
  bpe.encode(text, again);  // from the cache
  EXPECT_EQ(ids, again);
  return ids;
}

TEST(Bpe, unknown_characters_are_dropped_replaced_or_fused) {
  const Vocabulary vocabulary{{"a", 0}, {"b", 1}, {"?", 2}};
  EXPECT_EQ(encode(Bpe(vocabulary, {}, {}, "test"), "xaéyb"), Ids({0, 1}));
  BpeOptions options{.unknown_token = "?"};
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options, "test"), "xaéyb"), Ids({2, 0, 2, 2, 1}));
  options.fuse_unknown = true;
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options, "test"), "xaéyb"), Ids({2, 0, 2, 1}));
}

TEST(Bpe, bytes_stand_for_characters_only_where_all_are_there) {
  const Vocabulary vocabulary{{"a", 0}, {"?", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}};
  const Bpe bpe(vocabulary, {}, {.unknown_token = "?", .fuse_unknown = true, .byte_fallback = true}, "test");
  EXPECT_EQ(encode(bpe, "aé"), Ids({0, 2, 3}));
  EXPECT_EQ(encode(bpe, "è"), Ids({1}));  // <0xA8> is not there
  // An unknown character waits for the next known one, past bytes: so has PyPI tokenizers.
  EXPECT_EQ(encode(bpe, "xéa"), Ids({2, 3, 1, 0}));
}

TEST(Bpe, prefix_and_suffix_make_other_tokens) {
  const Vocabulary vocabulary{{"a", 0}, {"##a", 1}, {"##a$", 2}, {"a##a", 3}, {"aa", 4}, {"a$", 5}};
  const BpeOptions options{.continuing_prefix = "##", .word_suffix = "$"};
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options, "test"), "aaa"), Ids({0, 1, 2}));
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options, "test"), "a"), Ids({5}));
  EXPECT_EQ(encode(Bpe(vocabulary, {{"a", "##a"}}, options, "test"), "aaa"), Ids({4, 2}));
}

TEST(Bpe, whole_pieces_come_before_merges_only_if_asked) {
  const Vocabulary vocabulary{{"a", 0}, {"b", 1}, {"aab", 2}};
  EXPECT_EQ(encode(Bpe(vocabulary, {}, {}, "test"), "aab"), Ids({0, 0, 1}));
  EXPECT_EQ(encode(Bpe(vocabulary, {}, {.ignore_merges = true}, "test"), "aab"), Ids({2}));
}

TEST(Bpe, repeated_pair_keeps_its_last_rank) {
  const Vocabulary vocabulary{{"a", 0}, {"b", 1}, {"ab", 2}, {"ba", 3}};
  EXPECT_EQ(encode(Bpe(vocabulary, {{"a", "b"}, {"b", "a"}}, {}, "test"), "aba"), Ids({2, 0}));
  EXPECT_EQ(encode(Bpe(vocabulary, {{"a", "b"}, {"b", "a"}, {"a", "b"}}, {}, "test"), "aba"), Ids({0, 3}));
}

TEST(Bpe, negative_ids_are_refused) { EXPECT_THROW(Bpe({{"a", -1}}, {}, {}, "test"), InputError); }

}  // namespace
}  // namespace spectrace::text
