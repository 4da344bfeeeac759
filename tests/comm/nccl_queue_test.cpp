// Reductions over NCCL without NCCL: a fake of the two libraries that checks what it is given, and does what they
// would.
#include "../../src/comm/nccl_queue.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace spectrace {
namespace {

enum class Type { int64, float64 };
enum class Operation { sum, min };

/// What the libraries were asked, in order, and the other rank's part of it.
struct Libraries {
  std::vector<std::string> calls;
  std::vector<std::size_t> counts;
  std::vector<std::byte> device;  // the buffer
  std::string fails;              // the call that does
  int device_number = -1, size = 0, rank = -1;
  int asked_until_through = 0;  // how often the stream is asked before it is, each time
  int asked_until_settled = 0;  // the same of the communicator
  int num_asked = 0;
  // What is on the stream and not done yet.
  bool is_reducing = false, is_copying_back = false;
};

struct FakeApi {
  using Stream = int;
  using Comm = int;
  struct Id {
    char internal[128];
  };
  using DataType = Type;
  using Operation = spectrace::Operation;
  static constexpr Type kInt64 = Type::int64, kFloat64 = Type::float64;
  static constexpr Operation kSum = Operation::sum, kMin = Operation::min;
  static constexpr int kStream = 71, kComm = 72;

  Libraries* libraries;

  std::string call(const std::string& name) {
    libraries->calls.push_back(name);
    return libraries->fails == name ? "broken" : "";
  }
  std::string set_device(int device) {
    libraries->device_number = device;
    return call("set_device");
  }
  std::string create_stream(Stream& stream) {
    EXPECT_EQ(libraries->device_number, 5) << "a stream belongs to the device that is current";
    stream = kStream;
    return call("create_stream");
  }
  std::string allocate(void*& buffer, std::size_t size) {
    libraries->device.resize(size);
    buffer = libraries->device.data();
    return call("allocate");
  }
  std::string make_id(Id& id) {
    std::memset(id.internal, 'q', sizeof id.internal);
    return call("make_id");
  }
  std::string join(Comm& comm, int size, const Id& id, int rank) {
    libraries->size = size;
    libraries->rank = rank;
    for (const char byte : id.internal) EXPECT_EQ(byte, 'q') << "root's id, whole";
    comm = kComm;
    return call("join");
  }
  void expect_in_buffer(const void* address, std::size_t bytes) const {
    EXPECT_EQ(address, libraries->device.data());
    EXPECT_LE(bytes, libraries->device.size());
  }
  std::string copy_to_device(void* to, const void* from, std::size_t bytes, Stream stream) {
    EXPECT_EQ(stream, kStream);
    EXPECT_FALSE(libraries->is_reducing || libraries->is_copying_back) << "the buffer is still in use";
    expect_in_buffer(to, bytes);
    std::memcpy(to, from, bytes);
    libraries->num_asked = 0;
    return call("copy_to_device");
  }
  std::string reduce(void* buffer, std::size_t count, DataType type, Operation operation, int root, Comm comm,
                     Stream stream) {
    EXPECT_EQ(root, 0);
    return reduce_on_stream("reduce", buffer, count, type, operation, comm, stream);
  }
  std::string all_reduce(void* buffer, std::size_t count, DataType type, Operation operation, Comm comm,
                         Stream stream) {
    return reduce_on_stream("all_reduce", buffer, count, type, operation, comm, stream);
  }
  std::string reduce_on_stream(const char* name, void* buffer, std::size_t count, DataType type, Operation operation,
                               Comm comm, Stream stream) {
    EXPECT_EQ(stream, kStream);
    EXPECT_EQ(comm, kComm);
    EXPECT_FALSE(libraries->is_reducing || libraries->is_copying_back);
    EXPECT_TRUE(type == Type::int64 || operation == Operation::min) << "float64 is never summed";
    expect_in_buffer(buffer, count * 8);
    libraries->counts.push_back(count);
    for (std::size_t i = 0; i < count; ++i) add_other(static_cast<std::byte*>(buffer) + 8 * i, type, operation);
    libraries->is_reducing = true;
    libraries->num_asked = 0;
    return call(name);
  }
  /// The other rank has 1000 everywhere.
  static void add_other(std::byte* place, Type type, Operation operation) {
    std::int64_t number = 0;
    double value = 0;
    std::memcpy(&number, place, 8);
    std::memcpy(&value, place, 8);
    number = operation == Operation::sum ? number + 1000 : std::min(number, std::int64_t{1000});
    value = std::min(value, 1000.0);
    std::memcpy(place, type == Type::int64 ? static_cast<const void*>(&number) : &value, 8);
  }
  std::string state_of(Comm comm, bool& is_under_way) {
    EXPECT_EQ(comm, kComm);
    is_under_way = ++libraries->num_asked <= libraries->asked_until_settled;
    return libraries->fails == "state_of" ? "broken" : "";
  }
  std::string copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream) {
    EXPECT_EQ(stream, kStream);
    EXPECT_TRUE(libraries->is_reducing);
    EXPECT_GT(libraries->num_asked, libraries->asked_until_settled) << "the reduction may not be on the stream yet";
    EXPECT_EQ(bytes, 8 * libraries->counts.back());
    expect_in_buffer(from, bytes);
    std::memcpy(to, from, bytes);
    libraries->is_copying_back = true;
    return call("copy_to_host");
  }
  std::string is_through(Stream stream, bool& is_through) {
    EXPECT_EQ(stream, kStream);
    is_through = ++libraries->num_asked > libraries->asked_until_settled + libraries->asked_until_through;
    if (is_through) libraries->is_reducing = libraries->is_copying_back = false;
    return libraries->fails == "is_through" ? "broken" : "";
  }
  void leave(Comm comm) {
    EXPECT_EQ(comm, kComm);
    call("leave");
  }
  void abort(Comm) { call("abort"); }
  void free(void* buffer) {
    EXPECT_EQ(buffer, libraries->device.data());
    call("free");
  }
  void destroy_stream(Stream stream) {
    EXPECT_EQ(stream, kStream);
    call("destroy_stream");
  }
};

using FakeReductions = nccl::NcclReductions<FakeApi>;

TEST(nccl_queue, begins_and_ends_in_order) {
  Libraries libraries;
  libraries.asked_until_settled = 3;
  const auto communicator = Communicator::serial();
  { const FakeReductions reductions(*communicator, 5, {&libraries}); }
  EXPECT_EQ(libraries.calls, (std::vector<std::string>{"set_device", "create_stream", "allocate", "make_id", "join",
                                                       "leave", "free", "destroy_stream"}));
  EXPECT_EQ(libraries.size, 1);
  EXPECT_EQ(libraries.rank, 0);
  EXPECT_EQ(libraries.num_asked, 4);
}

// One after the other through one buffer, whatever is posted at once; nothing is waited for.
TEST(nccl_queue, what_is_posted_goes_through_in_its_order) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  FakeReductions reductions(*communicator, 5, {&libraries});
  libraries.calls.clear();
  libraries.asked_until_settled = 2;
  libraries.asked_until_through = 3;
  std::vector<std::int64_t> sums(7), least = {5, 2000};
  std::iota(sums.begin(), sums.end(), std::int64_t{1} << 40);
  std::vector<double> values = {0.0, 2000, -7, std::numeric_limits<double>::infinity()};
  reductions.post_sum(sums, 0);
  reductions.post_min(values, 0);
  reductions.post_min_everywhere(least);
  int asked = 0;
  while (!reductions.is_done()) ++asked;
  EXPECT_GE(asked, 3 * 2);
  for (std::size_t i = 0; i < sums.size(); ++i)
    EXPECT_EQ(sums[i], (std::int64_t{1} << 40) + static_cast<std::int64_t>(i) + 1000) << i;
  EXPECT_EQ(values, (std::vector<double>{0, 1000, -7, 1000}));
  EXPECT_EQ(least, (std::vector<std::int64_t>{5, 1000}));
  EXPECT_EQ(libraries.counts, (std::vector<std::size_t>{7, 4, 2}));
  EXPECT_EQ(libraries.calls,
            (std::vector<std::string>{"copy_to_device", "reduce", "copy_to_host", "copy_to_device", "reduce",
                                      "copy_to_host", "copy_to_device", "all_reduce", "copy_to_host"}));
  EXPECT_TRUE(reductions.is_done());
}

TEST(nccl_queue, nothing_to_reduce_asks_nothing) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  FakeReductions reductions(*communicator, 5, {&libraries});
  libraries.calls.clear();
  reductions.post_sum({}, 0);
  EXPECT_TRUE(reductions.is_done());
  EXPECT_TRUE(libraries.calls.empty());
}

TEST(nccl_queue, what_is_under_way_at_the_end_is_aborted) {
  Libraries libraries;
  libraries.asked_until_through = 1000;
  const auto communicator = Communicator::serial();
  std::vector<std::int64_t> values = {1};
  {
    FakeReductions reductions(*communicator, 5, {&libraries});
    reductions.post_sum(values, 0);
    EXPECT_FALSE(reductions.is_done());
  }
  EXPECT_EQ(std::count(libraries.calls.begin(), libraries.calls.end(), "abort"), 1);
  EXPECT_EQ(std::count(libraries.calls.begin(), libraries.calls.end(), "leave"), 0);
}

TEST(nccl_queue_death, a_failing_call_ends_all_ranks) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const char* call : {"join", "copy_to_device", "reduce", "copy_to_host", "is_through", "state_of"})
    EXPECT_EXIT(
        {
          Libraries libraries;
          libraries.fails = call;
          const auto communicator = Communicator::serial();
          FakeReductions reductions(*communicator, 5, {&libraries});
          std::vector<std::int64_t> values = {1};
          reductions.post_sum(values, 0);
          while (!reductions.is_done()) continue;
        },
        ::testing::ExitedWithCode(3), "")
        << call;
}

}  // namespace
}  // namespace spectrace
