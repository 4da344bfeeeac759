#include "spectrace/core/error.hpp"

#include <gtest/gtest.h>

namespace spectrace {
namespace {

using namespace std::string_literals;

TEST(ShownText, is_what_a_terminal_and_a_results_file_can_take) {
  EXPECT_EQ(shown_text("tensor 'h.0'\n\tof 漢字"), "tensor 'h.0'\n\tof 漢字");
  EXPECT_EQ(shown_text("a\0b"s), "a\\x00b");
  EXPECT_EQ(shown_text("\x1b[2J\x7f\r"), "\\x1b[2J\\x7f\\x0d");
  EXPECT_EQ(shown_text("\xc2\x9b"
                       "2J\xc2\xa0"),
            "\\xc2\\x9b2J\xc2\xa0");
  EXPECT_EQ(shown_text("\xff"
                       "a\xc3"),
            "\\xffa\\xc3");
  EXPECT_EQ(shown_text(""), "");
}

TEST(ShownText, is_cut_between_characters_and_stays_as_it_is) {
  for (const std::string& part : {"x"s, "ä"s, "\xff"s, "\0"s, "a\xf0\x9f\x98\x80"s}) {
    std::string text;
    while (text.size() < 100'000) text += part;
    const std::string shown = shown_text(text);
    EXPECT_GT(shown.size(), 7900u);
    EXPECT_LE(shown.size(), 8000u);
    EXPECT_TRUE(shown.ends_with("..."));
    EXPECT_TRUE(shown_text(shown) == shown) << shown.substr(0, 20);
  }
}

TEST(InputError, shows_foreign_bytes) {
  const InputError error(ErrorKind::model, "tensor 'a\0b'"s, "\xff", "\x1b");
  EXPECT_STREQ(error.what(), "tensor 'a\\x00b' (\\xff) \\x1b");
  EXPECT_EQ(error.problem(), "tensor 'a\\x00b'");
  EXPECT_STREQ(error.in("model").what(), "model: tensor 'a\\x00b' (\\xff) \\x1b");
}

}  // namespace
}  // namespace spectrace
