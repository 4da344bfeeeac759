#include "spectrace/text/tokenizer.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

const fs::path data_folder = fs::path(SPECTRACE_SOURCE_DIR) / "tests/data/text";

/// What PyPI tokenizers gave (tests/oracle/tokenizers_differential.py --golden).
class TokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerGolden, ids_are_those_of_pypi_tokenizers) {
  const Tokenizer tokenizer = Tokenizer::load(data_folder / GetParam());
  const auto cases = JsonNode::parse_file(data_folder / GetParam() / "expected.json", ErrorKind::usage);
  ASSERT_GT(cases.size(), 100u);
  cases.for_each([&](const JsonNode& expected) {
    const std::string& text = expected.at("text").as_string();
    const auto ids = expected.at("ids").json().get<std::vector<std::int64_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << expected.at("text").json().dump();
    for (const auto id : ids) EXPECT_LT(id, tokenizer.num_ids());
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGolden,
                         testing::Values("gpt2", "llama3", "llama2", "metaspace_first", "metaspace_first_normalized",
                                         "gemma", "bpe_unk_dropped", "bpe_unk_prefix", "clip", "t5", "unigram_nfkc",
                                         "falcon", "bloom", "kimi", "added_prepend", "split_mergedwithnext_True",
                                         "normalizer_byte_level"),
                         [](const auto& kind) { return kind.param; });

class TokenizerFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("spectrace_text_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) { write_file_atomically(folder_ / name, content); }

  /// A tokenizer.json whose model knows the letters a, b, c and "ab".
  static Json small_spec() {
    return {{"version", "1.0"},
            {"added_tokens", Json::array()},
            {"normalizer", nullptr},
            {"pre_tokenizer", nullptr},
            {"post_processor", nullptr},
            {"decoder", nullptr},
            {"model",
             {{"type", "BPE"},
              {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}}},
              {"merges", Json::array({Json::array({"a", "b"})})}}}};
  }

  Tokenizer load(const Json& spec) {
    write("tokenizer.json", spec.dump());
    return Tokenizer::load(folder_);
  }

  /// The message of the error that loading gives.
  std::string load_error(const Json& spec) {
    try {
      load(spec);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::model);
      return error.what();
    }
    return "";
  }

  fs::path folder_;
};

using Ids = std::vector<std::int64_t>;

TEST_F(TokenizerFolder, unsupported_parts_are_named) {
  const auto expect_named = [&](const char* key, const Json& part, const std::string& name) {
    Json spec = small_spec();
    spec[key] = part;
    const std::string error = load_error(spec);
    EXPECT_NE(error.find("'" + name + "'"), std::string::npos) << error;
    EXPECT_NE(error.find("tokenizer.json"), std::string::npos) << error;
    EXPECT_NE(error.find("input_ids"), std::string::npos) << error;
  };
  expect_named("normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}}, "Precompiled");
  expect_named("normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Nmt"}}}}}, "Nmt");
  expect_named("pre_tokenizer", {{"type", "UnicodeScripts"}}, "UnicodeScripts");
  expect_named("post_processor", {{"type", "Mystery"}}, "Mystery");
  expect_named("model", {{"type", "WordPiece"}, {"vocab", Json::object()}}, "WordPiece");
  expect_named("pre_tokenizer",
               {{"type", "Split"}, {"pattern", {{"Regex", "(a)\\1"}}}, {"behavior", "Isolated"}, {"invert", false}},
               "(a)\\1");
  expect_named("pre_tokenizer",
               {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Eaten"}, {"invert", false}}, "Eaten");
}

TEST_F(TokenizerFolder, dropout_is_refused_and_zero_dropout_is_not) {
  Json spec = small_spec();
  spec["model"]["dropout"] = 0.1;
  EXPECT_NE(load_error(spec).find("dropout"), std::string::npos);
  spec["model"]["dropout"] = 0.0;
  EXPECT_EQ(load(spec).encode("ab"), Ids({3}));
}

TEST_F(TokenizerFolder, keys_that_nobody_knows_are_refused) {
  Json spec = small_spec();
  spec["normalizer"] = {{"type", "NFC"}, {"strength", 2}};
  EXPECT_NE(load_error(spec).find("'strength'"), std::string::npos);
}

TEST_F(TokenizerFolder, merges_without_their_tokens_are_refused) {
  Json spec = small_spec();
  spec["model"]["merges"].push_back({"b", "c"});
  EXPECT_NE(load_error(spec).find("'bc'"), std::string::npos);
  spec["model"]["merges"] = {"a b c"};
  EXPECT_NE(load_error(spec).find("a b c"), std::string::npos);
}

TEST_F(TokenizerFolder, added_tokens_get_the_ids_that_pypi_tokenizers_gives) {
  Json spec = small_spec();
  const auto added = [](const char* content) {
    return Json{{"id", 99},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  spec["added_tokens"] = {added("<x>"), added("c"), added("<y>")};
  const Tokenizer tokenizer = load(spec);
  EXPECT_EQ(tokenizer.encode("ab<y>c<x>"), Ids({3, 5, 2, 4}));
  EXPECT_EQ(tokenizer.num_ids(), 6);
  EXPECT_EQ(tokenizer.choice().kind, "BPE, 6 tokens");
}

TEST_F(TokenizerFolder, model_without_a_type_is_known_by_its_merges) {
  Json spec = small_spec();
  spec["model"].erase("type");
  EXPECT_EQ(load(spec).encode("cab"), Ids({2, 3}));
}

TEST_F(TokenizerFolder, empty_text_has_only_special_tokens) {
  Json spec = small_spec();
  EXPECT_EQ(load(spec).encode(""), Ids());
  spec["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"b", 1}}, {"cls", {"c", 2}}};
  EXPECT_EQ(load(spec).encode(""), Ids({2, 1}));
  EXPECT_EQ(load(spec).encode("ab"), Ids({2, 3, 1}));
}

TEST_F(TokenizerFolder, second_template_is_refused) {
  Json spec = small_spec();
  const Json bert = {{"type", "BertProcessing"}, {"sep", {"b", 1}}, {"cls", {"c", 2}}};
  spec["post_processor"] = {{"type", "Sequence"}, {"processors", {bert, bert}}};
  EXPECT_NE(load_error(spec).find("second post-processor"), std::string::npos);
}

TEST_F(TokenizerFolder, invalid_utf8_is_named_by_its_byte) {
  const Tokenizer tokenizer = load(small_spec());
  try {
    tokenizer.encode("ab\xC3(c");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::prompt);
    EXPECT_NE(std::string(error.what()).find("byte 2 is 0xC3"), std::string::npos) << error.what();
  }
}

TEST_F(TokenizerFolder, folder_without_tokenizer_names_what_is_missing) {
  try {
    Tokenizer::load(folder_);
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("input_ids"), std::string::npos);
  }
}

TEST_F(TokenizerFolder, cut_off_file_is_named) {
  write("tokenizer.json", small_spec().dump().substr(0, 100));
  try {
    Tokenizer::load(folder_);
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos) << error.what();
  }
}

/// The files of the hub's OPT folders; expected ids by transformers 5.23 on the same files.
TEST_F(TokenizerFolder, vocab_and_merges_follow_the_config) {
  write("vocab.json", R"({"<s>": 0, "<pad>": 1, "</s>": 2, "h": 3, "i": 4, "\u0120": 5, "hi": 6, "\u0120h": 7})");
  write("merges.txt", "#version: 0.2\nh i\n\u0120 h\n");
  write("config.json", R"({"model_type": "opt"})");
  EXPECT_EQ(Tokenizer::load(folder_).encode("hi hi"), Ids({6, 5, 6}));
  EXPECT_EQ(Tokenizer::load(folder_).num_ids(), 9);  // with <|endoftext|>

  write("tokenizer_config.json",
        R"({"bos_token": {"__type": "AddedToken", "content": "</s>", "normalized": true}, "eos_token": "</s>",
            "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": true, "add_prefix_space": false})");
  EXPECT_EQ(Tokenizer::load(folder_).encode("hi</s><pad>hi"), Ids({2, 6, 2, 1, 6}));
  EXPECT_EQ(Tokenizer::load(folder_).num_ids(), 8);
  EXPECT_EQ(Tokenizer::load(folder_).choice().kind, "byte-level BPE, 8 tokens");

  write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>",
            "add_eos_token": true, "add_prefix_space": true})");
  EXPECT_EQ(Tokenizer::load(folder_).encode("hi"), Ids({5, 6, 2}));
}

TEST(Tokenizer, threads_get_the_same_ids) {
  const Tokenizer tokenizer = Tokenizer::load(data_folder / "llama3");
  const auto cases = JsonNode::parse_file(data_folder / "llama3/expected.json", ErrorKind::usage);
  std::vector<int> num_wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < num_wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 3 * cases.size(); ++i) {
        const auto expected = cases.element((i * (t + 1)) % cases.size());
        const auto ids = expected.at("ids").json().get<Ids>();
        num_wrong[t] += tokenizer.encode(expected.at("text").as_string()) != ids;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, std::vector<int>(num_wrong.size(), 0));
}

/// A megabyte that no pre-tokenizer cuts: quadratic work would take hours.
// A quadratic merge would keep these lines busy for hours: the run's own time limit notices.
TEST(Tokenizer, long_lines_end) {
  std::string line;
  while (line.size() < 1'000'000) line += "thequickbrownfoxjumpsoverthelazydog";
  std::string marks = "a";
  while (marks.size() < 1'000'000) marks += "\u0301\u0323";
  for (const char* kind : {"gpt2", "llama2", "t5", "metaspace_first_normalized", "unigram_nfkc", "kimi"}) {
    const Tokenizer tokenizer = Tokenizer::load(data_folder / kind);
    for (const std::string* text : {&line, &marks}) EXPECT_GT(tokenizer.encode(*text).size(), 0u) << kind;
  }
}

}  // namespace
}  // namespace spectrace
