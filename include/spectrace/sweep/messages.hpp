#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spectrace/core/error.hpp"
#include "spectrace/work/order.hpp"
#include "spectrace/work/report.hpp"

// What ranks say to each other, and the one form in which it travels: CBOR, which keeps every double and every byte of
// a text as it is. Each kind has one word; what is not of a kind, or lacks something of it, is our bug.

namespace spectrace {

/// What a rank says to root.
namespace to_root {

/// It waits for work.
struct Ready {
  std::string host;
  long pid = 0;
};
/// An assignment is done.
struct Reported {
  Report report;
  double flops_done = 0;  ///< by this rank, since the run began
};
struct Alive {
  double flops_done = 0;
};
/// A signal or the time limit asks the run to end early.
struct StopAsked {
  std::string reason;
};
/// What the assignment failed of ends the run.
struct Failed {
  InputError error;
  double flops_done = 0;
};
/// Its last word.
struct Left {};

using Message = std::variant<Ready, Reported, Alive, StopAsked, Failed, Left>;

}  // namespace to_root

/// What root says to a rank.
namespace from_root {

struct Do {
  Order order;
};
/// All ranks add up what they have of the model's sums, to the one that collects it. Every rank hears these in the same
/// order.
struct Reduce {
  std::size_t model = 0;
  int receiver = 0;
  SumsShape shape;
};
struct Alive {};
/// What is under way is to be brought to where it can be gone on from.
struct Stop {};
/// The run is over.
struct Leave {
  int exit_code = 0;
};

using Message = std::variant<Do, Reduce, Alive, Stop, Leave>;

}  // namespace from_root

/// Tags of the two directions.
constexpr int kToRoot = 301, kFromRoot = 302;

std::string encode(const to_root::Message& message);
std::string encode(const from_root::Message& message);

/// `sender`: the rank that it came from, for errors.
/// @throws InternalError that names the sender, and the word if it is none of these, or if something is missing.
to_root::Message decode_to_root(std::string_view bytes, int sender);
from_root::Message decode_from_root(std::string_view bytes, int sender);

/// An error with all that it carries, from rank to rank.
std::string encode(const InputError& error);
InputError decode_error(std::string_view bytes, int sender);

}  // namespace spectrace
