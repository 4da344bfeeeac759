#include "spectrace/core/json.hpp"

#include <gtest/gtest.h>

namespace spectrace {
namespace {

JsonNode parse(const char* text) { return JsonNode::parse_text(text, "doc", ErrorKind::usage); }

template <typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(JsonNode, errors_name_document_place_and_type) {
  const JsonNode root = parse(R"({"a": {"b": [1, "two"]}})");
  EXPECT_EQ(error_of([&] { root.at("a").at("b").element(1).as_int(); }),
            "doc: /a/b/1: is \"two\", expected an integer");
  EXPECT_EQ(error_of([&] { root.at("a").at("c"); }), "doc: /a: the key 'c' is missing");
  EXPECT_EQ(error_of([&] {
              root.at("a").expect_only_keys({"x", "y"});
            }),
            "doc: /a: unknown key 'b' (allowed here: 'x', 'y')");
}

TEST(JsonNode, syntax_error_names_line_and_column) {
  const std::string error = error_of([] { parse("{\"a\": 1,\n  oops}"); });
  EXPECT_NE(error.find("doc: is not JSON at line 2"), std::string::npos) << error;
}

TEST(JsonNode, numbers_are_checked) {
  const JsonNode root = parse(R"({"whole": 512.0, "half": 0.5, "big": 18446744073709551615, "none": null})");
  EXPECT_EQ(root.at("whole").as_int(), 512);
  EXPECT_EQ(root.at("half").as_double(), 0.5);
  EXPECT_THROW(root.at("half").as_int(), InputError);
  EXPECT_THROW(root.at("big").as_int(), InputError);
  EXPECT_FALSE(root.has("none"));
  EXPECT_EQ(root.get_int("none", 7), 7);
}

TEST(JsonNode, number_out_of_range_is_an_input_error) {
  const std::string error = error_of([] { parse(R"({"theta": 1e999})"); });
  EXPECT_NE(error.find("doc: cannot be read as JSON (number overflow"), std::string::npos) << error;
}

TEST(JsonNode, comments_are_allowed) { EXPECT_EQ(parse("// why\n{\"a\": /* here */ 3}").at("a").as_int(), 3); }

}  // namespace
}  // namespace spectrace
