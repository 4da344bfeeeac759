#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "spectrace/comm/communicator.hpp"

namespace spectrace {

enum class ReduceBackend { automatic, mpi, nccl };
ReduceBackend parse_reduce_backend(const std::string& text);

/// Adds statistics up over ranks. int64 sums and float64 minima and maxima only: exact under any order, so MPI and NCCL
/// give the same bits.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual void sum(std::span<std::int64_t> values) = 0;  // collective
  virtual void min(std::span<double> values) = 0;        // collective
  virtual void max(std::span<double> values) = 0;        // collective
  /// "mpi" or "nccl"
  virtual const char* backend() const = 0;
};

/// automatic: NCCL where the build has it and every rank has a GPU of its own, else MPI.
/// @throws InputError (usage) if nccl is asked for and the build has none or a rank has no GPU of its own.
std::unique_ptr<Reducer> make_reducer(ReduceBackend backend, Communicator& communicator);

/// "NCCL 2.32.3", or "none" for a build without it.
std::string nccl_library_version();

}  // namespace spectrace
