#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "spectrace/comm/launch.hpp"
#include "spectrace/comm/reductions.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace::nccl {

/// Reductions over NCCL, all but the calls themselves: these are Api's (nccl_reductions.cpp: the libraries'; a test's:
/// a fake that checks what it is given). What is posted waits in a queue; one at a time goes to the device, is reduced
/// there, and comes back. The communicator never blocks: each of its calls may be under way still when it returns, and
/// is asked about until it is not.
///
/// An Api has the types Stream, Comm, Id, DataType and Operation, the constants kInt64, kFloat64, kSum, kMin, functions
/// that return an error's text, or nothing, and two that are asked again and again: state_of(comm), is_through(stream).
template <typename Api>
class NcclReductions final : public Reductions {
 public:
  NcclReductions(Communicator& communicator, int device, Api api = {})
      : communicator_(communicator), api_(std::move(api)) {
    check(api_.set_device(device), "cudaSetDevice");
    check(api_.create_stream(stream_), "cudaStreamCreateWithFlags");
    check(api_.allocate(buffer_, kMostValues * sizeof(std::int64_t)), "cudaMalloc");
    typename Api::Id id{};
    if (communicator.is_root()) check(api_.make_id(id), "ncclGetUniqueId");
    std::string bytes(id.internal, sizeof id.internal);
    communicator.broadcast(bytes, 0);
    std::copy(bytes.begin(), bytes.end(), id.internal);
    check(api_.join(comm_, communicator.size(), id, communicator.rank()), "ncclCommInitRankConfig");
    // All come together here, at the start of the run, whose time is limited.
    while (is_under_way("ncclCommInitRankConfig")) std::this_thread::yield();
  }

  ~NcclReductions() override {
    // What is under way will not end if a rank has gone; and errors have no one left to go to.
    if (std::uncaught_exceptions() == 0 && queue_.empty())
      api_.leave(comm_);
    else
      api_.abort(comm_);
    api_.free(buffer_);
    api_.destroy_stream(stream_);
  }

  void post_sum(std::span<std::int64_t> values, int root) override {
    post({values.data(), values.size(), Api::kInt64, Api::kSum, root});
  }
  void post_min(std::span<double> values, int root) override {
    post({values.data(), values.size(), Api::kFloat64, Api::kMin, root});
  }
  void post_min_everywhere(std::span<std::int64_t> values) override {
    post({values.data(), values.size(), Api::kInt64, Api::kMin, std::nullopt});
  }

  bool is_done() override {
    while (!queue_.empty()) {
      if (step_ == Step::waiting) {
        begin(queue_.front());
        step_ = Step::reducing;
      }
      if (step_ == Step::reducing) {
        if (is_under_way("ncclReduce")) return false;
        end(queue_.front());
        step_ = Step::coming_back;
      }
      // A broken network shows here only: the kernel ends, its result is worthless.
      static_cast<void>(is_under_way("ncclReduce"));
      bool is_through = false;
      check(api_.is_through(stream_, is_through), "cudaStreamQuery");
      if (!is_through) return false;
      static_cast<void>(is_under_way("ncclReduce"));
      queue_.pop_front();
      step_ = Step::waiting;
    }
    return true;
  }

  const char* backend() const override { return "nccl"; }

 private:
  /// What was posted, of 8 bytes a value.
  struct Post {
    void* values;
    std::size_t count;
    typename Api::DataType type;
    typename Api::Operation operation;
    std::optional<int> root;  ///< nothing: every rank
    std::size_t bytes() const { return count * sizeof(std::int64_t); }
  };
  enum class Step { waiting, reducing, coming_back };

  void post(const Post& what) {
    SPECTRACE_ASSERT(what.count <= kMostValues);
    if (what.count > 0) queue_.push_back(what);
  }

  void begin(const Post& what) {
    check(api_.copy_to_device(buffer_, what.values, what.bytes(), stream_), "cudaMemcpyAsync");
    if (what.root)
      check(api_.reduce(buffer_, what.count, what.type, what.operation, *what.root, comm_, stream_), "ncclReduce");
    else
      check(api_.all_reduce(buffer_, what.count, what.type, what.operation, comm_, stream_), "ncclAllReduce");
  }

  /// Where there is nothing to bring back, what follows on the stream still comes after it.
  void end(const Post& what) {
    if (what.root && *what.root != communicator_.rank()) return;
    check(api_.copy_to_host(what.values, buffer_, what.bytes(), stream_), "cudaMemcpyAsync");
  }

  bool is_under_way(const char* call) {
    bool is_under_way = false;
    check(api_.state_of(comm_, is_under_way), call);
    return is_under_way;
  }

  /// As for MPI: the other ranks wait for this one, so all must end.
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
  std::deque<Post> queue_;
  Step step_ = Step::waiting;  // of the front
};

}  // namespace spectrace::nccl
