#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spectrace {

/// Starts MPI where the process was launched by one, and ends it; else the world is one rank without MPI. The program's
/// only owner of MPI's life. Ending while an exception unwinds aborts all ranks (exit code 3) instead of finalizing: a
/// collective that others are in would never return.
class MpiScope {
 public:
  /// @throws InputError (usage) if srun started copies that know nothing of each other (comm/launch.hpp).
  MpiScope(int& argc, char**& argv);
  ~MpiScope();
  MpiScope(const MpiScope&) = delete;
  MpiScope& operator=(const MpiScope&) = delete;

 private:
  bool started_ = false;
  int num_exceptions_ = 0;  // in flight at construction
};

/// A message that has come in.
struct Message {
  int source = 0;
  int tag = 0;
  std::string bytes;
};

/// The ranks of a run. Every call marked collective must be entered by all ranks, with equal sizes where a span is
/// given. An MPI error ends all ranks with a message that names this rank and the call. One thread of a rank uses it.
class Communicator {
 public:
  /// What one MPI call carries at most; more is cut into parts. MPI counts with int.
  static constexpr std::size_t kPartBytes = std::size_t{1} << 30;

  /// All ranks of the launch; made and gone within the life of the MpiScope. Every rank gives the same part size (a
  /// multiple of 8; tests give a small one).
  static std::unique_ptr<Communicator> world(std::size_t part_bytes = kPartBytes);
  /// One rank, no MPI.
  static std::unique_ptr<Communicator> serial();
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Rank and number of ranks on this host (whose name is host_name(), comm/launch.hpp).
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  bool is_root() const { return rank() == 0; }

  virtual void barrier() = 0;                                            // collective
  virtual void broadcast(std::string& bytes, int root) = 0;              // collective
  virtual void broadcast(std::span<std::int64_t> values, int root) = 0;  // collective
  /// Text of every rank, on every rank, in the order of ranks.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;  // collective
  /// Element-wise over ranks, result on every rank.
  virtual void all_reduce_sum(std::span<std::int64_t> values) = 0;  // collective
  /// @pre no value is NaN. A zero comes out as +0.0: which of -0.0 and +0.0 is less would depend on the order of ranks.
  virtual void all_reduce_min(std::span<double> values) = 0;  // collective
  virtual void all_reduce_max(std::span<double> values) = 0;  // collective

  /// Returns at once: the bytes are kept until they have left, the receiver need not be there yet. What is sent must be
  /// received before the receiver ends.
  virtual void send(int destination, int tag, std::string bytes) = 0;
  /// Messages to the destination that have not left yet (a long one leaves when the receiver takes it).
  virtual std::size_t num_unsent(int destination, int tag) = 0;
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
