#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace spectrace {

/// What kind of input is at fault; decides the exit code (docs/manual.md, "Exit codes").
enum class ErrorKind {
  usage,   ///< the command line or the job file
  model,   ///< a checkpoint: its files, config, tensors or tokenizer
  prompt,  ///< one prompt
  io,      ///< a file or folder could not be read or written
};

/// "Your input": something outside the program is not as it must be. Always checked, never an assertion.
/// what() reads "problem (why) suggestion"; why and suggestion may be empty. They may hold foreign bytes: each is taken
/// as shown_text.
class InputError : public std::runtime_error {
 public:
  InputError(ErrorKind kind, std::string problem, std::string why = {}, std::string suggestion = {});

  ErrorKind kind() const noexcept { return kind_; }
  const std::string& problem() const noexcept { return problem_; }
  const std::string& why() const noexcept { return why_; }
  const std::string& suggestion() const noexcept { return suggestion_; }

  /// The same error with "context: " in front of the problem (a model's name, a file).
  InputError in(const std::string& context) const;

 private:
  struct Shown {};
  InputError(Shown, ErrorKind kind, std::string problem, std::string why, std::string suggestion);

  ErrorKind kind_;
  std::string problem_, why_, suggestion_;
};

/// "Our bug", noticed where the run can still end in order. what() says what happened and where it was caught.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Foreign bytes as a terminal, a log or a results file may take them: what is not UTF-8, a NUL and other control
/// characters (but line ends and tabs) as \xNN; cut after 8000 bytes. The same again of what it returned.
std::string shown_text(std::string_view text);

/// The text "name 'a', 'b' or 'c'" form used in suggestions: 'a', 'b', 'c'.
template <typename Range>
std::string quoted_list(const Range& names) {
  std::string text;
  for (const auto& name : names) {
    if (!text.empty()) text += ", ";
    text += "'" + std::string(name) + "'";
  }
  return text;
}

/// "attention, sheaf and residual"
template <typename Range>
std::string plain_list(const Range& names) {
  std::string text;
  std::size_t left = names.size();
  for (const auto& name : names) {
    if (!text.empty()) text += left == 1 ? " and " : ", ";
    text += name;
    --left;
  }
  return text;
}

namespace detail {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}

}  // namespace spectrace

/// "Our bug": a condition the program itself guarantees. Never holds an effect: off under SPECTRACE_NO_ASSERT.
#ifdef SPECTRACE_NO_ASSERT
#define SPECTRACE_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))  // what it names counts as used
#else
#define SPECTRACE_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::spectrace::detail::assertion_failed(#condition, __FILE__, __LINE__))
#endif
