#include "spectrace/text/delimited_file.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

using Fields = std::vector<std::string>;

TEST(DelimitedFile, quoted_fields_hold_anything) {
  const auto records = parse_delimited("a,\"b,\"\"c\"\"\r\nd\",\r\n\n\"\",e,f", ',', "test");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].fields, Fields({"a", "b,\"c\"\r\nd", ""}));
  EXPECT_EQ(records[0].line, 1u);
  EXPECT_EQ(records[1].fields, Fields({"", "e", "f"}));
  EXPECT_EQ(records[1].line, 4u);
}

TEST(DelimitedFile, tabs_delimit_where_asked) {
  EXPECT_EQ(parse_delimited("a,b\tc\n", '\t', "test")[0].fields, Fields({"a,b", "c"}));
}

TEST(DelimitedFile, bad_quotes_name_their_line) {
  const auto message = [](std::string_view text) -> std::string {
    try {
      parse_delimited(text, ',', "p.csv");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("x\n\"a\nb").find("p.csv: line 2 has a quote that is never closed"), std::string::npos);
  EXPECT_NE(message("x\n\"a\nb\"c").find("line 3 has text behind"), std::string::npos);
  EXPECT_NE(message("x\ny\na\"b\"").find("line 3 has a quote inside"), std::string::npos);
}

}  // namespace
}  // namespace spectrace::text
