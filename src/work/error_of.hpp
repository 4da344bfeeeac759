#pragma once

#include <exception>
#include <new>
#include <optional>
#include <string>

#include "spectrace/core/error.hpp"
#include "spectrace/numerics/numerical_error.hpp"

namespace spectrace {

/// What a unit's work may fail of without ending the run: the checkpoint's fault, a solver's on the matrices that
/// `what` names, memory. Returns the error's text, or nothing if all went well.
template <typename F>
std::optional<std::string> error_of(const std::string& what, F&& f) {
  try {
    f();
    return std::nullopt;
  } catch (const InputError& error) {
    return error.what();
  } catch (const NumericalError& error) {
    return what + ": " + error.what();
  } catch (const std::bad_alloc&) {
    return what + ": does not fit into memory";
  } catch (const std::exception& error) {
    // libtorch's own: a first line that says it, then where in libtorch.
    const std::string text = error.what();
    return what + ": " + text.substr(0, text.find('\n'));
  }
}

/// Gives an error another kind: who catches it decides by that what the error ends.
template <typename F>
auto with_kind(ErrorKind kind, F&& f) {
  try {
    return f();
  } catch (const InputError& error) {
    throw InputError(kind, error.problem(), error.why(), error.suggestion());
  }
}

}  // namespace spectrace
