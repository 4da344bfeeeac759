#include "spectrace/work/error_of.hpp"

#include <c10/util/Exception.h>

#include <new>
#include <system_error>

#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/tensor_memory.hpp"

namespace spectrace {
namespace {

constexpr const char* kNoMemory = "does not fit into memory";

/// Libtorch's own: a first line that says it, then where in libtorch.
std::string first_line(const c10::Error& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

/// All but InputErrors, which a unit and a model judge differently.
std::optional<std::string> failure_of(const std::string& what, const std::function<void()>& f) {
  try {
    f();
    return std::nullopt;
  } catch (const InputError&) {
    throw;
  } catch (const NumericalError& error) {
    return what + ": " + error.what();
  } catch (const TensorMemoryError& error) {
    return what + ": " + error.what();
  } catch (const c10::Error& error) {
    return what + ": " + first_line(error);
  } catch (const std::bad_alloc&) {
    return what + ": " + kNoMemory;
  } catch (const InternalError&) {
    throw;  // says already where it was caught first
  } catch (const std::system_error&) {
    throw;
  } catch (const std::exception& error) {
    throw InternalError(what + ": " + error.what());
  }
}

}  // namespace

std::optional<std::string> error_of(const std::string& what, const std::function<void()>& f) {
  try {
    return failure_of(what, f);
  } catch (const ThreadError&) {
    throw;
  } catch (const InputError& error) {
    return error.what();
  }
}

std::optional<ModelOutcome> outcome_of(const std::string& model, const std::function<void()>& f) {
  try {
    if (auto failure = failure_of(model, f))
      return ModelOutcome{.status = ModelStatus::failed, .error = std::move(*failure)};
    return std::nullopt;
  } catch (const InputError& error) {
    if (error.kind() == ErrorKind::io) throw;
    return ModelOutcome{.status = error.kind() == ErrorKind::usage ? ModelStatus::mismatch : ModelStatus::failed,
                        .error = error.what()};
  }
}

InputError end_of_run(const std::exception& error) {
  if (const auto* input = dynamic_cast<const InputError*>(&error)) return *input;
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr)
    return InputError(ErrorKind::io, std::string("what this rank had to do ") + kNoMemory, error.what());
  if (dynamic_cast<const TensorMemoryError*>(&error) != nullptr) return InputError(ErrorKind::io, error.what());
  if (dynamic_cast<const std::system_error*>(&error) != nullptr)
    return InputError(ErrorKind::io, error.what(), "the system refused what this rank asked for");
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error))
    return InputError(ErrorKind::io, first_line(*torch), "a bug in spectrace, or out of memory");
  return InputError(ErrorKind::io, error.what(), "this is a bug in spectrace");
}

}  // namespace spectrace
