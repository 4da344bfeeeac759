#include "spectrace/run/share.hpp"

#include "spectrace/core/json.hpp"

namespace spectrace {

std::string share_from_root(Communicator& communicator, const std::function<std::string()>& f) {
  std::string message;
  if (communicator.is_root()) {
    try {
      message = "+" + f();
    } catch (const InputError& error) {
      message = "-" + Json{static_cast<int>(error.kind()), error.problem(), error.why(), error.suggestion()}.dump(
                          -1, ' ', false, Json::error_handler_t::replace);
    }
  }
  communicator.broadcast(message, 0);
  if (message.front() == '+') return message.substr(1);
  const Json error = Json::parse(message.substr(1));
  throw InputError(static_cast<ErrorKind>(error[0].get<int>()), error[1], error[2], error[3]);
}

}  // namespace spectrace
