#include "spectrace/sweep/share.hpp"

#include <string_view>

#include "spectrace/core/error.hpp"
#include "spectrace/sweep/messages.hpp"

namespace spectrace {
namespace {

/// A text, or the error that was thrown instead of it.
constexpr char kText = '+', kError = '-';

std::string attempt(const std::function<std::string()>& f) {
  try {
    return kText + f();
  } catch (const InputError& error) {
    return kError + encode(error);
  }
}

void expect_text(const std::string& message, int sender) {
  if (message.empty() || message.front() != kText)
    throw decode_error(std::string_view(message).substr(message.empty() ? 0 : 1), sender);
}

}  // namespace

std::string share_from_root(Communicator& communicator, const std::function<std::string()>& f) {
  std::string message;
  if (communicator.is_root()) message = attempt(f);
  communicator.broadcast(message, 0);
  expect_text(message, 0);
  message.erase(0, 1);
  return message;
}

void on_every_rank(Communicator& communicator, const std::function<void()>& f) {
  const std::string mine = attempt([&] {
    f();
    return std::string();
  });
  const auto all = communicator.all_gather(mine);
  for (std::size_t rank = 0; rank < all.size(); ++rank) expect_text(all[rank], static_cast<int>(rank));
}

}  // namespace spectrace
