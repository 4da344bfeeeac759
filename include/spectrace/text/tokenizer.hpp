#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/text/tokenizer_choice.hpp"

namespace spectrace {

/// A model's own tokenizer: the ids are those of the model's published tokenizer files, special tokens included.
/// Immutable after loading; encode may be called from several threads at once.
class Tokenizer {
 public:
  /// Reads tokenizer.json of the folder, or vocab.json and merges.txt by the rules of the class that made them, and
  /// what tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json say beside it. The ids are
  /// those of transformers' AutoTokenizer 5.23, but where it puts its class's steps in the place of tokenizer.json's:
  /// then they are tokenizer.json's, and a warning of the choice says so.
  /// @throws InputError (model) naming the file and the part (a normalizer, a class, ...) that is not supported, and
  /// saying that prompts may be given as input_ids.
  static Tokenizer load(const std::filesystem::path& folder);

  /// Token ids of a text with the special tokens that the tokenizer's post-processor says.
  /// Invalid UTF-8 is an InputError (prompt) that names the byte.
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// One more than the largest id.
  std::int64_t num_ids() const;
  /// Which tokenizer this is, and why.
  const TokenizerChoice& choice() const;

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

 private:
  struct Pipeline;
  explicit Tokenizer(std::unique_ptr<const Pipeline> pipeline);
  std::unique_ptr<const Pipeline> pipeline_;
};

}  // namespace spectrace
