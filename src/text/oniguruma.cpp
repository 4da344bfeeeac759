#include "spectrace/text/oniguruma.hpp"

#include <optional>
#include <utility>

#include "character_class.hpp"
#include "spectrace/text/utf8.hpp"

namespace spectrace::text {
namespace {

/// Reads an Oniguruma pattern from left to right and writes the PCRE2 one.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    alternatives(0);
    if (!at_end()) throw UnsupportedPattern("a ')' without '('");
    return std::move(out_);
  }

 private:
  bool at_end() const { return at_ >= in_.size(); }
  bool next_is(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }

  char32_t take_character() {
    if (at_end()) throw UnsupportedPattern("an end in the middle of an expression");
    const auto [c, size] = decode_at(in_, at_);
    at_ += size;
    return c;
  }

  /// Everything up to the end or the ')' that closes the group.
  void alternatives(int depth) {
    if (depth > 100) throw UnsupportedPattern("groups nested more than 100 deep");
    constexpr std::size_t kNone = std::string::npos;
    std::size_t atom = kNone;  // where the last atom starts in out_: what a quantifier applies to
    bool is_repeated = false;  // the atom has a quantifier already
    while (!at_end() && !next_is(")")) {
      if (take("|")) {
        out_ += '|';
        atom = kNone;
      } else if (const auto quantifier = take_quantifier()) {
        if (atom == kNone) throw UnsupportedPattern("a quantifier with nothing to repeat");
        // "x{1,2}+" and "x+*" repeat a repetition. A bare atom stays bare: PCRE2 repeats a group far more slowly.
        if (is_repeated) {
          out_.insert(atom, "(?:");
          out_ += ')';
        }
        out_ += *quantifier;
        is_repeated = true;
      } else {
        const std::size_t begin = out_.size();
        atom = one_atom(depth) ? begin : kNone;
        is_repeated = false;
      }
    }
  }

  /// The quantifier that stands here, in PCRE2's form.
  std::optional<std::string> take_quantifier() {
    for (const char* simple : {"*", "+", "?"})
      if (take(simple)) return simple + std::string(take("?") ? "?" : take("+") ? "+" : "");
    if (!next_is("{")) return std::nullopt;
    const std::size_t begin = at_++;
    const std::string low = take_digits();
    const bool has_comma = take(",");
    const std::string high = has_comma ? take_digits() : low;
    if (!take("}") || (low.empty() && high.empty())) {
      at_ = begin;  // a brace that starts no interval is a plain character
      return std::nullopt;
    }
    const std::string interval =
        "{" + (low.empty() ? "0" : low) + (has_comma ? "," : "") + (has_comma ? high : "") + "}";
    // After an interval '+' repeats it; after {n} a '?' makes it optional: both stay for the next round.
    return has_comma && take("?") ? interval + "?" : interval;
  }

  std::string take_digits() {
    std::string digits;
    while (!at_end() && in_[at_] >= '0' && in_[at_] <= '9') digits += in_[at_++];
    return digits;
  }

  /// Returns whether a quantifier may follow.
  bool one_atom(int depth) {
    if (take("[")) {
      out_ += to_pcre2(bracket_class(depth));
      return true;
    }
    if (take("(")) return group(depth);
    if (take("\\")) return escape();
    if (take("^") || take("$")) {
      out_ += in_[at_ - 1];
      return false;
    }
    if (take(".")) {
      out_ += '.';
      return true;
    }
    literal(take_character());
    return true;
  }

  void literal(char32_t c) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out_ += is_plain ? std::string(1, static_cast<char>(c)) : escaped(c);
  }

  bool group(int depth) {
    bool is_assertion = false;
    if (take("?#")) throw UnsupportedPattern("a comment");
    if (take("?")) {
      for (const char* kind : {"=", "!", "<=", "<!", ":", ">"}) {
        if (!take(kind)) continue;
        out_ += std::string("(?") + kind;
        is_assertion = std::string_view(kind) != ":" && std::string_view(kind) != ">";
        return finish_group(depth, is_assertion);
      }
      return options(depth);
    }
    out_ += "(?:";  // nothing asks for what a group captured: back references are refused
    return finish_group(depth, is_assertion);
  }

  bool finish_group(int depth, bool is_assertion) {
    alternatives(depth + 1);
    if (!take(")")) throw UnsupportedPattern("a '(' without ')'");
    out_ += ')';
    return !is_assertion;
  }

  /// (?i:...), (?m-i:...), and (?i) which holds up to the end of the group around it.
  bool options(int depth) {
    std::string flags;
    while (!at_end() && !next_is(":") && !next_is(")")) {
      const char32_t c = take_character();
      if (c == 'i' || c == '-') {
        flags += static_cast<char>(c);
      } else if (c == 'm') {
        flags += 's';
      } else {
        throw UnsupportedPattern("the group option " + escaped(c));
      }
    }
    out_ += "(?" + flags + ":";
    if (take(":")) return finish_group(depth, false);
    if (!take(")")) throw UnsupportedPattern("a '(' without ')'");
    alternatives(depth + 1);  // up to the surrounding group's end, alternatives included: a(?i)b|c is a(?i:b|c)
    out_ += ')';
    return false;
  }

  bool escape() {
    const std::size_t begin = at_;
    const char32_t c = take_character();
    switch (c) {
      case 'b': out_ += boundary(false); return false;
      case 'B': out_ += boundary(true); return false;
      case 'A': out_ += "\\A"; return false;
      case 'z': out_ += "\\z"; return false;
      case 'Z': out_ += "\\Z"; return false;
      default: break;
    }
    at_ = begin;
    if (const auto set = class_escape()) {
      out_ += to_pcre2(*set);
    } else {
      literal(character_escape());
    }
    return true;
  }

  static std::string boundary(bool negated) {
    const std::string word = to_pcre2(word_class());
    const std::string before = "(?<=" + word + ")", not_before = "(?<!" + word + ")";
    const std::string after = "(?=" + word + ")", not_after = "(?!" + word + ")";
    return negated ? "(?:" + before + after + "|" + not_before + not_after + ")"
                   : "(?:" + before + not_after + "|" + not_before + after + ")";
  }

  /// After a backslash: a class such as \s or \p{L}.
  std::optional<CharacterClass> class_escape() {
    const std::size_t begin = at_;
    switch (take_character()) {
      case 's': return space_class();
      case 'S': return negation_of(space_class());
      case 'd': return digit_class();
      case 'D': return negation_of(digit_class());
      case 'w': return word_class();
      case 'W': return negation_of(word_class());
      case 'h': return hex_class();
      case 'H': return negation_of(hex_class());
      case 'p': return property(false);
      case 'P': return property(true);
      default: break;
    }
    at_ = begin;
    return std::nullopt;
  }

  CharacterClass property(bool negated) {
    const std::size_t end = in_.find('}', at_);
    if (!take("{") || end == in_.npos) throw UnsupportedPattern("a '\\p' without '{...}'");
    if (take("^")) negated = !negated;
    const std::string_view name = in_.substr(at_, end - at_);
    at_ = end + 1;
    const CharacterClass set = property_class(name);
    return negated ? negation_of(set) : set;
  }

  /// After a backslash: one character.
  char32_t character_escape() {
    const char32_t c = take_character();
    switch (c) {
      case 't': return '\t';
      case 'n': return '\n';
      case 'r': return '\r';
      case 'f': return '\f';
      case 'v': return '\v';
      case 'a': return '\a';
      case 'e': return 0x1B;
      case 'u': return take_hex(4, 4);
      case 'x': {
        if (!take("{")) return take_hex(1, 2);
        const char32_t value = take_hex(1, 8);
        if (!take("}")) throw UnsupportedPattern("a '\\x{' without '}'");
        return value;
      }
      default: break;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
      throw UnsupportedPattern(std::string("the escape '\\") + static_cast<char>(c) + "'");
    return c;
  }

  char32_t take_hex(int min_digits, int max_digits) {
    char32_t value = 0;
    int num_digits = 0;
    for (; num_digits < max_digits && !at_end(); ++num_digits, ++at_) {
      const char c = in_[at_];
      if (c >= '0' && c <= '9') {
        value = value * 16 + static_cast<char32_t>(c - '0');
      } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        value = value * 16 + static_cast<char32_t>((c | 0x20) - 'a' + 10);
      } else {
        break;
      }
    }
    if (num_digits < min_digits || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      throw UnsupportedPattern("an escape that is no character");
    return value;
  }

  /// After '[': up to its ']'.
  CharacterClass bracket_class(int depth) {
    if (depth > 100) throw UnsupportedPattern("brackets nested more than 100 deep");
    CharacterClass whole;
    whole.negated = take("^");
    CharacterClass part;  // since the '[' or the last &&
    for (bool is_first = true; is_first || !next_is("]"); is_first = false) {
      if (at_end()) throw UnsupportedPattern("a '[' without ']'");
      if (take("&&")) {
        whole.intersected.push_back(std::exchange(part, {}));
      } else if (take("[:")) {
        part.add(posix_class());
      } else if (take("[")) {
        part.add(bracket_class(depth + 1));
      } else {
        class_item(part);
      }
    }
    take("]");
    if (whole.intersected.empty()) {
      part.negated = whole.negated;
      return part;
    }
    whole.nested.push_back(std::move(part));
    return whole;
  }

  CharacterClass posix_class() {
    const bool negated = take("^");
    const std::size_t end = in_.find(":]", at_);
    if (end == in_.npos) throw UnsupportedPattern("a '[:' without ':]'");
    const std::string_view name = in_.substr(at_, end - at_);
    at_ = end + 2;
    const CharacterClass set = property_class(name);
    return negated ? negation_of(set) : set;
  }

  void class_item(CharacterClass& set) {
    const auto one_character = [this] { return take("\\") ? character_escape() : take_character(); };
    if (next_is("\\")) {
      const std::size_t begin = at_++;
      if (const auto named = class_escape()) {
        set.add(*named);
        return;
      }
      at_ = begin;
    }
    const char32_t first = one_character();
    const bool is_range = next_is("-") && at_ + 1 < in_.size() && in_[at_ + 1] != ']' && in_[at_ + 1] != '[';
    if (!is_range) {
      set.add_character(first);
      return;
    }
    ++at_;
    if (next_is("\\")) {  // "a-\s": a dash, then a class
      const std::size_t begin = at_++;
      const bool is_class = class_escape().has_value();
      at_ = begin;
      if (is_class) {
        set.add_character(first);
        set.add_character('-');
        return;
      }
    }
    set.add_range(first, one_character());
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace spectrace::text
