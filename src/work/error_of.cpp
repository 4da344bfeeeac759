#include "spectrace/work/error_of.hpp"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>
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

/// Of its own kinds, what can come of matrices and of a device's memory; the host's has no kind but a text. Whatever
/// else libtorch refuses is our mistake.
bool can_come_of_input(const c10::Error& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         dynamic_cast<const c10::LinAlgError*>(&error) != nullptr ||
         std::string_view(error.what()).find("DefaultCPUAllocator") != std::string_view::npos;
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
    if (!can_come_of_input(error)) throw InternalError(what + ": " + first_line(error));
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
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error)) {
    if (can_come_of_input(*torch)) return InputError(ErrorKind::io, first_line(*torch));
    return InputError(ErrorKind::io, first_line(*torch), "this is a bug in spectrace");
  }
  return InputError(ErrorKind::io, error.what(), "this is a bug in spectrace");
}

}  // namespace spectrace
