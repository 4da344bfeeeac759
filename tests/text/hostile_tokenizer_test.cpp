// tokenizer.json files made to cost: each must be an error that names itself, before the cost. What is only slow
// without its bound would be found out by the run's own time limit.
#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/text/tokenizer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

using Ids = std::vector<std::int64_t>;

class HostileTokenizer : public testing::Test {
 protected:
  /// Knows the letters a, b, c and "ab".
  static Json small(const Json& more = Json::object()) {
    Json spec = {{"model",
                  {{"type", "BPE"},
                   {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}}},
                   {"merges", Json::array({Json::array({"a", "b"})})}}}};
    spec.update(more);
    return spec;
  }
  static Json unigram(const std::vector<std::pair<std::string, double>>& pieces) {
    Json vocabulary = Json::array();
    for (const auto& [token, score] : pieces) vocabulary.push_back(Json::array({token, score}));
    return {{"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocabulary}}}};
  }
  static Json added(const std::string& content, const Json& more = Json::object()) {
    Json token = {{"id", 0}, {"content", content}, {"normalized", false}};
    token.update(more);
    return token;
  }
  static Json sequence(const char* key, const Json& parts) { return {{"type", "Sequence"}, {key, parts}}; }
  static Json replace(const std::string& what, const std::string& by) {
    return {{"type", "Replace"}, {"pattern", {{"String", what}}}, {"content", by}};
  }

  Tokenizer load_text(const std::string& json) {
    write_bytes(folder_.path() / "tokenizer.json", json);
    return Tokenizer::load(folder_.path());
  }
  Tokenizer load(const Json& spec) { return load_text(spec.dump()); }

  void expect_text_refused(const std::string& json, const std::string& part) {
    try {
      load_text(json);
      ADD_FAILURE() << "taken, without '" << part << "'";
    } catch (const InputError& error) {
      const std::string text = error.what();
      EXPECT_EQ(error.kind(), ErrorKind::model) << text;
      EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
      EXPECT_NE(text.find("tokenizer.json"), std::string::npos) << text;
      EXPECT_LT(text.size(), 1000u) << part;
    }
  }
  void expect_refused(const Json& spec, const std::string& part) { expect_text_refused(spec.dump(), part); }

  void expect_prompt_error(const Json& spec, const std::string& prompt, const std::string& part) {
    const Tokenizer tokenizer = load(spec);
    try {
      tokenizer.encode(prompt);
      ADD_FAILURE() << "encoded, without '" << part << "'";
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::prompt) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  TempFolder folder_;
};

TEST_F(HostileTokenizer, nesting_is_bounded) {
  const auto nested = [](const std::string& key, const std::string& inner_key) {
    std::string text = R"({"model": {"type": "BPE", "vocab": {}, "merges": []}, ")" + key + "\": ";
    for (int i = 0; i < 30'000; ++i) text += R"({"type": "Sequence", ")" + inner_key + "\": [";
    for (int i = 0; i < 30'000; ++i) text += "]}";
    return text + "}";
  };
  expect_text_refused(nested("normalizer", "normalizers"), "nested deeper");
  expect_text_refused(nested("pre_tokenizer", "pretokenizers"), "nested deeper");
  expect_text_refused(nested("post_processor", "processors"), "nested deeper");
  expect_text_refused(nested("decoder", "decoders"), "nested deeper");
}

TEST_F(HostileTokenizer, steps_are_counted_through_sequences) {
  const Json normalizer = {{"type", "Lowercase"}}, pre_tokenizer = {{"type", "WhitespaceSplit"}};
  const auto normalizers = [&](std::size_t num) { return sequence("normalizers", Json(num, normalizer)); };
  const auto pre_tokenizers = [&](std::size_t num) { return sequence("pretokenizers", Json(num, pre_tokenizer)); };
  EXPECT_EQ(load(small({{"normalizer", normalizers(200)}})).encode("AB"), Ids({3}));
  EXPECT_EQ(load(small({{"pre_tokenizer", pre_tokenizers(200)}})).encode("ab"), Ids({3}));
  expect_refused(small({{"normalizer", normalizers(300)}}), "more than 256 normalizers");
  expect_refused(small({{"pre_tokenizer", pre_tokenizers(300)}}), "more than 256 pre-tokenizers");
  expect_refused(small({{"normalizer", sequence("normalizers", {normalizers(130), normalizers(130)})}}),
                 "more than 256 normalizers");
}

TEST_F(HostileTokenizer, texts_that_grow_and_grow_are_their_prompts_error) {
  const std::string what = "make too much of this text", prompt = "aaaa";
  expect_prompt_error(small({{"normalizer", sequence("normalizers", Json(40, replace("a", "aa")))}}), prompt, what);
  expect_prompt_error(small({{"normalizer", replace("a", std::string(300'000, 'b'))}}), prompt, what);
  expect_prompt_error(small({{"normalizer", {{"type", "Prepend"}, {"prepend", std::string(1'100'000, 'b')}}}}), prompt,
                      what);
  expect_prompt_error(small({{"normalizer", sequence("normalizers", Json(60, Json{{"type", "ByteLevel"}}))}}),
                      "\u00e9\u00e9", what);
  expect_prompt_error(
      small({{"pre_tokenizer",
              sequence("pretokenizers", Json(60, Json{{"type", "ByteLevel"}, {"add_prefix_space", false}}))}}),
      "\u00e9\u00e9", what);
  // Each of many parts of a prompt by a little.
  std::string parts;
  while (parts.size() < 4000) parts += "a|";
  Json spec = small({{"normalizer", {{"type", "Prepend"}, {"prepend", std::string(2000, 'b')}}}});
  spec["added_tokens"] = {added("|")};
  expect_prompt_error(spec, parts, what);
}

TEST_F(HostileTokenizer, texts_that_shrink_again_are_no_error) {
  const Json grow_and_shrink = sequence("normalizers", {replace("a", "bbbbbbbbbbbbbbbb"), replace("bbbbbbbb", "a")});
  EXPECT_EQ(load(small({{"normalizer", grow_and_shrink}})).encode(std::string(100'000, 'a')).size(), 200'000u);
}

TEST_F(HostileTokenizer, templates_are_bounded) {
  const auto with_template = [](const Json& single, std::size_t num_ids) {
    return small({{"post_processor",
                   {{"type", "TemplateProcessing"},
                    {"single", single},
                    {"pair", Json::array()},
                    {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", Json(num_ids, 1)}, {"tokens", {"<s>"}}}}}}}}});
  };
  const Json prompt = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             special = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  EXPECT_EQ(load(with_template({special, prompt, special}, 2)).encode("c"), Ids({1, 1, 2, 1, 1}));
  expect_refused(with_template(Json(5000, special), 1), "the template is not supported");
  expect_refused(with_template(Json(50, special), 100), "the template is not supported");
  expect_refused(with_template(Json(17, prompt), 1), "the template is not supported");
  for (const Json& id : {Json(-1), Json(std::int64_t{1} << 31), Json(INT64_MAX), Json(1e300)}) {
    Json spec = with_template({special, prompt}, 1);
    spec["post_processor"]["special_tokens"]["<s>"]["ids"] = {id};
    expect_refused(spec, "ids/0");
    expect_refused(small({{"post_processor", {{"type", "BertProcessing"}, {"sep", {"b", id}}, {"cls", {"c", 1}}}}}),
                   "/post_processor/sep/1");
  }
}

TEST_F(HostileTokenizer, ids_of_a_vocabulary_are_bounded_and_may_be_sparse) {
  Json spec = small();
  spec["model"]["vocab"]["c"] = 2'000'000'000;
  EXPECT_EQ(load(spec).encode("c"), Ids({2'000'000'000}));
  EXPECT_EQ(load(spec).num_ids(), 2'000'000'001);
  for (const Json& id :
       {Json(-1), Json(std::int64_t{1} << 31), Json(UINT64_MAX), Json(1e300), Json("1"), Json(nullptr)}) {
    spec["model"]["vocab"]["c"] = id;
    expect_refused(spec, "the token 'c' has the id");
  }
}

TEST_F(HostileTokenizer, many_merges_of_tokens_that_are_not_there) {
  Json spec = small();
  spec["model"]["merges"] = Json(200'000, Json::array({"a", "x"}));
  expect_refused(spec, "a merge needs the token 'ax'");
  spec["model"]["merges"] = Json(200'000, Json::array({"a", "b"}));
  EXPECT_EQ(load(spec).encode("ab"), Ids({3}));
}

TEST_F(HostileTokenizer, affixes_are_bounded) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    Json spec = small();
    spec["model"][key] = std::string(65, 'x');
    expect_refused(spec, std::string(key) + ": is longer than 64 bytes");
    spec["model"][key] = "";
    EXPECT_EQ(load(spec).encode("ab"), Ids({3}));
  }
}

TEST_F(HostileTokenizer, searched_tokens_are_bounded) {
  const std::string longest(1024, 'a'), too_long(1025, 'a');
  EXPECT_EQ(load(unigram({{"<unk>", 0}, {longest, -1}})).encode(longest), Ids({1}));
  expect_refused(unigram({{"<unk>", 0}, {too_long, -1}}), "a token is longer than 1024 bytes");
  EXPECT_EQ(load(small({{"added_tokens", {added(longest)}}})).encode(longest + "c"), Ids({4, 2}));
  expect_refused(small({{"added_tokens", {added(too_long)}}}), "it is longer than 1024 bytes");
  Json spec = small({{"normalizer", replace("c", too_long)}});
  spec["added_tokens"] = {added("c", {{"normalized", true}})};
  expect_refused(spec, "the added token 'c' cannot be normalized");
}

TEST_F(HostileTokenizer, added_tokens_that_are_spaces_take_linear_time) {
  for (const Json& flags : {Json{{"lstrip", true}}, Json{{"rstrip", true}}, Json{{"lstrip", true}, {"rstrip", true}}}) {
    Json spec = small();
    spec["added_tokens"] = {added(" ", flags)};
    EXPECT_GT(load(spec).encode(std::string(2'000'000, ' ') + "c").size(), 1u) << flags;
  }
}

TEST_F(HostileTokenizer, empty_tokens_are_nothing) {
  Json spec = small();
  spec["added_tokens"] = {added("")};
  spec["model"]["vocab"][""] = 4;
  EXPECT_EQ(load(spec).encode("ab"), Ids({3}));
  EXPECT_EQ(load(unigram({{"<unk>", 0}, {"", 5}, {"a", -1}})).encode("aa"), Ids({2, 2}));
}

TEST_F(HostileTokenizer, scores_no_double_holds) {
  expect_text_refused(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", NaN]]}})", "is not JSON");
  expect_text_refused(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 1e999]]}})",
                      "cannot be read as JSON");
  for (const double score : {1.7e308, -1.7e308}) {  // their sums overflow
    std::size_t num_letters = 0;
    for (const auto id : load(unigram({{"<unk>", score}, {"a", score}, {"aa", -score}})).encode("aaaaaaaa"))
      num_letters += static_cast<std::size_t>(id);
    EXPECT_EQ(num_letters, 8u);
  }
}

TEST_F(HostileTokenizer, characters_of_no_text) {
  const std::string nul(1, '\0');
  Json spec = small();
  spec["model"]["vocab"][nul] = 4;
  spec["added_tokens"] = {added(nul + "c")};
  EXPECT_EQ(load(spec).encode("a" + nul + nul + "c" + nul), Ids({0, 4, 5, 4}));
  expect_text_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xFF\": 0}, \"merges\": []}}", "is not JSON");
  expect_text_refused(R"({"model": {"type": "BPE", "vocab": {"\ud800": 0}, "merges": []}})", "is not JSON");
}

/// Texts whose std::hash falls on one place of the table of a vocabulary of `num` tokens.
std::vector<std::string> colliding_texts(std::size_t num) {
  std::unordered_map<std::string, int> sized;
  sized.reserve(num);
  std::vector<std::string> texts;
  for (std::size_t i = 0; texts.size() < num; ++i)
    if (std::string text = std::to_string(i); std::hash<std::string>()(text) % sized.bucket_count() == 7)
      texts.push_back(std::move(text));
  return texts;
}

TEST_F(HostileTokenizer, vocabularies_that_share_a_hash_are_refused) {
  Json bpe = small();
  std::vector<std::pair<std::string, double>> pieces;
  bpe["model"] = {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
  for (const auto& text : colliding_texts(1500)) {
    bpe["model"]["vocab"][text] = 1;
    pieces.emplace_back(text, -1);
  }
  expect_refused(bpe, "share a place of a hash table");
  expect_refused(unigram(pieces), "share a place of a hash table");
}

TEST_F(HostileTokenizer, long_names_are_cut_in_messages) {
  const std::string name(1'000'000, 'x');
  expect_refused(small({{"normalizer", {{"type", name}}}}), "xxx...' is not supported");
  expect_refused(small({{"pre_tokenizer",
                         {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", name}, {"invert", false}}}}),
                 "xxx...' is not supported");
  Json spec = small();
  spec["model"]["merges"] = {name};
  expect_refused(spec, "xxx... is neither");
}

TEST_F(HostileTokenizer, huge_files_are_not_read) {
  write_bytes(folder_.path() / "tokenizer.json", "{}");
  std::filesystem::resize_file(folder_.path() / "tokenizer.json", std::uintmax_t{1} << 40);  // of holes
  try {
    Tokenizer::load(folder_.path());
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    EXPECT_NE(std::string(error.what()).find("has 1099511627776 bytes, at most 134217728 are read"), std::string::npos)
        << error.what();
  }
}

TEST_F(HostileTokenizer, link_to_itself_is_an_error_of_the_file) {
  std::filesystem::create_symlink("tokenizer.json", folder_.path() / "tokenizer.json");
  try {
    Tokenizer::load(folder_.path());
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace spectrace
