#include "spectrace/text/utf8.hpp"

#include <gtest/gtest.h>

namespace spectrace::text {
namespace {

TEST(Utf8, every_code_point_survives_encoding_and_decoding) {
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "x";
    append_utf8(text, c);
    ASSERT_FALSE(find_invalid_utf8(text)) << static_cast<unsigned>(c);
    const auto forward = decode_at(text, 1);
    const auto backward = decode_before(text, text.size());
    ASSERT_EQ(forward.value, c);
    ASSERT_EQ(backward.value, c);
    ASSERT_EQ(forward.size_bytes, text.size() - 1);
    ASSERT_EQ(backward.size_bytes, text.size() - 1);
  }
}

TEST(Utf8, ill_formed_bytes_are_found_where_they_are) {
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2u);            // a continuation without a start
  EXPECT_EQ(find_invalid_utf8("a\xC0\xAF"), 1u);         // overlong '/'
  EXPECT_EQ(find_invalid_utf8("é\xE0\x80\xAF"), 2u);     // overlong in three
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0u);      // a surrogate
  EXPECT_EQ(find_invalid_utf8("\xF0\x80\x80\x80"), 0u);  // overlong in four
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xF8\x88\x80\x80\x80"), 0u);
  EXPECT_EQ(find_invalid_utf8("abc\xE2\x82"), 3u);  // cut off
  EXPECT_EQ(find_invalid_utf8("\xE2\x28\xA1"), 0u);
  EXPECT_EQ(find_invalid_utf8("\xF0\x9F\x98\x80 \xFF"), 5u);
  EXPECT_EQ(find_invalid_utf8(std::string_view("a\0b", 3)), std::nullopt);
}

TEST(Utf8, ascii_is_told_from_the_rest_at_every_position) {
  for (std::size_t size = 0; size < 40; ++size) {
    std::string text(size, 'a');
    EXPECT_TRUE(is_ascii(text));
    for (std::size_t i = 0; i < size; ++i) {
      text[i] = '\x80';
      EXPECT_FALSE(is_ascii(text)) << size << " " << i;
      text[i] = 'a';
    }
  }
}

}  // namespace
}  // namespace spectrace::text
