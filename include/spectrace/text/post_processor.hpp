#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "spectrace/core/json.hpp"

namespace spectrace::text {

/// The `post_processor` of a tokenizer.json: puts special tokens around (or between copies of) the prompt's tokens.
class PostProcessor {
 public:
  /// Adds nothing.
  PostProcessor();
  /// `before` and `after` the prompt's tokens.
  PostProcessor(std::vector<std::int64_t> before, std::vector<std::int64_t> after);

  /// @throws InputError (the document's kind) naming the post-processor that is not supported.
  static PostProcessor read(const JsonNode& node);

  std::vector<std::int64_t> apply(std::vector<std::int64_t> ids) const;
  std::int64_t largest_id() const;
  /// What it puts before the first and after the last copy of the prompt's tokens.
  std::vector<std::int64_t> ids_before() const;
  std::vector<std::int64_t> ids_after() const;

 private:
  struct Part {
    bool is_prompt;
    std::vector<std::int64_t> ids;  // where it is not
  };
  static PostProcessor read_template(const JsonNode& node);
  static PostProcessor read_sequence(const JsonNode& node);
  bool adds_nothing() const { return parts_.size() == 1 && parts_.front().is_prompt; }

  std::vector<Part> parts_;
};

}  // namespace spectrace::text
