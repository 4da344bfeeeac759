#include "spectrace/text/pre_tokenizer.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "spectrace/core/error.hpp"
#include "spectrace/text/byte_level.hpp"
#include "spectrace/text/regex.hpp"
#include "spectrace/text/split.hpp"
#include "spectrace/text/unicode.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

/// Puts the spans of `whole` in its place.
void append_parts(std::vector<Piece>& pieces, const Piece& whole, const std::vector<Span>& spans) {
  // Spans of no bytes come from empty matches; no piece is empty.
  for (const Span& span : spans) {
    if (span.begin == span.end) continue;
    const std::size_t origin_bytes =
        span.begin < whole.origin_bytes ? std::min(whole.origin_bytes, span.end) - span.begin : 0;
    pieces.push_back({whole.text.substr(span.begin, span.end - span.begin), origin_bytes});
  }
}

/// Calls cut(piece, parts) for every piece of text; added tokens stay.
template <typename Cut>
void cut_each(std::vector<Piece>& pieces, const Cut& cut) {
  std::vector<Piece> parts;
  parts.reserve(pieces.size());
  for (Piece& piece : pieces) {
    if (piece.id) {
      parts.push_back(piece);
    } else {
      cut(piece, parts);
    }
  }
  pieces = std::move(parts);
}

/// Puts `prefix` in front. What stands for the prompt's first character then includes it.
void prepend(Piece& piece, std::string_view prefix, TextArena& arena) {
  char* text = arena.allocate(prefix.size() + piece.text.size());
  std::memcpy(text, prefix.data(), prefix.size());
  std::memcpy(text + prefix.size(), piece.text.data(), piece.text.size());
  piece.text = {text, prefix.size() + piece.text.size()};
  if (piece.origin_bytes > 0) piece.origin_bytes += prefix.size();
}

class PatternSplit : public PreTokenizer {
 public:
  PatternSplit(Pattern pattern, SplitBehavior behavior, bool inverted)
      : pattern_(std::move(pattern)), behavior_(behavior), inverted_(inverted) {}
  void apply(std::vector<Piece>& pieces, Workspace& work) const override {
    cut_each(pieces, [&](const Piece& piece, std::vector<Piece>& parts) {
      std::vector<Span> spans = pattern_.find_spans(piece.text, work.effort);
      if (inverted_)
        for (Span& span : spans) span.is_match = !span.is_match;
      append_parts(parts, piece, apply_behavior(spans, behavior_));
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool inverted_;
};

/// Splits at single characters of a kind: Digits, Punctuation, WhitespaceSplit.
class CharacterSplit : public PreTokenizer {
 public:
  using Predicate = bool (*)(char32_t);
  CharacterSplit(Predicate predicate, SplitBehavior behavior) : predicate_(predicate), behavior_(behavior) {}
  void apply(std::vector<Piece>& pieces, Workspace&) const override {
    cut_each(pieces, [&](const Piece& piece, std::vector<Piece>& parts) {
      append_parts(parts, piece, apply_behavior(find_characters(piece.text, predicate_), behavior_));
    });
  }

 private:
  Predicate predicate_;
  SplitBehavior behavior_;
};

/// Whitespace: runs of word characters and runs of others, spaces dropped (\w+|[^\w\s]+ of Rust's regex crate).
class WordSplit : public PreTokenizer {
 public:
  void apply(std::vector<Piece>& pieces, Workspace&) const override {
    cut_each(pieces, [&](const Piece& piece, std::vector<Piece>& parts) {
      std::vector<Span> runs;
      for (std::size_t i = 0; i < piece.text.size();) {
        const auto [c, size] = decode_at(piece.text, i);
        const bool is_word_character = is_word(c);
        if (is_word_character || !is_white_space(c)) {
          if (!runs.empty() && runs.back().end == i && runs.back().is_match == is_word_character) {
            runs.back().end += size;
          } else {
            runs.push_back({i, i + size, is_word_character});
          }
        }
        i += size;
      }
      append_parts(parts, piece, runs);
    });
  }
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(std::shared_ptr<const Regex> regex, bool add_prefix_space)
      : regex_(std::move(regex)), add_prefix_space_(add_prefix_space) {}

  void apply(std::vector<Piece>& pieces, Workspace& work) const override {
    cut_each(pieces, [&](Piece& piece, std::vector<Piece>& parts) {
      if (add_prefix_space_ && piece.text.front() != ' ') prepend(piece, " ", work.arena);
      if (regex_) {
        append_parts(parts, piece, regex_->find_spans(piece.text, work.effort));
      } else {
        parts.push_back(piece);
      }
    });
    for (Piece& piece : pieces)
      if (!piece.id) map_bytes(piece, work.arena);
  }
  bool is_byte_level() const override { return true; }

 private:
  static void map_bytes(Piece& piece, TextArena& arena) {
    const auto& characters = byte_level_characters();
    std::size_t size = 0, origin_bytes = 0;
    for (std::size_t i = 0; i < piece.text.size(); ++i) {
      size += characters[static_cast<unsigned char>(piece.text[i])].size();
      if (i + 1 == piece.origin_bytes) origin_bytes = size;
    }
    char* const text = arena.allocate(size);
    char* out = text;
    for (const char byte : piece.text) {
      const std::string& character = characters[static_cast<unsigned char>(byte)];
      *out++ = character[0];
      if (character.size() > 1) *out++ = character[1];
    }
    piece = {{text, size}, origin_bytes};
  }

  std::shared_ptr<const Regex> regex_;  // none: no splitting
  bool add_prefix_space_;
};

enum class PrependScheme { always, first, never };
enum class MetaspaceSplit { yes, no };

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, MetaspaceSplit split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  void apply(std::vector<Piece>& pieces, Workspace& work) const override {
    cut_each(pieces, [&](Piece& piece, std::vector<Piece>& parts) {
      replace_spaces(piece, work.arena);
      const bool may_prepend =
          scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && piece.origin_bytes > 0);
      if (may_prepend && !piece.text.starts_with(replacement_)) prepend(piece, replacement_, work.arena);
      if (split_ == MetaspaceSplit::no) {
        parts.push_back(piece);
      } else {
        append_parts(parts, piece,
                     apply_behavior(find_literal(piece.text, replacement_), SplitBehavior::merged_with_next));
      }
    });
  }

 private:
  void replace_spaces(Piece& piece, TextArena& arena) const {
    const auto num_spaces = static_cast<std::size_t>(std::count(piece.text.begin(), piece.text.end(), ' '));
    if (num_spaces == 0) return;
    const std::size_t size = piece.text.size() + num_spaces * (replacement_.size() - 1);
    char* const text = arena.allocate(size);
    char* out = text;
    std::size_t origin_bytes = 0;
    for (std::size_t i = 0; i < piece.text.size(); ++i) {
      if (piece.text[i] == ' ') {
        out = std::copy(replacement_.begin(), replacement_.end(), out);
      } else {
        *out++ = piece.text[i];
      }
      if (i + 1 == piece.origin_bytes) origin_bytes = static_cast<std::size_t>(out - text);
    }
    piece = {{text, size}, origin_bytes};
  }

  std::string replacement_;
  PrependScheme scheme_;
  MetaspaceSplit split_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<const PreTokenizer>> parts) : parts_(std::move(parts)) {}
  void apply(std::vector<Piece>& pieces, Workspace& work) const override {
    for (const auto& part : parts_) part->apply(pieces, work);
  }
  bool is_byte_level() const override {
    return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->is_byte_level(); });
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> parts_;
};

std::shared_ptr<const Regex> gpt2_regex() {
  return std::make_shared<const Regex>(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
}

std::unique_ptr<const PreTokenizer> read_metaspace(const JsonNode& node) {
  node.expect_only_keys({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const JsonNode replacement = node.at("replacement");
  const std::string& character = replacement.as_string();
  if (character.empty() || decode_at(character, 0).size_bytes != character.size())
    throw replacement.error("is not one character");
  const std::string name = node.get_string("prepend_scheme", "always");
  PrependScheme scheme = PrependScheme::always;
  if (name == "first") {
    scheme = PrependScheme::first;
  } else if (name == "never") {
    scheme = PrependScheme::never;
  } else if (name != "always") {
    throw unsupported_part(node, "prepend_scheme", name, {"always", "first", "never"});
  }
  if (!node.get_bool("add_prefix_space", true)) {  // how files said it before tokenizers 0.15
    if (node.has("prepend_scheme") && scheme != PrependScheme::never)
      throw node.error("add_prefix_space is false but prepend_scheme is '" + name + "'", "", input_ids_suggestion);
    scheme = PrependScheme::never;
  }
  const auto split = node.get_bool("split", true) ? MetaspaceSplit::yes : MetaspaceSplit::no;
  return std::make_unique<Metaspace>(character, scheme, split);
}

/// `num_steps` counts those read so far.
std::unique_ptr<const PreTokenizer> read_pre_tokenizer_step(const JsonNode& node, std::size_t& num_steps) {
  if (++num_steps > kMaxSteps) throw too_many_steps(node, "pre-tokenizers");
  const std::string& type = node.at("type").as_string();
  if (type == "Sequence") {
    node.expect_only_keys({"type", "pretokenizers"});
    std::vector<std::unique_ptr<const PreTokenizer>> parts;
    node.at("pretokenizers").for_each([&](const JsonNode& part) {
      parts.push_back(read_pre_tokenizer_step(part, num_steps));
    });
    return std::make_unique<PreTokenizerSequence>(std::move(parts));
  }
  if (type == "ByteLevel") {
    node.expect_only_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    return std::make_unique<ByteLevel>(node.get_bool("use_regex", true) ? gpt2_regex() : nullptr,
                                       node.at("add_prefix_space").as_bool());
  }
  if (type == "Split") {
    node.expect_only_keys({"type", "pattern", "behavior", "invert"});
    return std::make_unique<PatternSplit>(Pattern::read(node.at("pattern")), read_split_behavior(node.at("behavior")),
                                          node.at("invert").as_bool());
  }
  if (type == "Punctuation") {
    node.expect_only_keys({"type", "behavior"});
    const auto behavior = node.find("behavior");
    return std::make_unique<CharacterSplit>(is_punctuation,
                                            behavior ? read_split_behavior(*behavior) : SplitBehavior::isolated);
  }
  if (type == "Digits") {
    node.expect_only_keys({"type", "individual_digits"});
    const bool individual = node.at("individual_digits").as_bool();
    return std::make_unique<CharacterSplit>(is_numeric,
                                            individual ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Metaspace") return read_metaspace(node);
  if (type == "WhitespaceSplit") {
    node.expect_only_keys({"type"});
    return std::make_unique<CharacterSplit>(is_white_space, SplitBehavior::removed);
  }
  if (type == "Whitespace") {
    node.expect_only_keys({"type"});
    return std::make_unique<WordSplit>();
  }
  throw unsupported_part(
      node, "pre-tokenizer", type,
      {"ByteLevel", "Split", "Punctuation", "Digits", "Metaspace", "WhitespaceSplit", "Whitespace", "Sequence"});
}

}  // namespace

std::unique_ptr<const PreTokenizer> read_pre_tokenizer(const JsonNode& node) {
  std::size_t num_steps = 0;
  return read_pre_tokenizer_step(node, num_steps);
}

}  // namespace spectrace::text
