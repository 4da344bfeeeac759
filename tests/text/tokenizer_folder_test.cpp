#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Folders as people have them; tests/oracle/tokenizer_folders.py made them and the ids (transformers' AutoTokenizer).
const JsonNode& golden() {
  static const JsonNode root =
      JsonNode::parse_file(fs::path(SPECTRACE_SOURCE_DIR) / "tests/data/text/folders.json", ErrorKind::usage);
  return root;
}

class TokenizerFolders : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("spectrace_folders_" + std::to_string(::getpid()));
    clear();
  }
  void TearDown() override { fs::remove_all(folder_); }

  void clear() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void write(const std::string& name, const std::string& content) { write_file_atomically(folder_ / name, content); }
  void write_json(const std::string& name, const Json& content) { write(name, content.dump()); }

  void write_vocab_and_merges() {
    write_json("vocab.json", golden().at("vocab").json());
    std::string merges = "#version: 0.2\n";
    golden().at("merges").for_each([&](const JsonNode& merge) {
      merges += merge.element(0).as_string() + " " + merge.element(1).as_string() + "\n";
    });
    write("merges.txt", merges);
  }
  /// A tokenizer.json of the golden vocabulary that cuts as GPT-2 does.
  static Json gpt2_json() {
    return {
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
        {"model", {{"type", "BPE"}, {"vocab", golden().at("vocab").json()}, {"merges", golden().at("merges").json()}}}};
  }

  std::string error() const {
    try {
      Tokenizer::load(folder_);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::model);
      EXPECT_NE(std::string(error.what()).find("input_ids"), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  /// All warnings, a line each.
  std::string warnings() const {
    const Tokenizer tokenizer = Tokenizer::load(folder_);
    std::string text;
    for (const auto& warning : tokenizer.choice().warnings) text += warning + "\n";
    return text;
  }
  void expect_in(const std::string& text, std::initializer_list<const char*> parts) const {
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
  }

  fs::path folder_;
};

TEST_F(TokenizerFolders, ids_are_those_of_transformers) {
  ASSERT_EQ(golden().at("folders").size(), 25u);
  golden().at("folders").for_each([&](const JsonNode& folder) {
    SCOPED_TRACE(folder.at("name").as_string());
    clear();
    if (const auto steps = folder.find("steps")) {
      Json spec = steps->json();
      spec["model"] = gpt2_json()["model"];
      write_json("tokenizer.json", spec);
    } else {
      write_vocab_and_merges();
    }
    folder.at("files").for_each_member(
        [&](const std::string& name, const JsonNode& content) { write(name, content.as_string()); });
    const Tokenizer tokenizer = Tokenizer::load(folder_);
    folder.at("cases").for_each([&](const JsonNode& expected) {
      const auto ids = expected.at("ids").json().get<std::vector<std::int64_t>>();
      EXPECT_EQ(tokenizer.encode(expected.at("text").as_string()), ids) << expected.at("text").json().dump();
      for (const auto id : ids) EXPECT_LT(id, tokenizer.num_ids());
    });
  });
}

TEST_F(TokenizerFolders, vocab_and_merges_of_a_class_that_is_not_known_are_refused_by_name) {
  write_vocab_and_merges();
  for (const char* name : {"CLIPTokenizer", "BartTokenizer", "LlamaTokenizer", "CohereTokenizer", "Qwen3_5Tokenizer"}) {
    write_json("tokenizer_config.json", Json{{"tokenizer_class", name}});
    expect_in(error(), {name, "tokenizer_class in tokenizer_config.json", "tokenizer.json"});
  }
  write_json("tokenizer_config.json", Json{{"tokenizer_class", "PreTrainedTokenizerFast"}});
  expect_in(error(), {"names no class"});
  fs::remove(folder_ / "tokenizer_config.json");
  expect_in(error(), {"no file says"});
  write_json("config.json", Json{{"model_type", "stablelm"}});
  expect_in(error(), {"'stablelm'"});
  write_json("config.json", Json{{"model_type", "gpt2"}});
  EXPECT_EQ(error(), "");
}

TEST_F(TokenizerFolders, other_formats_are_named_with_what_helps) {
  write("tokenizer.model", "\n\x05");
  expect_in(error(), {"tokenizer.model", "SentencePiece", "save_pretrained"});
  // AutoTokenizer of transformers 5 would read the former.
  write_vocab_and_merges();
  write_json("config.json", Json{{"model_type", "gpt2"}});
  expect_in(error(), {"tokenizer.model"});
}

TEST_F(TokenizerFolders, choice_says_files_class_and_tokens) {
  write_vocab_and_merges();
  write_json("tokenizer_config.json", Json{{"tokenizer_class", "GPT2TokenizerFast"}, {"add_bos_token", true}});
  write_json("added_tokens.json", Json{{"<x>", 295}});
  const TokenizerChoice choice = Tokenizer::load(folder_).choice();
  EXPECT_EQ(choice.kind, "byte-level BPE, 296 tokens");
  EXPECT_EQ(choice.files,
            (std::vector<std::string>{"vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"}));
  EXPECT_EQ(choice.class_name, "GPT2Tokenizer");
  EXPECT_EQ(choice.class_from, "tokenizer_class in tokenizer_config.json");
  EXPECT_EQ(choice.num_tokens_added, 2);  // <|endoftext|> is of the class
  EXPECT_EQ(choice.ids_before, std::vector<std::int64_t>{294});
  EXPECT_TRUE(choice.ids_after.empty());
  EXPECT_TRUE(choice.warnings.empty());
  EXPECT_EQ(choice.to_json().dump().find(folder_.string()), std::string::npos);
}

TEST_F(TokenizerFolders, files_that_agree_give_no_warning) {
  Json spec = gpt2_json();
  spec["added_tokens"] = Json::array({{{"id", 294}, {"content", "<|endoftext|>"}, {"special", true}}});
  write_json("tokenizer.json", spec);
  write_json("config.json", Json{{"model_type", "gpt2"}});
  write_json("special_tokens_map.json", Json{{"eos_token", "<|endoftext|>"}});
  write_json("tokenizer_config.json",
             Json{{"tokenizer_class", "GPT2Tokenizer"},
                  {"add_prefix_space", false},
                  {"add_bos_token", false},
                  {"eos_token", "<|endoftext|>"},
                  {"added_tokens_decoder", {{"294", {{"content", "<|endoftext|>"}, {"special", true}}}}}});
  EXPECT_EQ(warnings(), "");
  EXPECT_EQ(Tokenizer::load(folder_).choice().class_name, "GPT2Tokenizer");
}

TEST_F(TokenizerFolders, files_that_disagree_are_warned_of_with_both_sides) {
  write_json("tokenizer.json", gpt2_json());
  write_json("tokenizer_config.json",
             Json{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"add_bos_token", true}, {"add_prefix_space", true}});
  expect_in(warnings(), {"add_bos_token is true in tokenizer_config.json", "nothing before a text",
                         "add_prefix_space is false in tokenizer.json and true in tokenizer_config.json; the former"});
  write_json("tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", true}});
  expect_in(warnings(), {"the latter counts"});

  write_json("tokenizer_config.json", Json{{"added_tokens_decoder", {{"400", {{"content", "<x>"}}}}}});
  write_json("added_tokens.json", Json{{"<y>", 296}});
  expect_in(warnings(), {"'<x>' the id 400", "the id 295, which counts", "added_tokens.json has '<y>'"});

  fs::remove(folder_ / "added_tokens.json");
  write_json("tokenizer_config.json", Json{{"eos_token", "<x>"}});
  write_json("special_tokens_map.json", Json{{"eos_token", "<y>"}});
  expect_in(warnings(), {"'<x>' in tokenizer_config.json and '<y>' in special_tokens_map.json, which counts"});
}

/// StarCoder 2 names GPT-2's class; its digits are cut one by one.
TEST_F(TokenizerFolders, tokenizer_json_counts_where_its_class_would_cut_otherwise) {
  Json spec = gpt2_json();
  spec["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, spec["pre_tokenizer"]}}};
  write_json("tokenizer.json", spec);
  write_json("config.json", Json{{"model_type", "starcoder2"}});
  write_json("tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"}});
  expect_in(warnings(), {"another tokenizer than GPT2Tokenizer", "its pre-tokenizer", "tokenizer.json counts"});
  const auto ids = Tokenizer::load(folder_).encode("12");
  EXPECT_EQ(ids.size(), 2u);
}

TEST_F(TokenizerFolders, settings_that_are_not_understood_are_refused) {
  write_json("tokenizer.json", gpt2_json());
  write_json("tokenizer_config.json", Json{{"split_special_tokens", true}});
  expect_in(error(), {"split_special_tokens", "tokenizer_config.json"});
}

TEST_F(TokenizerFolders, damaged_files_are_named) {
  write_json("tokenizer.json", gpt2_json());
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"}) {
    write(name, "");
    EXPECT_THROW(Tokenizer::load(folder_), InputError) << name;
    write(name, "[1]");
    EXPECT_THROW(Tokenizer::load(folder_), InputError) << name;
    write(name, "{}");
  }
  for (const char* content : {R"({"<x>": -1})", R"({"<x>": "3"})", R"({"<x>": 300, "<y>": 300})"}) {
    write("added_tokens.json", content);
    EXPECT_THROW(Tokenizer::load(folder_), InputError) << content;
  }
  write("added_tokens.json", "{}");
  for (const char* content : {R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})", R"({"eos_token": 3})",
                              R"({"added_tokens_decoder": {"99999999999": {"content": "<x>"}}})",
                              R"({"additional_special_tokens": [3]})", R"({"tokenizer_class": 3})"}) {
    write("tokenizer_config.json", content);
    EXPECT_THROW(Tokenizer::load(folder_), InputError) << content;
  }
}

}  // namespace
}  // namespace spectrace
