#include "mpi_reductions.hpp"

#include <exception>
#include <vector>

#include "mpi_calls.hpp"
#include "spectrace/core/checked_cast.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace::mpi {
namespace {

class MpiReductions final : public Reductions {
 public:
  MpiReductions() : num_exceptions_(std::uncaught_exceptions()) {
    // Its own: collectives of one communicator are matched by their order, and messages' would come between.
    SPECTRACE_MPI(MPI_Comm_dup, MPI_COMM_WORLD, &comm_);
    SPECTRACE_MPI(MPI_Comm_set_errhandler, comm_, MPI_ERRORS_RETURN);
    SPECTRACE_MPI(MPI_Comm_rank, comm_, &rank_);
  }
  ~MpiReductions() override {
    // While an exception unwinds, the others may be inside one: MpiScope ends all.
    if (!is_active() || std::uncaught_exceptions() > num_exceptions_) return;
    SPECTRACE_MPI(MPI_Comm_free, &comm_);
  }

  void post_sum(std::span<std::int64_t> values, int root) override { post(values, MPI_INT64_T, MPI_SUM, root); }
  void post_min(std::span<double> values, int root) override { post(values, MPI_DOUBLE, MPI_MIN, root); }
  void post_min_everywhere(std::span<std::int64_t> values) override {
    SPECTRACE_ASSERT(values.size() <= kMostValues);
    SPECTRACE_MPI(MPI_Iallreduce, MPI_IN_PLACE, values.data(), checked_cast<int>(values.size()), MPI_INT64_T, MPI_MIN,
                  comm_, &requests_.emplace_back(MPI_REQUEST_NULL));
  }

  bool is_done() override {
    if (requests_.empty()) return true;
    int done = 0;
    SPECTRACE_MPI(MPI_Testall, checked_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done != 0) requests_.clear();
    return done != 0;
  }

  const char* backend() const override { return "mpi"; }

 private:
  template <typename T>
  void post(std::span<T> values, MPI_Datatype type, MPI_Op operation, int root) {
    SPECTRACE_ASSERT(values.size() <= kMostValues);
    const void* const from = rank_ == root ? MPI_IN_PLACE : values.data();
    SPECTRACE_MPI(MPI_Ireduce, from, values.data(), checked_cast<int>(values.size()), type, operation, root, comm_,
                  &requests_.emplace_back(MPI_REQUEST_NULL));
  }

  int num_exceptions_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  std::vector<MPI_Request> requests_;
};

}  // namespace

std::unique_ptr<Reductions> make_reductions() { return std::make_unique<MpiReductions>(); }

}  // namespace spectrace::mpi
