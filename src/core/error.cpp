#include "spectrace/core/error.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "spectrace/core/utf8.hpp"

namespace spectrace {
namespace {

/// More of a foreign name or value than anybody reads.
constexpr std::size_t kMostShownBytes = 8000;

void append_escaped(std::string& text, char c) {
  constexpr const char* digits = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  text += "\\x";
  text += digits[byte >> 4];
  text += digits[byte & 15];
}

/// Whether a terminal would act on it: C0 but for line ends and tabs, DEL, and C1 as UTF-8 writes it.
std::size_t control_size(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte == 0xC2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xA0) return 2;
  return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F ? 1 : 0;
}

std::string compose(const std::string& problem, const std::string& why, const std::string& suggestion) {
  std::string text = problem;
  if (!why.empty()) text += " (" + why + ")";
  if (!suggestion.empty()) text += (why.empty() ? ". " : " ") + suggestion;
  return text;
}

}  // namespace

InputError::InputError(ErrorKind kind, std::string problem, std::string why, std::string suggestion)
    : InputError(Shown{}, kind, shown_text(problem), shown_text(why), shown_text(suggestion)) {}

InputError::InputError(Shown, ErrorKind kind, std::string problem, std::string why, std::string suggestion)
    : std::runtime_error(compose(problem, why, suggestion)),
      kind_(kind),
      problem_(std::move(problem)),
      why_(std::move(why)),
      suggestion_(std::move(suggestion)) {}

InputError InputError::in(const std::string& context) const {
  return InputError(kind_, context + ": " + problem_, why_, suggestion_);
}

std::string shown_text(std::string_view text) {
  std::string shown;
  const std::string_view start = text.substr(0, kMostShownBytes);  // nothing gets shorter: enough to fill it
  std::size_t invalid = find_invalid_utf8(start).value_or(start.size());
  for (std::size_t i = 0; i < start.size();) {
    const bool is_invalid = i == invalid;
    std::size_t num_escaped = is_invalid ? 1 : control_size(start, i);
    if (num_escaped == 0) shown += start[i++];
    for (; num_escaped > 0; --num_escaped) append_escaped(shown, start[i++]);
    if (is_invalid) invalid = i + find_invalid_utf8(start.substr(i)).value_or(start.size() - i);
  }
  if (text.size() <= kMostShownBytes && shown.size() <= kMostShownBytes) return shown;
  std::size_t end = kMostShownBytes - 8;
  while ((static_cast<unsigned char>(shown[end]) & 0xC0) == 0x80) --end;  // not within a character
  return shown.substr(0, end) + "...";
}

void detail::assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "spectrace: internal error: assertion '%s' failed at %s:%d. This is a bug in spectrace.\n",
               condition, file, line);
  std::abort();
}

}  // namespace spectrace
