#include "spectrace/core/parallel.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "spectrace/core/error.hpp"

namespace {

std::atomic<int> threads_to_give = -1;  // negative: as many as are asked for

}  // namespace

/// In the place of the C library's, so that it fails as a limit of the system makes it fail.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(::dlsym(RTLD_NEXT, "pthread_create"));
  if (threads_to_give == 0) return EAGAIN;
  if (threads_to_give > 0) --threads_to_give;
  return real(thread, attributes, start, argument);
}

namespace spectrace {
namespace {

/// The system gives so many threads more while this is there.
class ThreadsGiven {
 public:
  explicit ThreadsGiven(int count) { threads_to_give = count; }
  ~ThreadsGiven() { threads_to_give = -1; }
};

void expect_all_threads_work(int num_threads) {
  set_num_threads(num_threads);
  std::atomic<int> num_inside = 0;
  parallel_for(num_threads, [&](std::int64_t) {
    ++num_inside;
    while (num_inside < num_threads) std::this_thread::yield();
  });
  EXPECT_EQ(num_inside, num_threads);
}

TEST(ParallelFor, every_task_once_for_any_number_of_threads) {
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    EXPECT_EQ(num_threads(), threads);
    for (const std::int64_t num_tasks : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(num_tasks));
      parallel_for(num_tasks, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      for (const auto& count : calls) EXPECT_EQ(count, 1);
    }
  }
  set_num_threads(1);
}

TEST(ParallelFor, lowest_failing_task_is_rethrown_after_all_ran) {
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    std::atomic<int> num_run = 0;
    try {
      parallel_for(100, [&](std::int64_t i) {
        ++num_run;
        if (i % 10 == 7) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "7");
    }
    EXPECT_EQ(num_run, 100);
  }
  set_num_threads(1);
}

TEST(ParallelFor, idle_threads_help_a_nested_loop) {
  // The outer loop has one task for four threads; its inner tasks wait for each other, so four threads must be there.
  set_num_threads(4);
  std::atomic<int> num_inside = 0;
  parallel_for(2, [&](std::int64_t i) {
    if (i == 1) return;
    parallel_for(4, [&](std::int64_t) {
      ++num_inside;
      while (num_inside < 4) std::this_thread::yield();
    });
  });
  EXPECT_EQ(num_inside, 4);
  set_num_threads(1);
}

TEST(ParallelFor, loops_nested_deeply_end) {
  set_num_threads(3);
  std::atomic<int> sum = 0;
  const std::function<void(int)> go_down = [&](int depth) {
    if (depth == 0) {
      ++sum;
    } else {
      parallel_for(3, [&](std::int64_t) { go_down(depth - 1); });
    }
  };
  for (int i = 0; i < 20; ++i) go_down(5);
  EXPECT_EQ(sum, 20 * 3 * 3 * 3 * 3 * 3);
  set_num_threads(1);
}

TEST(ParallelFor, nested_loops_run_every_task) {
  set_num_threads(3);
  std::atomic<int> sum = 0;
  parallel_for(4,
               [&](std::int64_t i) { parallel_for(5, [&](std::int64_t j) { sum += static_cast<int>(10 * i + j); }); });
  EXPECT_EQ(sum, 10 * (0 + 1 + 2 + 3) * 5 + (0 + 1 + 2 + 3 + 4) * 4);
  set_num_threads(1);
}

TEST(IsInTask, is_so_inside_of_tasks_alone_whatever_thread_they_are_on) {
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    EXPECT_FALSE(is_in_task());
    std::atomic<int> num_inside = 0, num_after_inner = 0;
    parallel_for(30, [&](std::int64_t) {
      num_inside += is_in_task();
      parallel_for(2, [&](std::int64_t) { num_inside += is_in_task(); });
      num_after_inner += is_in_task();  // the inner loop's end is not the outer task's
    });
    EXPECT_EQ(num_inside, 30 + 60);
    EXPECT_EQ(num_after_inner, 30);
    EXPECT_FALSE(is_in_task());
  }
  set_num_threads(1);
}

TEST(IsInTask, a_task_that_throws_ends_too) {
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    EXPECT_THROW(parallel_for(4, [](std::int64_t) { throw std::runtime_error("a task's"); }), std::runtime_error);
    EXPECT_FALSE(is_in_task());
  }
  set_num_threads(1);
}

TEST(IsInTask, work_beside_is_in_none_but_its_own) {
  bool beside = true, inside = false;
  parallel_for(1, [&](std::int64_t) {
    SideThread side;
    side.begin([&] {
      beside = is_in_task();
      parallel_for(1, [&](std::int64_t) { inside = is_in_task(); });
    });
    side.wait();
  });
  EXPECT_FALSE(beside);
  EXPECT_TRUE(inside);
}

TEST(Threads, that_cannot_be_had_leave_the_calling_one_alone) {
  for (const int given : {0, 1, 6}) {
    set_num_threads(3);
    {
      const ThreadsGiven limit(given);
      try {
        set_num_threads(8);
        FAIL() << "nothing was thrown";
      } catch (const InputError& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io);
        EXPECT_EQ(error.problem(), "8 threads cannot be had");
        EXPECT_NE(error.why().find("gave " + std::to_string(given)), std::string::npos) << error.why();
      }
    }
    EXPECT_EQ(num_threads(), 1);
    std::atomic<int> num_run = 0;
    parallel_for(10, [&](std::int64_t) { ++num_run; });
    EXPECT_EQ(num_run, 10);
    expect_all_threads_work(8);
  }
  set_num_threads(1);
}

TEST(Threads, that_cannot_be_had_for_another_start_leave_the_calling_one_alone) {
  set_num_threads(4);
  {
    const ThreadsGiven limit(2);
    EXPECT_THROW(set_worker_start([] {}), InputError);
  }
  EXPECT_EQ(num_threads(), 1);
  expect_all_threads_work(4);
  set_worker_start({});
  set_num_threads(1);
}

TEST(SideThread, that_cannot_be_had_has_nothing_under_way) {
  SideThread side;
  bool has_run = false;
  {
    const ThreadsGiven limit(0);
    EXPECT_THROW(side.begin([&] { has_run = true; }), InputError);
    side.settle();  // would wait for ever for work that no thread does
    side.wait();
  }
  EXPECT_FALSE(has_run);
  side.begin([&] { has_run = true; });
  side.wait();
  EXPECT_TRUE(has_run);
}

TEST(SideThread, shares_the_threads_with_the_loops_of_the_calling_one) {
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    std::atomic<int> here = 0, beside = 0;
    SideThread side;
    side.begin([&] { parallel_for(200, [&](std::int64_t i) { beside += static_cast<int>(i); }); });
    for (int i = 0; i < 20; ++i)
      parallel_for(4, [&](std::int64_t) { parallel_for(5, [&](std::int64_t j) { here += static_cast<int>(j); }); });
    side.wait();
    EXPECT_EQ(here, 20 * 4 * 10);
    EXPECT_EQ(beside, 199 * 100);
  }
  set_num_threads(1);
}

TEST(SideThread, starts_as_workers_do) {
  static thread_local bool has_started = false;
  set_worker_start([] { has_started = true; });
  bool found = false;
  SideThread side;
  side.begin([&] { found = has_started; });
  side.wait();
  set_worker_start({});
  EXPECT_TRUE(found);
}

TEST(SideThread, what_it_threw_is_thrown_once) {
  SideThread side;
  side.wait();  // nothing is under way
  side.begin([] { throw std::runtime_error("beside"); });
  EXPECT_THROW(side.wait(), std::runtime_error);
  side.wait();
  bool has_run = false;
  side.begin([&] { has_run = true; });
  side.wait();
  EXPECT_TRUE(has_run);
}

}  // namespace
}  // namespace spectrace
