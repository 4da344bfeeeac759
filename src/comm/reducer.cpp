#include "spectrace/comm/reducer.hpp"

#include "nccl_reducer.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

class MpiReducer final : public Reducer {
 public:
  explicit MpiReducer(Communicator& communicator) : communicator_(communicator) {}
  void sum(std::span<std::int64_t> values) override { communicator_.all_reduce_sum(values); }
  void min(std::span<double> values) override { communicator_.all_reduce_min(values); }
  void max(std::span<double> values) override { communicator_.all_reduce_max(values); }
  const char* backend() const override { return "mpi"; }

 private:
  Communicator& communicator_;
};

}  // namespace

ReduceBackend parse_reduce_backend(const std::string& text) {
  if (text == "auto") return ReduceBackend::automatic;
  if (text == "mpi") return ReduceBackend::mpi;
  if (text == "nccl") return ReduceBackend::nccl;
  throw InputError(ErrorKind::usage, "unknown way to reduce '" + text + "'", "allowed: auto, mpi, nccl");
}

std::unique_ptr<Reducer> make_reducer(ReduceBackend backend, Communicator& communicator) {
  if (backend != ReduceBackend::mpi) {
    const std::string obstacle = nccl::find_obstacle(communicator);
    if (obstacle.empty()) return nccl::make_reducer(communicator);
    if (backend == ReduceBackend::nccl)
      throw InputError(ErrorKind::usage, "cannot reduce by NCCL", obstacle, "Use --reduce mpi: the bits are the same.");
  }
  return std::make_unique<MpiReducer>(communicator);
}

std::string nccl_library_version() { return nccl::library_version(); }

}  // namespace spectrace
