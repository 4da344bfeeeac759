#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {

enum class ReduceBackend { automatic, mpi, nccl };
ReduceBackend parse_reduce_backend(const std::string& text);

/// Element-wise reductions over all ranks that go on while the ranks do other things. Every rank posts the same ones in
/// the same order, with spans of equal sizes of at most kMostValues; what was posted is not touched until is_done().
/// Sums and minima of int64, minima of float64: exact in any order, so every backend gives the same bits.
/// One thread of a rank uses it. An error ends all ranks with a message; a rank that has gone shows by its silence.
class Reductions {
 public:
  static constexpr std::size_t kMostValues = std::size_t{1} << 21;  // 16 MiB

  virtual ~Reductions() = default;
  /// In place, on `root`; what stands on the others then is of no use.
  virtual void post_sum(std::span<std::int64_t> values, int root) = 0;
  /// The same. @pre no value is NaN, or a zero with a sign.
  virtual void post_min(std::span<double> values, int root) = 0;
  /// In place, on every rank.
  virtual void post_min_everywhere(std::span<std::int64_t> values) = 0;
  /// Whether all that was posted is through. Asked often, it moves it on; it never waits.
  virtual bool is_done() = 0;
  /// "mpi", "nccl", or "nothing" where there is one rank.
  virtual const char* backend() const = 0;
};

/// automatic: NCCL where the build has it and every rank has a GPU of its own, else MPI. Collective; gone before the
/// communicator is.
/// @throws InputError (usage) if nccl is asked for and the build has none or a rank has no GPU of its own.
std::unique_ptr<Reductions> make_reductions(ReduceBackend backend, Communicator& communicator);
/// Of one rank.
std::unique_ptr<Reductions> serial_reductions();

/// "NCCL 2.32.3", or "none" for a build without it.
std::string nccl_library_version();

}  // namespace spectrace
