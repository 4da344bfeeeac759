#include "spectrace/checkpoint/pickle.hpp"

#include <gtest/gtest.h>

#include "expect_input_error.hpp"

namespace spectrace {
namespace {

using Kind = PickleValue::Kind;
using namespace std::string_literals;

Pickle read(const std::string& body) {
  return read_pickle("\x80\x02"s + body, "doc",
                     [](std::string_view name) { return name == "collections.OrderedDict" || name == "m.f"; });
}

const PickleValue& item(const Pickle& pickle, const PickleValue& of, std::size_t index) {
  return pickle.at(of.items.at(index));
}

void expect_refused(const std::string& body, const std::string& part, const std::string& other_part = {}) {
  SCOPED_TRACE(testing::PrintToString(body));
  expect_input_error(ErrorKind::model, {part, other_part, "doc: byte "}, [&] { read(body); });
}

TEST(Pickle, integers_of_every_width) {
  // 200, 60000, -2, 2^40 as LONG1, -129 as LONG1 of 2 bytes, 0 as LONG1 of none
  const auto pickle = read("(K\xc8M\x60\xeaJ\xfe\xff\xff\xff\x8a\x06\0\0\0\0\0\x01\x8a\x02\x7f\xff\x8a\x00t."s);
  const auto& tuple = pickle.at(pickle.root);
  const std::int64_t expected[] = {200, 60000, -2, std::int64_t{1} << 40, -129, 0};
  ASSERT_EQ(tuple.items.size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) EXPECT_EQ(item(pickle, tuple, i).integer, expected[i]);
}

TEST(Pickle, dict_list_tuple_and_memo) {
  // {"k": ["k", ("k",)]}, "k" recalled from the memo
  const auto pickle = read(
      "}(X\1\0\0\0kq\x05](h\x05h\x05\x85"
      "eu."s);
  const auto& dict = pickle.at(pickle.root);
  ASSERT_EQ(dict.kind, Kind::dict);
  EXPECT_EQ(item(pickle, dict, 0).text, "k");
  const auto& list = item(pickle, dict, 1);
  ASSERT_EQ(list.items.size(), 2u);
  EXPECT_EQ(item(pickle, list, 0).text, "k");
  EXPECT_EQ(item(pickle, item(pickle, list, 1), 0).text, "k");
}

TEST(Pickle, call_stays_a_call) {
  const auto pickle = read("cm\nf\nK\7\x85R."s);
  const auto& call = pickle.at(pickle.root);
  ASSERT_EQ(call.kind, Kind::call);
  EXPECT_EQ(item(pickle, call, 0).text, "m.f");
  EXPECT_EQ(item(pickle, item(pickle, call, 1), 0).integer, 7);
}

TEST(Pickle, ordered_dict_of_pairs_and_its_attributes) {
  const auto pickle = read("ccollections\nOrderedDict\n](]K\1aK\2a]K\3aK\4ae\x85R}b."s);
  const auto& dict = pickle.at(pickle.root);
  ASSERT_EQ(dict.kind, Kind::dict);
  ASSERT_EQ(dict.items.size(), 4u);
  EXPECT_EQ(item(pickle, dict, 3).integer, 4);
}

TEST(Pickle, list_that_holds_itself) {
  const auto pickle = read("]q\0h\0a."s);
  EXPECT_EQ(pickle.at(pickle.root).items.front(), pickle.root);
}

TEST(Pickle, refuses_globals_by_name) {
  expect_refused("cos\nsystem\n."s, "'os.system'");
  expect_refused("\x8c\x02os\x8c\x06system\x93."s, "'os.system'");
}

TEST(Pickle, refuses_opcodes_by_number) {
  for (const char opcode : {'i', 'o', 'P', 'I', 'L', 'S', '\x82', '\x92', '\x96', '\x97', '\xff'}) {
    constexpr const char* digits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(opcode);
    expect_refused(std::string(1, opcode) + ".", "opcode 0x"s + digits[byte >> 4] + digits[byte & 15]);
  }
}

TEST(Pickle, refuses_misuse_of_the_stack) {
  expect_refused(".", "takes a value where none is");
  expect_refused("(.", "takes a value where none is");
  expect_refused("0.", "takes a value where none is");
  expect_refused("t.", "takes a mark where none is");
  expect_refused("NN.", "values left over");
  expect_refused("h\x01.", "never stored");
  expect_refused("}(NNNu.", "without a value");
  expect_refused("](NNd.", "values left over");
  expect_refused("NNNs.", "not a dict");
  expect_refused("NNa.", "not a list");
  expect_refused("N)R.", "not a known function");
  expect_refused("cm\nf\nNR.", "not a known function");
  expect_refused("]}b.", "not an OrderedDict");
  expect_refused("K\1K\2\x93.", "not a text");
  expect_refused("ccollections\nOrderedDict\n](NNe\x85R.", "not a list of pairs");
}

TEST(Pickle, refuses_every_truncation) {
  const std::string whole = "}(X\1\0\0\0kq\x05](h\x05M\1\2J\1\2\3\4\x8a\1\1eu."s;
  EXPECT_NO_THROW(read(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) expect_refused(whole.substr(0, size), "cut short");
}

TEST(Pickle, refuses_lengths_past_the_end) {
  expect_refused("X\xff\xff\xff\xffk.", "cut short");
  expect_refused("\x8d\xff\xff\xff\xff\xff\xff\xff\xffk.", "cut short");
  expect_refused("\x8b\xff\xff\xff\xffk.", "cut short");
}

TEST(Pickle, refuses_unknown_protocols) {
  expect_input_error(ErrorKind::model, {"protocol 6", "2 to 5"},
                     [] { read_pickle("\x80\x06N.", "doc", [](std::string_view) { return false; }); });
}

TEST(Pickle, bounds_the_number_of_values) {
  expect_refused(std::string(5'000'000, '}'), "too many values");
  expect_refused(std::string(5'000'000, 'N'), "too many values");
  expect_refused(std::string(5'000'000, '('), "too many marks");
}

TEST(Pickle, refuses_to_grow_beyond_its_size) {
  // A list of 1000 pairs, remembered, made an OrderedDict 10 000 times: 20 million values of 100 kilobytes.
  std::string body = "](";
  for (int i = 0; i < 1000; ++i) body += "NN\x86";
  body += "e\x85q\1ccollections\nOrderedDict\nq\2";
  for (int i = 0; i < 10'000; ++i) body += "h\2h\1R0";
  expect_refused(body + ".", "more of its values than it has bytes");
}

TEST(Pickle, deep_nesting_is_read_and_freed) {
  constexpr int kDepth = 1'000'000;
  const auto pickle = read("N" + std::string(kDepth, '\x85') + ".");
  const PickleValue* value = &pickle.at(pickle.root);
  int depth = 0;
  for (; value->kind == Kind::tuple; ++depth) value = &pickle.at(value->items.front());
  EXPECT_EQ(depth, kDepth);
}

}  // namespace
}  // namespace spectrace
