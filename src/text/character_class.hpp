#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// A set of characters in Oniguruma's terms, to be written as a PCRE2 pattern for one character.
struct CharacterClass {
  bool negated = false;
  std::string items;                        ///< what stands between the brackets of a PCRE2 class
  std::vector<CharacterClass> nested;       ///< classes inside the brackets: part of the union
  std::vector<CharacterClass> intersected;  ///< classes after &&: the character must be in all of them, too

  void add_character(char32_t c);
  void add_range(char32_t first, char32_t last);
  void add(const CharacterClass& other);
};

/// "\x{1F600}"
std::string escaped(char32_t c);

CharacterClass space_class();  ///< \s
CharacterClass digit_class();  ///< \d
CharacterClass word_class();   ///< \w
CharacterClass hex_class();    ///< \h

/// The class that \p{name} and [:name:] stand for. @throws UnsupportedPattern naming it
CharacterClass property_class(std::string_view name);

CharacterClass negation_of(CharacterClass inner);

/// The PCRE2 pattern that matches one character of the class.
std::string to_pcre2(const CharacterClass& set);

}  // namespace spectrace::text
