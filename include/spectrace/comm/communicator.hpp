#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spectrace {

/// Starts MPI where the process was launched by one (or always, as a world of one), and ends it. The program's only
/// owner of MPI's life. Ending while an exception unwinds aborts all ranks instead of finalizing: a collective that
/// others are in would never return.
class MpiScope {
 public:
  MpiScope(int& argc, char**& argv);
  ~MpiScope();
  MpiScope(const MpiScope&) = delete;
  MpiScope& operator=(const MpiScope&) = delete;
};

/// A message that has come in.
struct Message {
  int source = 0;
  int tag = 0;
  std::string bytes;
};

/// The ranks of a run. Every call marked collective must be entered by all ranks. Counts above 2^31 are cut into parts.
/// An MPI error ends all ranks with a message that names this rank and the call.
class Communicator {
 public:
  /// All ranks of the launch.
  static std::unique_ptr<Communicator> world();
  /// One rank, no MPI.
  static std::unique_ptr<Communicator> serial();
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Rank and number of ranks on this host, and the host's name.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  bool is_root() const { return rank() == 0; }

  virtual void barrier() = 0;                                          // collective
  virtual void broadcast(std::string& bytes, int root) = 0;            // collective
  virtual void broadcast(std::span<std::int64_t> values, int root) = 0;  // collective
  /// Text of every rank, on every rank, in the order of ranks.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;  // collective
  /// Element-wise over ranks, result on every rank.
  virtual void all_reduce_sum(std::span<std::int64_t> values) = 0;  // collective
  virtual void all_reduce_min(std::span<double> values) = 0;        // collective
  virtual void all_reduce_max(std::span<double> values) = 0;        // collective

  /// Returns when the bytes have left or were copied; the receiver need not be there yet.
  virtual void send(int destination, int tag, std::string bytes) = 0;
  /// Waits for a message of the source and tag.
  virtual std::string receive(int source, int tag) = 0;
  /// A message of the tag from anyone, if one is there.
  virtual std::optional<Message> try_receive(int tag) = 0;

  /// Ends every rank of the run at once with the exit code.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

/// "Open MPI 4.1.4": what the program runs with, for --version and run.json.
std::string mpi_library_version();

}  // namespace spectrace
