#include "spectrace/core/json.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/foreign_memory.hpp"

namespace spectrace {
namespace {

JsonNode parse(std::string_view text) { return JsonNode::parse_text(text, "doc", ErrorKind::usage); }

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

JsonNode parse_strictly(const std::string& text) {
  return JsonNode::parse_text(text, "doc", ErrorKind::usage, DuplicateKeys::refused);
}

TEST(JsonNode, key_that_is_there_twice_is_named_with_place_and_line) {
  EXPECT_EQ(error_of([] { parse_strictly("{\"a\": [1, {\"b\": 1,\n \"c\": {},\n \"b\": 2}]}"); }),
            "doc: /a/1: the key 'b' is there twice (again at line 3) Keep one of the two.");
  EXPECT_EQ(error_of([] { parse_strictly(R"({"a": 1, "a": 1})"); }),
            "doc: the key 'a' is there twice (again at line 1) Keep one of the two.");
  EXPECT_EQ(parse_strictly(R"([{"a": 1}, {"a": {"a": 2}}])").element(1).at("a").at("a").as_int(), 2);
  EXPECT_EQ(parse(R"({"a": 1, "a": 2})").at("a").as_int(), 2);  // as the hub's own readers take it
}

TEST(JsonNode, nesting_has_a_limit) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse(nested(kMaxJsonDepth).c_str()));
  EXPECT_NE(error_of([&] { parse(nested(kMaxJsonDepth + 1).c_str()); }).find("doc: is nested deeper than 64 levels"),
            std::string::npos);
  EXPECT_THROW(parse(("\n" + std::string(300'000, '[')).c_str()), InputError);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THROW(parse(objects.c_str()), InputError);
}

TEST(JsonNode, number_of_values_has_a_limit) {
  const auto zeros = [](std::size_t count) {  // with the array itself
    std::string text = "[0";
    for (std::size_t i = 2; i < count; ++i) text += ",0";
    return text + "]";
  };
  EXPECT_EQ(parse(zeros(kMostJsonValues).c_str()).size(), kMostJsonValues - 1);
  EXPECT_NE(error_of([&] { parse(zeros(kMostJsonValues + 1).c_str()); }).find("doc: holds more than 5000000 values"),
            std::string::npos);
}

TEST(JsonNode, members_without_values_are_read_in_linear_time) {
  // With work for every pair of members this would take an hour, and the test would be stopped.
  std::string text = "{";
  for (int i = 0; i < 1'000'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":[]";
  EXPECT_EQ(parse_strictly(text + "}").size(), 1'000'000u);
}

TEST(JsonNode, values_that_errors_show_are_cut_between_characters) {
  const std::string text = "[\"" + std::string(75, 'a') + "\u00e4\u00e4\u00e4\u00e4\"]";
  EXPECT_EQ(error_of([&] { parse(text).element(0).as_int(); }),
            "doc: /0: is \"" + std::string(75, 'a') + "..., expected an integer");
}

TEST(JsonNode, every_kind_of_value_is_read) {
  const char* text = R"([null, true, false, -3, 18446744073709551615, 2.5, "\u00e4", {}, [], {"a": [{"b": []}]}])";
  EXPECT_EQ(parse(text).json(), Json::parse(text));
  EXPECT_THROW(parse(""), InputError);
  EXPECT_THROW(parse("{} {}"), InputError);
  EXPECT_THROW(parse("[1, 2"), InputError);
  EXPECT_THROW(parse("\"\xff\""), InputError);
}

TEST(JsonNode, memory_of_a_document_follows_from_what_the_process_may_use) {
  set_process_memory(0);  // 64 MiB for a document
  std::string numbers = "[0";
  for (int i = 0; i < 1'000'000; ++i) numbers += ",1";  // 48 MB
  EXPECT_EQ(parse(numbers + "]").size(), 1'000'001u);
  std::string members = "{";
  for (int i = 0; i < 500'000; ++i) members += "\"" + std::to_string(i) + "\":0,\n";  // 72 MB
  for (const std::string& text :
       {"[" + numbers + "],[" + numbers + "]]", members + "\"z\":0}", "[\"" + std::string(70'000'000, 'x') + "\"]"}) {
    const auto error = error_of([&] { parse(text); });
    EXPECT_NE(error.find("more than 64 MiB of memory"), std::string::npos) << error;
    EXPECT_NE(error.find("--max-memory"), std::string::npos) << error;
  }
  set_process_memory(std::int64_t{1} << 40);  // never more than a GiB
  EXPECT_EQ(foreign_document_bytes(), 1 << 30);
  EXPECT_EQ(parse(members + "\"z\":0}").size(), 500'001u);
}

TEST(BytesAsText, every_byte_comes_back) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const std::string text = text_of_bytes(bytes);
  EXPECT_EQ(bytes_of_text(Json::parse(Json(text).dump()).get<std::string>()), bytes);
  EXPECT_EQ(text_of_bytes("/plain/path"), "/plain/path");
}

TEST(BytesAsText, text_that_stands_for_no_bytes_is_an_error) {
  EXPECT_THROW(bytes_of_text("\u0100"), InputError);
  EXPECT_THROW(bytes_of_text("a\xC3"), InputError);
}

TEST(JsonNode, comments_are_allowed) { EXPECT_EQ(parse("// why\n{\"a\": /* here */ 3}").at("a").as_int(), 3); }

}  // namespace
}  // namespace spectrace
