#include "spectrace/text/unigram.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

using Ids = std::vector<std::int64_t>;

Ids encode(const Unigram& unigram, std::string_view text) {
  Ids ids, again;
  unigram.encode(text, ids);
  unigram.encode(text, again);  // from the cache
  EXPECT_EQ(ids, again);
  return ids;
}

/// The best score over all segmentations, by trying all.
double best_score(const std::vector<UnigramPiece>& pieces, std::string_view text) {
  if (text.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (const UnigramPiece& piece : pieces)
    if (text.starts_with(piece.token))
      best = std::max(best, piece.score + best_score(pieces, text.substr(piece.token.size())));
  return best;
}

TEST(Unigram, segmentation_has_the_best_score) {
  std::mt19937 random(3);
  std::vector<UnigramPiece> pieces{{"a", -3}, {"b", -3.5}, {"c", -2.75}};
  for (int i = 0; i < 20; ++i) {
    std::string token;
    for (std::size_t n = 2 + random() % 3; n > 0; --n) token += static_cast<char>('a' + random() % 3);
    const auto is_same = [&](const UnigramPiece& piece) { return piece.token == token; };
    if (std::none_of(pieces.begin(), pieces.end(), is_same))
      pieces.push_back({token, -2.0 - static_cast<double>(random() % 64) / 16});  // sums are exact
  }
  const Unigram unigram(pieces, std::nullopt, false);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (std::size_t n = 1 + random() % 12; n > 0; --n) text += static_cast<char>('a' + random() % 3);
    std::string rebuilt;
    double score = 0;
    for (const auto id : encode(unigram, text)) {
      rebuilt += pieces[static_cast<std::size_t>(id)].token;
      score += pieces[static_cast<std::size_t>(id)].score;
    }
    ASSERT_EQ(rebuilt, text);
    ASSERT_EQ(score, best_score(pieces, text)) << text;
  }
}

TEST(Unigram, example_of_the_library_s_documentation) {
  const Unigram unigram(
      {{"<unk>", 0}, {"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}, {"cd", 1}, {"ab", 2}, {"abc", 5}, {"abcd", 10}}, 0, false);
  EXPECT_EQ(encode(unigram, "abcdacdxx"), Ids({8, 1, 5, 0}));  // abcd, a, cd, and one token for xx
}

TEST(Unigram, unknown_characters_become_bytes_where_all_are_there) {
  const std::vector<UnigramPiece> pieces{{"?", 0}, {"a", -1}, {"<0xC3>", -9}, {"<0xA9>", -9}};
  EXPECT_EQ(encode(Unigram(pieces, 0, true), "aéa"), Ids({1, 2, 3, 1}));
  EXPECT_EQ(encode(Unigram(pieces, 0, true), "aéèa"), Ids({1, 0, 1}));  // fused, and <0xA8> is not there
  EXPECT_EQ(encode(Unigram(pieces, 0, false), "aéa"), Ids({1, 0, 1}));
}

TEST(Unigram, characters_without_a_token_are_an_error_without_an_unknown_one) {
  const Unigram unigram({{"a", -1}}, std::nullopt, false);
  Ids ids;
  try {
    unigram.encode("ab", ids);
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::prompt);
    EXPECT_NE(std::string(error.what()).find("'b'"), std::string::npos);
  }
}

}  // namespace
}  // namespace spectrace::text
