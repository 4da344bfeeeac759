#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace {

/// Which tokenizer a model folder means, and why: what its ids depend on beside the text. Names of files are without
/// their folder, so that the same files say the same everywhere.
struct TokenizerChoice {
  std::string kind = {};                ///< "byte-level BPE, 50257 tokens"
  std::vector<std::string> files = {};  ///< that say something of it
  /// transformers' class, as its AutoTokenizer finds it; empty where tokenizer.json counts as it is.
  std::string class_name = {};
  std::string class_from = {};  ///< "tokenizer_class in tokenizer_config.json"
  /// Tokens that are looked for in a text itself, beside those that tokenizer.json lists: of the other files, or of the
  /// class.
  std::int64_t num_tokens_added = 0;
  /// Put around every text; the first ones where there are more (an attribute of HDF5 has 64 KiB).
  std::vector<std::int64_t> ids_before = {}, ids_after = {};
  static constexpr std::size_t kMostIds = 32;
  /// Where files contradict each other, or a version of transformers gives other ids: both sides, and which counts.
  std::vector<std::string> warnings = {};

  Json to_json() const;
};

}  // namespace spectrace
