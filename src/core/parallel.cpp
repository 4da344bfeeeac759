#include "spectrace/core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

namespace spectrace {
namespace {

thread_local bool inside_task = false;

/// One loop being worked on: tasks are handed out by an atomic counter.
struct Loop {
  Loop(std::int64_t num, const std::function<void(std::int64_t)>& what) : num_tasks(num), task(&what) {}

  const std::int64_t num_tasks;
  const std::function<void(std::int64_t)>* const task;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  std::int64_t error_task = std::numeric_limits<std::int64_t>::max();

  void work() {
    inside_task = true;
    for (std::int64_t i = next.fetch_add(1); i < num_tasks; i = next.fetch_add(1)) {
      try {
        (*task)(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < error_task) {
          error_task = i;
          error = std::current_exception();
        }
      }
    }
    inside_task = false;
  }
};

class Pool {
 public:
  ~Pool() { resize(1); }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void set_start(std::function<void()> start) {
    const int size_now = size();
    resize(1);
    start_ = std::move(start);
    resize(size_now);
  }

  void resize(int num_threads) {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
    for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, seen = generation_] { serve(seen); });
  }

  void run(Loop& loop) {
    {
      const std::lock_guard lock(mutex_);
      loop_ = &loop;
      num_busy_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    loop.work();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return num_busy_ == 0; });
    loop_ = nullptr;
  }

 private:
  void serve(std::uint64_t seen) {
    if (start_) start_();
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      Loop* loop = loop_;
      lock.unlock();
      loop->work();
      lock.lock();
      if (--num_busy_ == 0) idle_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::thread> workers_;
  std::function<void()> start_;
  Loop* loop_ = nullptr;
  std::uint64_t generation_ = 0;
  int num_busy_ = 0;
  bool stopping_ = false;
};

Pool& pool() {
  static Pool instance;
  return instance;
}

}  // namespace

void set_num_threads(int num_threads) { pool().resize(std::max(1, num_threads)); }
int num_threads() { return pool().size(); }
void set_worker_start(std::function<void()> start) { pool().set_start(std::move(start)); }

void parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& task) {
  if (inside_task || num_tasks <= 1 || pool().size() == 1) {
    // One after the other; the same promise about exceptions as with threads.
    std::exception_ptr error;
    for (std::int64_t i = 0; i < num_tasks; ++i) {
      try {
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
