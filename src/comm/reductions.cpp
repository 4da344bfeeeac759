#include "spectrace/comm/reductions.hpp"

#include "mpi_calls.hpp"
#include "mpi_reductions.hpp"
#include "nccl_reductions.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// What one rank has is the result.
class SerialReductions final : public Reductions {
 public:
  void post_sum(std::span<std::int64_t>, int) override {}
  void post_min(std::span<double>, int) override {}
  void post_min_everywhere(std::span<std::int64_t>) override {}
  bool is_done() override { return true; }
  const char* backend() const override { return "nothing"; }
};

}  // namespace

ReduceBackend parse_reduce_backend(const std::string& text) {
  if (text == "auto") return ReduceBackend::automatic;
  if (text == "mpi") return ReduceBackend::mpi;
  if (text == "nccl") return ReduceBackend::nccl;
  throw InputError(ErrorKind::usage, "unknown way to reduce '" + text + "'", "allowed: auto, mpi, nccl");
}

std::unique_ptr<Reductions> serial_reductions() { return std::make_unique<SerialReductions>(); }

std::unique_ptr<Reductions> make_reductions(ReduceBackend backend, Communicator& communicator) {
  if (backend != ReduceBackend::mpi) {
    const std::string obstacle = nccl::find_obstacle(communicator);
    if (obstacle.empty()) return nccl::make_reductions(communicator);
    if (backend == ReduceBackend::nccl)
      throw InputError(ErrorKind::usage, "cannot reduce by NCCL", obstacle, "Use --reduce mpi: the bits are the same.");
  }
  return mpi::is_active() ? mpi::make_reductions() : serial_reductions();
}

std::string nccl_library_version() { return nccl::library_version(); }

}  // namespace spectrace
