#include "spectrace/sweep/share.hpp"

#include "spectrace/core/json.hpp"

namespace spectrace {

namespace {

std::string error_text(const InputError& error) {
  return "-" + Json{static_cast<int>(error.kind()), error.problem(), error.why(), error.suggestion()}.dump(
                   -1, ' ', false, Json::error_handler_t::replace);
}

[[noreturn]] void throw_error(const std::string& text) {
  const Json error = Json::parse(text.substr(1));
  throw InputError(static_cast<ErrorKind>(error[0].get<int>()), error[1], error[2], error[3]);
}

}  // namespace

std::string share_from_root(Communicator& communicator, const std::function<std::string()>& f) {
  std::string message;
  if (communicator.is_root()) {
    try {
      message = "+" + f();
    } catch (const InputError& error) {
      message = error_text(error);
    }
  }
  communicator.broadcast(message, 0);
  if (message.front() != '+') throw_error(message);
  message.erase(0, 1);
  return message;
}

void on_every_rank(Communicator& communicator, const std::function<void()>& f) {
  std::string message = "+";
  try {
    f();
  } catch (const InputError& error) {
    message = error_text(error);
  }
  for (const auto& other : communicator.all_gather(message))
    if (other.front() != '+') throw_error(other);
}

}  // namespace spectrace
