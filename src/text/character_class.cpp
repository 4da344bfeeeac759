#include "character_class.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "spectrace/text/oniguruma.hpp"
#include "unicode_tables.hpp"

namespace spectrace::text {
namespace {

/// General categories whose members only grew after Unicode 14. Not Cn: it shrinks. (Mn lost U+1171E in Unicode 16, one
/// sign of Ahom that PCRE2 10.42 still counts there.)
constexpr std::array categories{"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
                                "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};
constexpr std::array category_groups{"L", "M", "N", "P", "S", "Z"};
constexpr std::array scripts{"Arabic",   "Armenian", "Bengali", "Bopomofo", "Cyrillic", "Devanagari",
                             "Ethiopic", "Georgian", "Greek",   "Han",      "Hangul",   "Hebrew",
                             "Hiragana", "Katakana", "Khmer",   "Lao",      "Latin",    "Mongolian",
                             "Myanmar",  "Tamil",    "Telugu",  "Thai",     "Tibetan"};

/// Oniguruma ignores case, spaces, '-' and '_' in property names.
std::string plain_name(std::string_view name) {
  std::string plain;
  for (const char c : name)
    if (c != ' ' && c != '-' && c != '_') plain += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return plain;
}

template <typename Names>
const char* find_name(const Names& names, std::string_view wanted) {
  const auto it = std::find_if(names.begin(), names.end(), [&](const char* n) { return plain_name(n) == wanted; });
  return it == names.end() ? nullptr : *it;
}

void add_newer(CharacterClass& set, std::string_view property_prefix) {
  for (const PropertyRange& range : added_property_table)
    if (range.property.substr(0, property_prefix.size()) == property_prefix) set.add_range(range.first, range.last);
}

CharacterClass category_class(std::string_view category) {
  CharacterClass set;
  set.items = fmt::format("\\p{{{}}}", category);
  for (const char* name : categories)
    if (std::string_view(name).substr(0, category.size()) == category) {
      for (const PropertyRange& range : added_property_table)
        if (range.property == name) set.add_range(range.first, range.last);
    }
  return set;
}

bool is_simple(const CharacterClass& set) { return set.nested.empty() && set.intersected.empty(); }

}  // namespace

std::string escaped(char32_t c) { return fmt::format("\\x{{{:X}}}", static_cast<unsigned>(c)); }

void CharacterClass::add_character(char32_t c) { items += escaped(c); }

void CharacterClass::add_range(char32_t first, char32_t last) {
  if (first > last) throw UnsupportedPattern("an empty range in a character class");
  items += first == last ? escaped(first) : escaped(first) + "-" + escaped(last);
}

void CharacterClass::add(const CharacterClass& other) {
  if (is_simple(other) && !other.negated) {
    items += other.items;
  } else {
    nested.push_back(other);
  }
}

CharacterClass space_class() {
  // Spelled out: PCRE2 counts U+180E as a space, Oniguruma does not.
  CharacterClass set;
  set.items = "\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
  return set;
}

CharacterClass digit_class() { return category_class("Nd"); }

CharacterClass word_class() {
  CharacterClass set;
  for (const char* category : {"L", "M", "Nd", "Nl", "Pc"}) set.add(category_class(category));
  // Oniguruma has Alphabetic letters of category So here, and Latin-1's superscripts and fractions.
  set.items +=
      "\\xB2\\xB3\\xB9\\xBC-\\xBE\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
  return set;
}

CharacterClass hex_class() {
  CharacterClass set;
  set.items = "0-9A-Fa-f";
  return set;
}

CharacterClass property_class(std::string_view name) {
  const std::string plain = plain_name(name);
  if (const char* group = find_name(category_groups, plain)) return category_class(group);
  if (const char* category = find_name(categories, plain)) return category_class(category);
  if (const char* script = find_name(scripts, plain)) {
    CharacterClass set;
    set.items = fmt::format("\\p{{sc:{}}}", script);
    add_newer(set, script);
    return set;
  }
  if (plain == "space") return space_class();
  if (plain == "digit") return digit_class();
  if (plain == "word") return word_class();
  if (plain == "xdigit") return hex_class();
  if (plain == "punct") {  // as Oniguruma has it since 6.9.5
    CharacterClass set = category_class("P");
    set.add(category_class("S"));
    return set;
  }
  throw UnsupportedPattern("the character property '" + std::string(name) + "'");
}

CharacterClass negation_of(CharacterClass inner) {
  inner.negated = !inner.negated;
  return inner;
}

std::string to_pcre2(const CharacterClass& set) {
  if (is_simple(set)) {
    if (set.items.empty()) throw UnsupportedPattern("an empty character class");
    return (set.negated ? "[^" : "[") + set.items + "]";
  }
  std::string alternatives;
  if (!set.items.empty()) alternatives = "[" + set.items + "]";
  for (const CharacterClass& part : set.nested) alternatives += (alternatives.empty() ? "" : "|") + to_pcre2(part);
  if (alternatives.empty()) throw UnsupportedPattern("an empty character class");
  std::string one_of = "(?:" + alternatives + ")";
  std::string conditions;
  for (const CharacterClass& part : set.intersected) conditions += "(?=" + to_pcre2(part) + ")";
  std::string positive = "(?:" + conditions + one_of + ")";
  return set.negated ? "(?:(?!" + positive + ")(?s:.))" : positive;
}

}  // namespace spectrace::text
