#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "spectrace/core/error.hpp"

namespace spectrace {

/// The system has no thread to give: this rank's trouble (io), never a unit's or a model's.
class ThreadError : public InputError {
 public:
  ThreadError(std::string problem, std::string why);
};

/// A thread that does the work. @throws ThreadError
std::thread start_thread(std::function<void()> work);

/// Threads of this process that parallel_for uses, the calling one included. Default 1.
/// @throws ThreadError if they cannot be had; then the calling thread is the only one.
void set_num_threads(int num_threads);
int num_threads();

/// Runs once at the start of every worker thread (numerics pins the BLAS of that thread to one thread). Workers that
/// are there already are made anew. @throws as set_num_threads does.
void set_worker_start(std::function<void()> start);

/// Calls task(i) for i in [0, num_tasks), on all threads, each i once, in no promised order. What a task computes must
/// depend on i alone, never on the thread: that is why results have the same bits for any number of threads.
/// A call from inside a task is helped by threads that have no task of their own. If tasks throw, the exception of the
/// lowest i is rethrown after all have ended.
void parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task);

/// Whether the calling thread is inside a task of parallel_for.
bool is_in_task();

/// Work beside the calling thread, on a thread of its own, always the same one (a BLAS keeps memory for each that it
/// has seen). The loops of both share the threads of parallel_for.
class SideThread {
 public:
  SideThread() = default;
  ~SideThread();
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  /// @pre nothing is under way. @throws InputError (io) if its thread cannot be had: nothing is under way then.
  void begin(std::function<void()> work);
  /// Until the work is done; at once if there is none. @throws what it threw, once.
  void wait();
  /// The same; what it threw is left for wait.
  void settle() noexcept;

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;  // under way, or to be begun; empty if there is none
  std::exception_ptr error_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace spectrace
