// The NCCL reducer without NCCL: a fake of the two libraries that checks what it is given, and does what they would.
#include "../../src/comm/nccl_reduction.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace spectrace {
namespace {

/// What the libraries were asked, in order, and the other ranks' part of it.
struct Libraries {
  std::vector<std::string> calls;
  std::vector<std::size_t> counts;
  std::vector<std::byte> device;  // the buffer
  std::size_t num_pending = 0;    // calls on the stream that nobody has waited for
  std::string fails;              // the call that does
  int device_number = -1, size = 0, rank = -1;
  char id = 0;
};

enum class Type { int64, float64 };
enum class Operation { sum, min, max };

struct FakeApi {
  using Stream = int;
  using Comm = int;
  struct Id {
    char internal[128];
  };
  using DataType = Type;
  using Operation = spectrace::Operation;
  static constexpr Type kInt64 = Type::int64, kFloat64 = Type::float64;
  static constexpr Operation kSum = Operation::sum, kMin = Operation::min, kMax = Operation::max;
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
    EXPECT_EQ(libraries->num_pending, 0u) << "the buffer is still in use";
    expect_in_buffer(to, bytes);
    std::memcpy(to, from, bytes);
    ++libraries->num_pending;
    return call("copy_to_device");
  }
  std::string all_reduce(const void* from, void* to, std::size_t count, DataType type, Operation operation, Comm comm,
                         Stream stream) {
    EXPECT_EQ(stream, kStream);
    EXPECT_EQ(comm, kComm);
    EXPECT_EQ(from, to);
    EXPECT_EQ(libraries->num_pending, 1u);
    expect_in_buffer(to, count * 8);
    libraries->counts.push_back(count);
    EXPECT_EQ(type == Type::int64, operation == Operation::sum) << "sums are of integers, extremes of doubles";
    for (std::size_t i = 0; i < count; ++i) reduce(static_cast<std::byte*>(to) + 8 * i, operation);
    ++libraries->num_pending;
    return call("all_reduce");
  }
  /// With the other rank, which has 1000 everywhere.
  static void reduce(std::byte* place, Operation operation) {
    if (operation == Operation::sum) {
      std::int64_t value = 0;
      std::memcpy(&value, place, 8);
      value += 1000;
      std::memcpy(place, &value, 8);
    } else {
      double value = 0;
      std::memcpy(&value, place, 8);
      value = operation == Operation::min ? std::min(value, 1000.0) : std::max(value, 1000.0);
      std::memcpy(place, &value, 8);
    }
  }
  std::string copy_to_host(void* to, const void* from, std::size_t bytes, Stream stream) {
    EXPECT_EQ(stream, kStream);
    EXPECT_EQ(libraries->num_pending, 2u);
    EXPECT_EQ(bytes, 8 * libraries->counts.back());
    expect_in_buffer(from, bytes);
    std::memcpy(to, from, bytes);
    return call("copy_to_host");
  }
  std::string synchronize(Stream stream) {
    EXPECT_EQ(stream, kStream);
    libraries->num_pending = 0;
    return call("synchronize");
  }
  std::string later_error(Comm comm) {
    EXPECT_EQ(comm, kComm);
    EXPECT_EQ(libraries->num_pending, 0u) << "asked before the work was done";
    return call("later_error");
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

using FakeReducer = nccl::NcclReducer<FakeApi>;

TEST(nccl_reduction, begins_and_ends_in_order) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  { const FakeReducer reducer(*communicator, 5, {&libraries}); }
  EXPECT_EQ(libraries.calls, (std::vector<std::string>{"set_device", "create_stream", "allocate", "make_id", "join",
                                                       "leave", "free", "destroy_stream"}));
  EXPECT_EQ(libraries.size, 1);
  EXPECT_EQ(libraries.rank, 0);
}

TEST(nccl_reduction, sums_go_in_parts_that_fit_the_buffer) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  FakeReducer reducer(*communicator, 5, {&libraries});
  libraries.calls.clear();
  const std::size_t part = nccl::kBufferBytes / 8;
  std::vector<std::int64_t> values(2 * part + 3);
  std::iota(values.begin(), values.end(), std::int64_t{1} << 40);
  reducer.sum(values);
  EXPECT_EQ(libraries.counts, (std::vector<std::size_t>{part, part, 3}));
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(values[i], (std::int64_t{1} << 40) + static_cast<std::int64_t>(i) + 1000) << i;
  const std::vector<std::string> once = {"copy_to_device", "all_reduce", "copy_to_host", "synchronize", "later_error"};
  ASSERT_EQ(libraries.calls.size(), 15u);
  for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(libraries.calls[i], once[i % 5]);
}

TEST(nccl_reduction, extremes_are_of_doubles_with_one_zero) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  FakeReducer reducer(*communicator, 5, {&libraries});
  std::vector<double> least = {-0.0, 2000, -7}, most = {-0.0, 2000, -7};
  reducer.min(least);
  reducer.max(most);
  EXPECT_EQ(least, (std::vector<double>{0, 1000, -7}));
  EXPECT_FALSE(std::signbit(least[0]));
  EXPECT_EQ(most, (std::vector<double>{1000, 2000, 1000}));
}

TEST(nccl_reduction, nothing_to_reduce_asks_nothing) {
  Libraries libraries;
  const auto communicator = Communicator::serial();
  FakeReducer reducer(*communicator, 5, {&libraries});
  libraries.calls.clear();
  reducer.sum({});
  EXPECT_TRUE(libraries.calls.empty());
}

TEST(nccl_reduction_death, a_failing_call_ends_all_ranks) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const char* call : {"join", "all_reduce", "synchronize", "later_error"})
    EXPECT_EXIT(
        {
          Libraries libraries;
          libraries.fails = call;
          const auto communicator = Communicator::serial();
          FakeReducer reducer(*communicator, 5, {&libraries});
          std::vector<std::int64_t> values = {1};
          reducer.sum(values);
        },
        ::testing::ExitedWithCode(3), "")
        << call;
}

}  // namespace
}  // namespace spectrace
