#include "spectrace/text/oniguruma.hpp"

#include <gtest/gtest.h>

#include "spectrace/text/regex.hpp"

namespace spectrace::text {
namespace {

/// The matches of a pattern in a text, '|' between them.
std::string matches(std::string_view pattern, std::string_view text) {
  std::string joined;
  PatternEffort effort(text.size());
  for (const Span& span : Regex(pattern).find_spans(text, effort))
    if (span.is_match)
      joined += (joined.empty() ? "" : "|") + std::string(text.substr(span.begin, span.end - span.begin));
  return joined;
}

// Expected values are those of Oniguruma 6.9.10 as PyPI tokenizers uses it.

TEST(Oniguruma, classes_hold_its_characters) {
  EXPECT_EQ(matches("\\h+", "fab \t12g"), "fab|12");            // hexadecimal digits, PCRE2: horizontal space
  EXPECT_EQ(matches("\\v", "\n\v"), "\v");                      // one character, PCRE2: any vertical space
  EXPECT_EQ(matches("\\S+", "a\u180Eb\u3000c"), "a\u180Eb|c");  // PCRE2 takes U+180E for a space
  EXPECT_EQ(matches("\\w+", "x\u0301²-é_5"), "x\u0301²|é_5");
  EXPECT_EQ(matches("[[:punct:]]+", "a+$!b"), "+$!");
}

TEST(Oniguruma, properties_know_unicode_16) {
  EXPECT_EQ(matches("\\p{L}+", "a\U0001C4C7\U00031350\U00010D50"), "a|\U00031350\U00010D50");
  EXPECT_EQ(matches("\\p{Han}+", "中\U0002EBF0a"), "中\U0002EBF0");
  EXPECT_EQ(matches("\\P{L}+", "a1\U00031350"), "1");
  EXPECT_EQ(matches("\\p{^Lu}+", "aB"), "a");
  EXPECT_EQ(matches("\\p{hira gana}", "あア"), "あ");
}

TEST(Oniguruma, brackets_nest_and_intersect) {
  EXPECT_EQ(matches("[^(\\s|[.,])]+", "a.b c|d(e)"), "a|b|c|d|e");  // BLOOM's: ')' is in the set, too
  EXPECT_EQ(matches("[a-z&&[^aeiou]]+", "hello"), "h|ll");
  EXPECT_EQ(matches("[^a-z&&[^aeiou]]+", "hello1"), "e|o1");
  EXPECT_EQ(matches("[\\d[^\\s]]+", "a 1"), "a|1");
  EXPECT_EQ(matches("[]a]+", "a]b"), "a]");
}

TEST(Oniguruma, quantifiers_repeat_what_they_repeat_there) {
  EXPECT_EQ(matches("a{2,3}+a", "aaaa"), "aaaa");  // not possessive
  EXPECT_EQ(matches("a++a", "aaaa"), "");          // possessive
  EXPECT_EQ(matches("a{2}?b", "aabb"), "aab|b");   // optional pair
  EXPECT_EQ(matches("ba{,2}", "baaa"), "baa");
  EXPECT_EQ(matches("x{a}", "x{a}"), "x{a}");
}

TEST(Oniguruma, lines_and_options_are_rubys) {
  EXPECT_EQ(matches("^.", "ab\ncd"), "a|c");
  EXPECT_EQ(matches(".$", "ab\ncd"), "b|d");
  EXPECT_EQ(matches("b.", "b\nbc"), "bc");
  EXPECT_EQ(matches("(?m:b.)", "b\nbc"), "b\n|bc");
  EXPECT_EQ(matches("e(?i)r|s", "eR S es"), "eR|es");  // the option goes on over the bar: e(?i:r|s)
  EXPECT_EQ(matches("(?i:'s)", "'S'ſ"), "'S|'ſ");
}

TEST(Oniguruma, unknown_parts_are_refused_by_name) {
  const auto refusal = [](std::string_view pattern) -> std::string {
    try {
      translate_oniguruma(pattern);
    } catch (const UnsupportedPattern& unsupported) {
      return unsupported.what();
    }
    return "";
  };
  EXPECT_NE(refusal("(a)\\1").find("\\1"), std::string::npos);
  EXPECT_NE(refusal("\\p{Klingon}").find("Klingon"), std::string::npos);
  for (const char* pattern :
       {"(?<name>a)", "(?~a)", "\\K", "\\R", "a(", "a)", "[a", "*a", "\\x{110000}", "\\p", "(?x:a)"})
    EXPECT_NE(refusal(pattern), "") << pattern;
  EXPECT_NE(refusal(std::string(300, '(')), "");
  EXPECT_NE(refusal(std::string(300, '[')), "");
}

}  // namespace
}  // namespace spectrace::text
