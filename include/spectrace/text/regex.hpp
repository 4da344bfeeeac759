#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/text/split.hpp"

namespace spectrace::text {

/// What one text may cost all patterns of a tokenizer together: matching can take a power of the text's length, or be
/// exponential in it. Counted in what PCRE2 does, not in time: a text that fails fails everywhere.
class PatternEffort {
 public:
  explicit PatternEffort(std::size_t text_bytes) : left_(100'000'000 + 200 * text_bytes) {}
  /// False if there was not so much left.
  bool take(std::size_t steps) {
    const bool is_enough = steps <= left_;
    left_ -= is_enough ? steps : left_;
    return is_enough;
  }
  std::size_t left() const { return left_; }

 private:
  std::size_t left_;
};

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
  /// @throws InputError (prompt) if matching takes more effort than there is left, or too much memory.
  std::vector<Span> find_spans(std::string_view text, PatternEffort& effort) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  struct Bounds {
    std::size_t begin, end;
  };
  std::optional<Bounds> find_from(std::string_view text, std::size_t start, PatternEffort& effort) const;

  std::string pattern_;
  std::unique_ptr<Code> code_;
};

/// What a "pattern" field of tokenizer.json looks for: {"String": "..."} or {"Regex": "..."}.
class Pattern {
 public:
  /// @throws InputError (the document's kind) naming the place and what is not supported.
  static Pattern read(const JsonNode& node);

  std::vector<Span> find_spans(std::string_view text, PatternEffort& effort) const;

 private:
  std::string literal_;
  std::shared_ptr<const Regex> regex_;  // none: the literal
};

}  // namespace spectrace::text
