#include "spectrace/core/error.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace spectrace {
namespace {

/// what() ends at a byte 0; a name that came from JSON may hold one.
std::string without_zeros(std::string text) {
  for (auto place = text.find('\0'); place != std::string::npos; place = text.find('\0', place))
    text.replace(place, 1, "\xEF\xBF\xBD");
  return text;
}

std::string compose(const std::string& problem, const std::string& why, const std::string& suggestion) {
  std::string text = problem;
  if (!why.empty()) text += " (" + why + ")";
  if (!suggestion.empty()) text += (why.empty() ? ". " : " ") + suggestion;
  return text;
}

}  // namespace

InputError::InputError(ErrorKind kind, std::string problem, std::string why, std::string suggestion)
    : std::runtime_error(without_zeros(compose(problem, why, suggestion))),
      kind_(kind),
      problem_(without_zeros(std::move(problem))),
      why_(without_zeros(std::move(why))),
      suggestion_(without_zeros(std::move(suggestion))) {}

InputError InputError::in(const std::string& context) const {
  return InputError(kind_, context + ": " + problem_, why_, suggestion_);
}

void detail::assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "spectrace: internal error: assertion '%s' failed at %s:%d. This is a bug in spectrace.\n",
               condition, file, line);
  std::abort();
}

}  // namespace spectrace
