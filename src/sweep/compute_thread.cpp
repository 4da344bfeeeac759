#include "spectrace/sweep/compute_thread.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "spectrace/sweep/num_threads.hpp"
#include "spectrace/work/error_of.hpp"
#include "spectrace/work/worker.hpp"

namespace spectrace {

struct ComputeThread::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::optional<Order>> queue;
  std::optional<to_root::Message> report;
  bool started = false, busy = false, ended = false;
  std::optional<InputError> start_error;  // then it has ended
};

namespace {

/// What keeps a rank from computing at all, whatever it is: the run does not begin.
InputError start_error_of(const std::exception& error, int num_threads) {
  if (const auto* none = dynamic_cast<const ThreadError*>(&error)) return no_threads(num_threads, none->why());
  return end_of_run(error);
}

}  // namespace

to_root::Message result_of(const std::function<Report()>& work) {
  try {
    return to_root::Reported{.report = work()};
  } catch (const std::exception& error) {
    return to_root::Failed{.error = end_of_run(error)};
  }
}

ComputeThread::ComputeThread(std::shared_ptr<RunContext> context) : shared_(std::make_shared<Shared>()) {
  const int num_threads = context->num_threads;
  try {
    start_thread([context = std::move(context), shared = shared_] { serve(*context, *shared); }).detach();
  } catch (const std::exception& error) {
    throw start_error_of(error, num_threads);
  }
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->started || shared_->ended; });
  if (shared_->start_error) throw *shared_->start_error;
}

ComputeThread::~ComputeThread() {
  push(std::nullopt);
  if (!is_idle()) return;
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->ended; });
}

void ComputeThread::give(Order order) { push(std::move(order)); }

bool ComputeThread::is_idle() const {
  const std::lock_guard lock(shared_->mutex);
  return !shared_->busy;
}

std::optional<to_root::Message> ComputeThread::take_report() {
  const std::lock_guard lock(shared_->mutex);
  return std::exchange(shared_->report, std::nullopt);
}

void ComputeThread::push(std::optional<Order> order) {
  const std::lock_guard lock(shared_->mutex);
  if (order) shared_->busy = true;
  shared_->queue.push_back(std::move(order));
  shared_->changed.notify_all();
}

void ComputeThread::serve(RunContext& context, Shared& shared) {
  const auto tell = [&](auto&& change) {
    const std::lock_guard lock(shared.mutex);
    change();
    shared.changed.notify_all();
  };
  try {
    start_compute_threads(context.num_threads);
  } catch (const std::exception& error) {
    return tell([&] {
      shared.start_error = start_error_of(error, context.num_threads);
      shared.ended = true;
    });
  }
  tell([&] { shared.started = true; });
  {
    Worker worker(context);
    for (;;) {
      std::unique_lock lock(shared.mutex);
      shared.changed.wait(lock, [&] { return !shared.queue.empty(); });
      const auto order = std::move(shared.queue.front());
      shared.queue.pop_front();
      lock.unlock();
      if (!order) break;
      to_root::Message report = result_of([&] { return worker.run(*order); });
      tell([&] {
        shared.report = std::move(report);
        shared.busy = false;
      });
    }
  }
  set_compute_threads(1);
  tell([&] { shared.ended = true; });
}

}  // namespace spectrace
