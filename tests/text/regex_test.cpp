#include "spectrace/text/regex.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

TEST(Regex, empty_matches_count_unless_behind_a_match) {
  std::vector<std::size_t> empty_at;
  for (const Span& span : Regex("x*").find_spans("axxb"))
    if (span.begin == span.end) empty_at.push_back(span.begin);
  EXPECT_EQ(empty_at, std::vector<std::size_t>({0, 4}));
}

TEST(Regex, spans_cover_the_text) {
  const std::string text = "été 12 naïve";
  std::string rebuilt;
  for (const Span& span : Regex("\\p{L}+").find_spans(text)) rebuilt += text.substr(span.begin, span.end - span.begin);
  EXPECT_EQ(rebuilt, text);
}

TEST(Regex, exponential_patterns_end_in_an_error) {
  const Regex regex("(?:a|a)*b");  // 2^n ways to fail
  try {
    regex.find_spans(std::string(60, 'a') + "cb");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::prompt);
    EXPECT_NE(std::string(error.what()).find("(?:a|a)*b"), std::string::npos);
  }
}

}  // namespace
}  // namespace spectrace::text
