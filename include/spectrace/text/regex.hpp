#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/split.hpp"

namespace spectrace::text {

/// A compiled regular expression in Oniguruma's syntax (see translate_oniguruma), run by PCRE2 with bounded effort.
/// May be used from several threads at once.
class Regex {
 public:
  /// @throws UnsupportedPattern if it is not translated or PCRE2 refuses it; what() says why.
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Covers the text with spans, as PyPI tokenizers finds matches one after the other: an empty match counts unless it
  /// stands right behind the last one. @pre well-formed UTF-8
  /// @throws InputError (prompt) if matching takes more than the limits on effort or memory.
  std::vector<Span> find_spans(std::string_view text) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<const Code> code_;
};

/// What a "pattern" field of tokenizer.json looks for: {"String": "..."} or {"Regex": "..."}.
class Pattern {
 public:
  /// @throws InputError (the document's kind) naming the place and what is not supported.
  static Pattern read(const JsonNode& node);

  std::vector<Span> find_spans(std::string_view text) const;

 private:
  std::string literal_;
  std::shared_ptr<const Regex> regex_;  // none: the literal
};

}  // namespace spectrace::text
