#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spectrace/core/json.hpp"
#include "tokenizer_files.hpp"

namespace spectrace::text {

/// What a class of transformers 5 makes of a vocabulary and merges, whatever tokenizer.json says of the other steps.
struct TokenizerClass {
  std::string_view name;
  /// Special tokens that it has where no file names others: key and content.
  std::vector<std::pair<std::string_view, std::string_view>> default_tokens = {};
  /// It reads vocab.json and merges.txt; the others are known only to hold tokenizer.json against them.
  bool reads_vocab_and_merges = false;
  /// Its special tokens lose the flags that files give them.
  bool plain_special_tokens = false;
  /// It puts cls_token and sep_token around a text, as RoBERTa does.
  bool puts_cls_and_sep = false;
  /// It puts nothing around a text, whatever the post-processor of tokenizer.json says.
  bool drops_post_processor = false;
};

/// nullptr if it is none of those that are known. `name` without "Fast".
const TokenizerClass* find_tokenizer_class(std::string_view name);

/// Normalizer and pre-tokenizer that the class makes, as in a tokenizer.json.
struct ClassPipeline {
  Json normalizer, pre_tokenizer;
};
ClassPipeline pipeline_of(const TokenizerClass& tokenizer_class, const TokenizerFiles& files);

/// What of a tokenizer.json is not as the class would make it: "its pre-tokenizer"; empty where all is.
std::string find_class_misfit(const TokenizerClass& tokenizer_class, const TokenizerFiles& files,
                              const JsonNode& tokenizer_json);

struct ChosenClass {
  std::string name = {};  ///< without "Fast"; empty where tokenizer.json counts as it is
  std::string from = {};  ///< which file says so
  std::vector<std::string> warnings = {};
};

/// The class that AutoTokenizer of transformers 5.23 takes for the folder.
ChosenClass choose_class(const TokenizerFiles& files, bool is_byte_level);

}  // namespace spectrace::text
