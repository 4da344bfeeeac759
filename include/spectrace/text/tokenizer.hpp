#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spectrace {

/// A model's own tokenizer: the ids are those of the model's published tokenizer files, special tokens included.
/// Immutable after loading; encode may be called from several threads at once.
class Tokenizer {
 public:
  /// Reads tokenizer.json of the folder, or vocab.json + merges.txt (+ tokenizer_config.json).
  /// @throws InputError (model) naming the file and the part (a normalizer, a pre-tokenizer, ...) that is not
  /// supported, and saying that prompts may be given as input_ids.
  static Tokenizer load(const std::filesystem::path& folder);

  /// Token ids of a text with the special tokens that the tokenizer's post-processor says.
  /// Invalid UTF-8 is an InputError (prompt) that names the byte.
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// One more than the largest id.
  std::int64_t num_ids() const;
  /// Short description for `inspect`: "byte-level BPE, 50257 tokens".
  const std::string& description() const;

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

 private:
  struct Pipeline;
  explicit Tokenizer(std::unique_ptr<const Pipeline> pipeline);
  std::unique_ptr<const Pipeline> pipeline_;
};

}  // namespace spectrace
