#include "spectrace/text/regex.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"
#include "spectrace/text/oniguruma.hpp"

namespace spectrace::text {
namespace {

std::vector<Span> find_spans(const Regex& regex, std::string_view text) {
  PatternEffort effort(text.size());
  return regex.find_spans(text, effort);
}

/// The error of matching, or "".
std::string match_error(const std::string& pattern, const std::string& text) {
  try {
    find_spans(Regex(pattern), text);
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::prompt);
    return error.what();
  }
  return "";
}

/// What PCRE2 was seen to do for the text by the code that counts.
std::size_t counted_steps(const std::string& pattern, const std::string& text) {
  PatternEffort effort(text.size());
  const std::size_t before = effort.left();
  Regex(pattern).find_spans(text, effort);
  return before - effort.left();
}

TEST(Regex, empty_matches_count_unless_behind_a_match) {
  std::vector<std::size_t> empty_at;
  for (const Span& span : find_spans(Regex("x*"), "axxb"))
    if (span.begin == span.end) empty_at.push_back(span.begin);
  EXPECT_EQ(empty_at, std::vector<std::size_t>({0, 4}));
}

TEST(Regex, spans_cover_the_text) {
  const std::string text = "été 12 naïve";
  std::string rebuilt;
  for (const Span& span : find_spans(Regex("\\p{L}+"), text)) rebuilt += text.substr(span.begin, span.end - span.begin);
  EXPECT_EQ(rebuilt, text);
}

TEST(Regex, exponential_patterns_end_in_an_error) {
  const std::string error = match_error("(?:a|a)*b", std::string(60, 'a') + "cb");  // 2^n ways to fail
  EXPECT_NE(error.find("(?:a|a)*b"), std::string::npos) << error;
  EXPECT_NE(error.find("too many steps"), std::string::npos) << error;
}

// Each would take the square or the cube of a megabyte: the run's own time limit would notice.
TEST(Regex, polynomial_patterns_end_in_an_error) {
  const std::string text(1'000'000, 'a');
  for (const char* pattern : {"a*b", "(?>a*)b", ".*.*.*b", "a(?=.*b)", "(?<![^a])a*b", "(?:a+)+b"})
    EXPECT_NE(match_error(pattern, text).find("too many steps"), std::string::npos) << pattern;
}

// The code that tells of every step is larger than the other: here more than PCRE2 takes.
TEST(Regex, patterns_too_large_to_be_counted_give_up_on_long_runs) {
  const Regex regex("(?:a|" + std::string(9000, 'b') + ")+");
  EXPECT_EQ(find_spans(regex, "xaax").size(), 3u);
  EXPECT_NE(match_error(regex.pattern(), std::string(2000, 'a')).find("gives up on this text"), std::string::npos);
}

TEST(Regex, long_runs_take_steps_in_proportion) {
  const char* const llama3 =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
      "\\s+(?!\\S)|\\s+";
  for (const char c : {' ', 'a', '-', '\n'}) {
    const std::size_t once = counted_steps(llama3, std::string(10'000, c) + "x");
    const std::size_t twice = counted_steps(llama3, std::string(20'000, c) + "x");
    EXPECT_GT(once, 10'000u) << c;
    EXPECT_LT(twice, once * 21 / 10) << c;
  }
}

/// Runs of every length around that of the window in which a match is looked for first, at every place of it.
TEST(Regex, windows_change_no_match) {
  const Regex words("\\p{L}+|\\s+(?!\\S)|\\s+|$"), before("(?<=[a ])b+(?= |$)");
  for (std::size_t shift : {0, 1, 2, 3, 130, 254, 255, 256, 257}) {
    for (std::size_t size = 200; size < 530; ++size) {
      const std::string head(shift, ' '), run(size, 'b');
      const auto ends = [](const std::vector<Span>& spans) {
        std::vector<std::size_t> all;
        for (const Span& span : spans)
          if (span.is_match) all.push_back(span.end);
        return all;
      };
      std::vector<std::size_t> wanted;
      if (shift > 1) wanted.push_back(shift - 1);
      if (shift > 0) wanted.push_back(shift);
      wanted.push_back(shift + size);
      wanted.push_back(shift + size + 2);
      ASSERT_EQ(ends(find_spans(words, head + run + "  ")), wanted) << shift << " " << size;
      const std::vector<std::size_t> behind{shift + 1 + size};
      ASSERT_EQ(ends(find_spans(before, std::string(shift, '-') + "a" + run + " -")), behind) << shift << " " << size;
      ASSERT_EQ(ends(find_spans(before, std::string(shift, '-') + "a" + run)), behind) << shift << " " << size;
    }
  }
}

TEST(Regex, windows_end_behind_whole_characters) {
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::string text(shift, 'a');
    while (text.size() < 2000) text += "\U0001F600\u00e9";
    std::size_t num_matches = 0;
    for (const Span& span : find_spans(Regex("\u00e9"), text)) num_matches += span.is_match;
    EXPECT_EQ(num_matches, (text.size() - shift) / 6);
  }
}

TEST(Regex, patterns_beyond_the_limits_are_refused) {
  EXPECT_THROW(Regex(std::string(16 * 1024 + 1, 'a')), UnsupportedPattern);
  EXPECT_THROW(Regex("(?<=.{300})a"), UnsupportedPattern);
  EXPECT_THROW(Regex("(?:(?:a{1000}){1000}){1000}"), UnsupportedPattern);
}

}  // namespace
}  // namespace spectrace::text
