#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <string>

#include "extremes.hpp"
#include "spectrace/comm/launch.hpp"
#include "spectrace/comm/reducer.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace::nccl {

/// What goes to the GPU at once.
inline constexpr std::size_t kBufferBytes = std::size_t{16} << 20;

/// Reduction over NCCL, all but the calls themselves: these are Api's (nccl_reducer.cpp: the libraries'; a test's: a
/// fake that checks what it is given). An Api has the types Stream, Comm, Id, DataType and Operation, the constants
/// kInt64, kFloat64, kSum, kMin, kMax, and functions that return an error's text, or nothing.
template <typename Api>
class NcclReducer final : public Reducer {
 public:
  NcclReducer(Communicator& communicator, int device, Api api = {})
      : communicator_(communicator), api_(std::move(api)) {
    check(api_.set_device(device), "cudaSetDevice");
    check(api_.create_stream(stream_), "cudaStreamCreateWithFlags");
    check(api_.allocate(buffer_, kBufferBytes), "cudaMalloc");
    typename Api::Id id{};
    if (communicator.is_root()) check(api_.make_id(id), "ncclGetUniqueId");
    std::string bytes(id.internal, sizeof id.internal);
    communicator.broadcast(bytes, 0);
    std::copy(bytes.begin(), bytes.end(), id.internal);
    check(api_.join(comm_, communicator.size(), id, communicator.rank()), "ncclCommInitRank");
  }

  ~NcclReducer() override {
    // Errors have no one left to go to: the results are out, and the process ends.
    if (std::uncaught_exceptions() == 0)
      api_.leave(comm_);
    else
      api_.abort(comm_);
    api_.free(buffer_);
    api_.destroy_stream(stream_);
  }

  void sum(std::span<std::int64_t> values) override { all_reduce(values, Api::kInt64, Api::kSum); }
  void min(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, Api::kFloat64, Api::kMin);
  }
  void max(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, Api::kFloat64, Api::kMax);
  }
  const char* backend() const override { return "nccl"; }

 private:
  template <typename T>
  void all_reduce(std::span<T> values, typename Api::DataType type, typename Api::Operation operation) {
    constexpr std::size_t part_size = kBufferBytes / sizeof(T);
    for (std::size_t begin = 0; begin < values.size(); begin += part_size) {
      const auto part = values.subspan(begin, std::min(part_size, values.size() - begin));
      check(api_.copy_to_device(buffer_, part.data(), part.size_bytes(), stream_), "cudaMemcpyAsync");
      check(api_.all_reduce(buffer_, buffer_, part.size(), type, operation, comm_, stream_), "ncclAllReduce");
      check(api_.copy_to_host(part.data(), buffer_, part.size_bytes(), stream_), "cudaMemcpyAsync");
      check(api_.synchronize(stream_), "cudaStreamSynchronize");
      // A broken network shows here only: the kernel ends, its result is worthless.
      check(api_.later_error(comm_), "ncclAllReduce");
    }
  }

  /// As for MPI: the other ranks wait inside the same call, so all must end.
  void check(const std::string& error, const char* call) {
    if (error.empty()) return;
    log_error("rank {} on {}: {} failed ({}). All ranks end; `--reduce mpi` does without NCCL.", communicator_.rank(),
              host_name(), call, error);
    communicator_.abort(3);
    std::_Exit(3);  // not reached; the compiler does not see it through a virtual call
  }

  Communicator& communicator_;
  Api api_;
  typename Api::Stream stream_{};
  void* buffer_ = nullptr;
  typename Api::Comm comm_{};
};

}  // namespace spectrace::nccl
