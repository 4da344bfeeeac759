#include "spectrace/text/unicode.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>

#include "spectrace/text/utf8.hpp"

namespace spectrace::text {
namespace {

std::int64_t count(const std::function<bool(char32_t)>& predicate) {
  std::int64_t number = 0;
  for (char32_t c = 1; c <= 0x10FFFF; ++c)
    if (c < 0xD800 || c > 0xDFFF) number += predicate(c);
  return number;
}

std::string utf8(char32_t c) {
  std::string text;
  append_utf8(text, c);
  return text;
}

std::string lowercase(char32_t c) {
  std::string text;
  append_lowercase(text, c);
  return text;
}

constexpr auto all_forms = {NormalizationForm::nfc, NormalizationForm::nfd, NormalizationForm::nfkc,
                            NormalizationForm::nfkd};

/// How many characters PyPI tokenizers 0.23.3 has of each kind, every character asked for on its own.
TEST(Unicode, kinds_have_as_many_characters_as_in_pypi_tokenizers) {
  EXPECT_EQ(count(is_white_space), 25);
  EXPECT_EQ(count(is_numeric), 1924);
  EXPECT_EQ(count(is_punctuation), 726);
  EXPECT_EQ(count(is_combining_mark), 2097);
  EXPECT_EQ(count(is_word), 144667);
  EXPECT_EQ(count([](char32_t c) { return lowercase(c) != utf8(c); }), 1488);
}

TEST(Unicode, normalization_changes_as_many_characters_as_in_pypi_tokenizers) {
  const auto num_changed = [](NormalizationForm form) {
    return count([&](char32_t c) { return normalize(utf8(c), form) != utf8(c); });
  };
  EXPECT_EQ(num_changed(NormalizationForm::nfc), 1120);
  EXPECT_EQ(num_changed(NormalizationForm::nfd), 13232);
  EXPECT_EQ(num_changed(NormalizationForm::nfkc), 4794);
  EXPECT_EQ(num_changed(NormalizationForm::nfkd), 16894);
}

TEST(Unicode, lowercase_takes_no_notice_of_neighbours) {
  EXPECT_EQ(lowercase(U'A'), "a");
  EXPECT_EQ(lowercase(U'Ÿ'), "ÿ");
  EXPECT_EQ(lowercase(U'İ'), "i\u0307");
  EXPECT_EQ(lowercase(U'Σ'), "σ");  // never the final form
  EXPECT_EQ(lowercase(U'ǅ'), "ǆ");
  EXPECT_EQ(lowercase(U'Ა'), "ა");
  EXPECT_EQ(lowercase(0x16EA0), utf8(0x16EBB));  // Unicode 17
  EXPECT_EQ(lowercase(U'ß'), "ß");
}

TEST(Unicode, forms_compose_and_decompose) {
  EXPECT_EQ(normalize("e\u0301 Å \uAC00", NormalizationForm::nfc), "é Å \uAC00");
  EXPECT_EQ(normalize("é \uAC01", NormalizationForm::nfd), "e\u0301 \u1100\u1161\u11A8");
  EXPECT_EQ(normalize("ﬁ ² ｱ", NormalizationForm::nfkc), "fi 2 ア");
  EXPECT_EQ(normalize("q\u0307\u0323", NormalizationForm::nfc), "q\u0323\u0307");
  EXPECT_EQ(normalize("a\u0323\u0302", NormalizationForm::nfc), "ậ");
  EXPECT_EQ(normalize("a\u035C\u0315\u0300", NormalizationForm::nfd), "a\u0300\u0315\u035C");
  EXPECT_EQ(normalize("\u0958", NormalizationForm::nfc), "\u0915\u093C");  // excluded from composition
}

TEST(Unicode, characters_newer_than_unicode_9_are_inert) {
  for (const char32_t c : {char32_t{0x11938}, char32_t{0x32FF}, char32_t{0x1FBF0}})
    for (const auto form : all_forms) EXPECT_EQ(normalize(utf8(c), form), utf8(c));
  // U+08D3 got combining class 220 in Unicode 11; before, it let nothing pass.
  const std::string text = "a\u0301" + utf8(0x8D3) + "\u0323";
  EXPECT_EQ(normalize(text, NormalizationForm::nfd), text);
  EXPECT_EQ(normalize(utf8(0x11935) + utf8(0x11930), NormalizationForm::nfc), utf8(0x11935) + utf8(0x11930));
}

TEST(Unicode, normalizing_twice_changes_nothing_more) {
  std::string text;
  for (char32_t c = 0xA0; c < 0x3100; ++c) {
    text += utf8(c);
    if (c % 5 == 0) text += utf8(0x300 + c % 0x50);
  }
  for (const auto form : all_forms) {
    const std::string once = normalize(text, form);
    EXPECT_EQ(normalize(once, form), once);
    EXPECT_NE(once, text);
  }
}

}  // namespace
}  // namespace spectrace::text
