#pragma once

#include <memory>
#include <string>

#include "special_tokens.hpp"
#include "spectrace/text/added_tokens.hpp"
#include "spectrace/text/normalizer.hpp"
#include "spectrace/text/post_processor.hpp"
#include "spectrace/text/pre_tokenizer.hpp"
#include "spectrace/text/token_model.hpp"
#include "spectrace/text/tokenizer.hpp"
#include "tokenizer_class.hpp"
#include "tokenizer_files.hpp"

namespace spectrace {

/// The steps of a tokenizer in their order.
struct Tokenizer::Pipeline {
  std::unique_ptr<const text::Normalizer> normalizer;       // may be none
  std::unique_ptr<const text::PreTokenizer> pre_tokenizer;  // may be none
  std::unique_ptr<const text::TokenModel> model;
  std::unique_ptr<const text::AddedTokens> added_tokens;
  text::PostProcessor post_processor;
  std::int64_t num_ids = 0;
  TokenizerChoice choice;

  /// From tokenizer.json, with what the other files say.
  static std::unique_ptr<const Pipeline> read_tokenizer_json(const text::TokenizerFiles& files);
  /// From vocab.json and merges.txt, as the class does that made them.
  static std::unique_ptr<const Pipeline> read_vocab_and_merges(const text::TokenizerFiles& files);

 private:
  void read_pre_tokenizer(const JsonNode& root, const text::TokenizerFiles& files,
                          const text::TokenizerClass* tokenizer_class);
  void add_tokens(const text::SpecialTokens& special, const std::vector<text::NumberedToken>& in_tokenizer_json,
                  const text::TokenizerClass* tokenizer_class, const std::filesystem::path& document);
  void finish(const text::TokenizerFiles& files);
};

}  // namespace spectrace
