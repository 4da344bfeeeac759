#include "spectrace/core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

thread_local int tasks_around = 0;  // those that this thread is inside of

struct InTask {
  InTask() { ++tasks_around; }
  ~InTask() { --tasks_around; }
};

/// One loop being worked on: tasks are handed out by an atomic counter.
struct Loop {
  Loop(std::int64_t num, const std::function<void(std::int64_t)>& what) : num_tasks(num), task(&what) {}

  const std::int64_t num_tasks;
  const std::function<void(std::int64_t)>* const task;
  std::atomic<std::int64_t> next{0};
  int num_helpers = 0;  // workers inside, besides the thread that called; under the pool's mutex
  std::mutex mutex;
  std::exception_ptr error;
  std::int64_t error_task = std::numeric_limits<std::int64_t>::max();

  bool has_tasks() const { return next.load() < num_tasks; }

  void work() {
    for (std::int64_t i = next.fetch_add(1); i < num_tasks; i = next.fetch_add(1)) {
      try {
        const InTask here;
        (*task)(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < error_task) {
          error_task = i;
          error = std::current_exception();
        }
      }
    }
  }
};

/// Threads without a task help whichever loop began last and has tasks left: so those that run out of tasks of an outer
/// loop help the inner loops of the tasks that still run. Who calls a loop and waits for tasks of it that others work
/// on helps loops that began later meanwhile. Nothing can wait in a circle: a task waits only for loops of its own, and
/// who waits for a loop helps only those that began after it, whichever thread called them.
class Pool {
 public:
  ~Pool() { end_workers(); }

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  const std::function<void()>& start() const { return start_; }

  void set_start(std::function<void()> start) {
    const int size_now = size();
    resize(1);
    start_ = std::move(start);
    resize(size_now);
  }

  /// All of them or none: where one cannot be had, those before it end again and the calling thread stays alone.
  void resize(int num_threads) {
    end_workers();
    const auto num_workers = static_cast<std::size_t>(std::max(0, num_threads - 1));
    try {
      workers_.reserve(num_workers);
      while (workers_.size() < num_workers) workers_.push_back(start_thread([this] { serve(); }));
    } catch (const ThreadError& error) {
      const std::size_t num_given = workers_.size();
      end_workers();
      throw ThreadError(std::to_string(num_threads) + " threads cannot be had",
                        "the system gave " + std::to_string(num_given) + ": " + error.why());
    } catch (...) {
      end_workers();
      throw;
    }
  }

  void run(Loop& loop) {
    {
      const std::lock_guard lock(mutex_);
      loops_.push_back(&loop);
    }
    changed_.notify_all();
    loop.work();
    std::unique_lock lock(mutex_);
    while (loop.num_helpers > 0) {
      Loop* other = nullptr;
      changed_.wait(lock, [&] { return loop.num_helpers == 0 || (other = find_work(&loop)) != nullptr; });
      if (other != nullptr) help(*other, lock);
    }
    std::erase(loops_, &loop);
  }

 private:
  void end_workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
  }

  /// The last loop that has tasks left, of those that began after `after`.
  Loop* find_work(const Loop* after) const {
    for (auto loop = loops_.rbegin(); loop != loops_.rend() && *loop != after; ++loop)
      if ((*loop)->has_tasks()) return *loop;
    return nullptr;
  }

  void help(Loop& loop, std::unique_lock<std::mutex>& lock) {
    ++loop.num_helpers;
    lock.unlock();
    loop.work();
    lock.lock();
    if (--loop.num_helpers == 0) changed_.notify_all();
  }

  void serve() {
    if (start_) start_();
    std::unique_lock lock(mutex_);
    for (;;) {
      Loop* loop = nullptr;
      changed_.wait(lock, [&] { return stopping_ || (loop = find_work(nullptr)) != nullptr; });
      if (stopping_) return;
      help(*loop, lock);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;  // loops_, num_helpers of one, stopping_
  std::vector<std::thread> workers_;
  std::function<void()> start_;
  std::vector<Loop*> loops_;  // of calls under way, the last one begun last
  bool stopping_ = false;
};

Pool& pool() {
  static Pool instance;
  return instance;
}

}  // namespace

ThreadError::ThreadError(std::string problem, std::string why)
    : InputError(ErrorKind::io, std::move(problem), std::move(why),
                 "Ask for fewer threads, or raise what limits them: memory for their stacks (ulimit -v), processes of "
                 "the user (ulimit -u), of the container or of the batch job (pids).") {}

std::thread start_thread(std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    throw ThreadError("a thread cannot be had", error.code().message());
  }
}

void set_num_threads(int num_threads) { pool().resize(std::max(1, num_threads)); }
int num_threads() { return pool().size(); }
void set_worker_start(std::function<void()> start) { pool().set_start(std::move(start)); }

bool is_in_task() { return tasks_around > 0; }

SideThread::~SideThread() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void SideThread::begin(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  SPECTRACE_ASSERT(!work_);
  error_ = nullptr;
  // The thread first: work that no thread will do would be waited for without end.
  if (!thread_.joinable()) thread_ = start_thread([this] { serve(); });
  work_ = std::move(work);
  changed_.notify_all();
}

void SideThread::settle() noexcept {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !work_; });
}

void SideThread::wait() {
  settle();
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void SideThread::serve() {
  if (const auto& start = pool().start()) start();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ending_ || work_; });
    if (!work_) return;
    lock.unlock();
    std::exception_ptr error;
    try {
      work_();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    work_ = nullptr;
    changed_.notify_all();
  }
}

void parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task) {
  if (num_tasks <= 1 || pool().size() == 1) {
    // One after the other; the same promise about exceptions as with threads.
    std::exception_ptr error;
    for (std::int64_t i = 0; i < num_tasks; ++i) {
      try {
        const InTask here;
        task(i);
      } catch (...) {
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
  Loop loop(num_tasks, task);
  pool().run(loop);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace spectrace
