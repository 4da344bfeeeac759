#pragma once

#include <cstdint>
#include <functional>

namespace spectrace {

/// Threads of this process that parallel_for uses, the calling one included. Default 1.
void set_num_threads(int num_threads);
int num_threads();

/// Runs once at the start of every worker thread (numerics pins the BLAS of that thread to one thread).
void set_worker_start(std::function<void()> start);

/// Calls task(i) for i in [0, num_tasks), on all threads, each i once, in no promised order. What a task computes must
/// depend on i alone, never on the thread: that is why results have the same bits for any number of threads.
/// A call from inside a task is helped by threads that have no task of their own. If tasks throw, the exception of the
/// lowest i is rethrown after all have ended.
void parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task);

}  // namespace spectrace
