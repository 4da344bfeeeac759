#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {

/// What a unit's work may fail of without ending the run: the checkpoint's fault, a solver's on the matrices that
/// `what` names, memory. Returns the error's text, or nothing if all went well.
/// @throws InternalError naming `what` for every other std::exception: a bug of ours is never called the unit's;
/// ThreadError and std::system_error as they came: what the system refuses is the rank's trouble.
std::optional<std::string> error_of(const std::string& what, const std::function<void()>& f);

/// The same for a whole model, whose outcome its errors are: nothing if all went well.
/// @throws InputError (io) too: what is wrong with the output folder ends the run.
std::optional<ModelOutcome> outcome_of(const std::string& model, const std::function<void()>& f);

/// An error that ends the run, as people are told of it: whose fault it is stands in it.
InputError end_of_run(const std::exception& error);

/// Gives an error another kind: who catches it decides by that what the error ends.
template <typename F>
auto with_kind(ErrorKind kind, F&& f) {
  try {
    return f();
  } catch (const ThreadError&) {
    throw;  // whatever was being done, it is the rank's trouble
  } catch (const InputError& error) {
    throw InputError(kind, error.problem(), error.why(), error.suggestion());
  }
}

}  // namespace spectrace
