#include "spectrace/text/byte_trie.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace spectrace::text {
namespace {

TEST(ByteTrie, prefixes_are_those_of_a_plain_search) {
  std::mt19937 random(5);
  std::map<std::string, std::int64_t> expected;
  std::vector<ByteTrie::Entry> entries;
  for (std::int64_t i = 0; i < 400; ++i) {
    std::string text;
    for (std::size_t n = 1 + random() % 6; n > 0; --n) text += "ab\xC3\x00"[random() % 4];
    expected[text] = i;  // of equal texts the last counts
    entries.push_back({text, i});
  }
  const ByteTrie trie(entries);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "ab\xC3\x00"[random() % 4];
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    std::vector<std::int64_t> found, wanted;
    trie.for_each_prefix(text, begin, [&](const ByteTrie::Match& match) {
      EXPECT_EQ(expected.at(text.substr(begin, match.size_bytes)), match.value);
      found.push_back(match.value);
    });
    for (std::size_t size = 1; size <= 6 && begin + size <= text.size(); ++size)
      if (const auto it = expected.find(text.substr(begin, size)); it != expected.end()) wanted.push_back(it->second);
    ASSERT_EQ(found, wanted) << begin;
    const auto longest = trie.find_longest(text, begin);
    ASSERT_EQ(longest.has_value(), !wanted.empty());
    if (longest) {
      EXPECT_EQ(longest->value, wanted.back());
    }
  }
}

TEST(ByteTrie, empty_trie_finds_nothing) {
  EXPECT_FALSE(ByteTrie(std::vector<ByteTrie::Entry>{}).find_longest("abc", 0));
}

}  // namespace
}  // namespace spectrace::text
