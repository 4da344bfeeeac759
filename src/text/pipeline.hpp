#pragma once

#include <memory>
#include <string>

#include "spectrace/text/added_tokens.hpp"
#include "spectrace/text/normalizer.hpp"
#include "spectrace/text/post_processor.hpp"
#include "spectrace/text/pre_tokenizer.hpp"
#include "spectrace/text/token_model.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {

/// The steps of a tokenizer in their order.
struct Tokenizer::Pipeline {
  std::unique_ptr<const text::Normalizer> normalizer;       // may be none
  std::unique_ptr<const text::PreTokenizer> pre_tokenizer;  // may be none
  std::unique_ptr<const text::TokenModel> model;
  std::unique_ptr<const text::AddedTokens> added_tokens;
  text::PostProcessor post_processor;
  std::int64_t num_ids = 0;
  std::string description;

  /// From tokenizer.json.
  static std::unique_ptr<const Pipeline> read_tokenizer_json(const std::filesystem::path& path);
  /// From vocab.json and merges.txt, with tokenizer_config.json and special_tokens_map.json where the folder has them.
  static std::unique_ptr<const Pipeline> read_vocab_and_merges(const std::filesystem::path& folder);

 private:
  void finish();
};

}  // namespace spectrace
