#include "spectrace/core/error.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace spectrace {
namespace {

std::string compose(const std::string& problem, const std::string& why, const std::string& suggestion) {
  std::string text = problem;
  if (!why.empty()) text += " (" + why + ")";
  if (!suggestion.empty()) text += (why.empty() ? ". " : " ") + suggestion;
  return text;
}

}  // namespace

InputError::InputError(ErrorKind kind, std::string problem, std::string why, std::string suggestion)
    : std::runtime_error(compose(problem, why, suggestion)),
      kind_(kind),
      problem_(std::move(problem)),
      why_(std::move(why)),
      suggestion_(std::move(suggestion)) {}

InputError InputError::in(const std::string& context) const {
  return InputError(kind_, context + ": " + problem_, why_, suggestion_);
}

void detail::assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "spectrace: internal error: assertion '%s' failed at %s:%d. This is a bug in spectrace.\n",
               condition, file, line);
  std::abort();
}

}  // namespace spectrace
