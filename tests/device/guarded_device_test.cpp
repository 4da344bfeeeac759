// The guarded device finds what it is there for.
#include "guarded_device.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

using testing::guarded_device;

/// As a rank computes: the BLAS on one thread (its own threads would only fight for the cores).
class OneThread : public ::testing::Environment {
  void SetUp() override { set_compute_threads(1); }
};
[[maybe_unused]] const auto* const one_thread = ::testing::AddGlobalTestEnvironment(new OneThread);

Tensor counted(std::int64_t n) { return at::arange(n, at::kDouble); }

TEST(guarded_device, brings_there_and_back) {
  const Device device = guarded_device();
  EXPECT_FALSE(device.is_host());
  const Tensor host = counted(1000).view({10, 100}), there = device.bring(host);
  EXPECT_TRUE(Device::of(there) == device);
  EXPECT_TRUE(at::equal(Device::to_host(there), host));
  // Views too, and results of operations.
  EXPECT_TRUE(at::equal(Device::to_host(there.t().narrow(0, 3, 7)), host.t().narrow(0, 3, 7)));
  EXPECT_TRUE(at::equal(Device::to_host(there.mm(there.t())), host.mm(host.t())));
}

TEST(guarded_device, memory_comes_back) {
  const Device device = guarded_device();
  const std::int64_t before = testing::guarded_bytes();
  {
    const Tensor there = at::zeros({1 << 18}, device.options(at::kDouble));
    EXPECT_GE(testing::guarded_bytes(), before + (std::int64_t{8} << 18));
  }
  EXPECT_EQ(testing::guarded_bytes(), before);
}

TEST(guarded_device, what_was_never_written_is_nan) {
  const Tensor there = at::empty({100}, guarded_device().options(at::kFloat));
  EXPECT_TRUE(Device::to_host(there).isnan().all().item<bool>());
}

TEST(guarded_device_death, a_host_read_ends_the_process_and_names_the_allocation) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const Tensor there = at::zeros({512}, guarded_device().options(at::kDouble));
        const volatile double value = there.const_data_ptr<double>()[3];
        static_cast<void>(value);
      },
      "the host touched device memory: byte 24 of an allocation of 4096 bytes");
}

TEST(guarded_device, a_mix_of_devices_throws) {
  const Device device = guarded_device();
  const Tensor host = counted(4), there = device.bring(host);
  EXPECT_THROW(there.add(host), c10::Error);
  EXPECT_THROW(at::mul(host, there), c10::Error);
  EXPECT_THROW(at::where(host > 1, there, there), c10::Error);
  Tensor out = counted(4);
  EXPECT_THROW(at::add_out(out, there, there), c10::Error);
  EXPECT_NO_THROW(there.add(2.0));
}

TEST(guarded_device, a_copy_to_the_host_is_poison_until_the_stream_is_waited_for) {
  const Device device = guarded_device();
  const Tensor there = device.bring(counted(8));
  const Tensor here = at::zeros({8}, at::TensorOptions(at::kDouble).pinned_memory(true));
  here.copy_(there, /*non_blocking=*/true);
  EXPECT_TRUE(std::isnan(here.const_data_ptr<double>()[5]));
  there.zero_();  // after the copy on the stream: not what it brings
  device.wait();
  EXPECT_EQ(here.const_data_ptr<double>()[5], 5);
}

TEST(guarded_device, a_pinned_source_is_read_late) {
  const Device device = guarded_device();
  const Tensor here = at::zeros({8}, at::TensorOptions(at::kDouble).pinned_memory(true));
  const Tensor there = at::empty({8}, device.options(at::kDouble));
  there.copy_(here, /*non_blocking=*/true);
  here.fill_(7);  // too early
  EXPECT_EQ(there.sum().item<double>(), 56);
}

TEST(guarded_device, what_another_stream_made_may_be_used_when_that_was_waited_for) {
  const Device device = guarded_device();
  const Tensor host = counted(1000);
  Tensor there;
  SideThread side;
  side.begin([&] {
    const SideStream beside(device);
    there = device.bring(host);
  });
  side.wait();
  EXPECT_THROW(there.sum(), c10::Error);
  side.begin([&] {
    const SideStream beside(device);
    device.wait();
  });
  side.wait();
  EXPECT_EQ(there.sum().item<double>(), 499500);
  device.wait();  // this stream has used what is freed now
}

TEST(guarded_device, a_thread_has_its_stream_back) {
  const Device device = guarded_device();
  const Tensor first = device.bring(counted(8));
  {
    const SideStream beside(device);
    EXPECT_THROW(first.sum(), c10::Error);
  }
  EXPECT_EQ(first.sum().item<double>(), 28);
  { const SideStream nothing(Device::cpu()); }
}

TEST(guarded_device_death, memory_that_another_stream_may_still_use_is_not_freed) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const Device device = guarded_device();
        Tensor there;
        {
          const SideStream beside(device);
          there = device.bring(counted(8));
          device.wait();
        }
        const Tensor sum = there.sum();
        there.reset();
      },
      "memory of stream 1 is freed while stream 0 may still use it");
}

// More than both pinned buffers hold: each is filled again only when its bytes have left.
TEST(guarded_device, large_tensors_come_through_two_buffers) {
  const Device device = guarded_device();
  const Tensor host = at::arange(5 * Device::kBroughtAtOnce / 8 + 7, at::kFloat);
  const Tensor there = device.bring(host);
  EXPECT_TRUE(at::equal(Device::to_host(there), host));
}

TEST(guarded_device, widens_what_it_is_brought) {
  const Device device = guarded_device();
  for (const auto stored : {at::kBFloat16, at::kHalf, at::kFloat}) {
    const Tensor host = at::arange(3000, at::kFloat).sub(1500).div(7).to(stored);
    for (const auto type : {at::kFloat, at::kDouble}) {
      const std::int64_t before = testing::guarded_bytes_brought();
      const Tensor there = device.bring(host, type);
      EXPECT_EQ(testing::guarded_bytes_brought() - before, static_cast<std::int64_t>(host.nbytes()));
      EXPECT_EQ(there.scalar_type(), type);
      EXPECT_TRUE(at::equal(Device::to_host(there), host.to(type)));
      EXPECT_TRUE(at::equal(Device::cpu().bring(host, type), host.to(type)));
    }
  }
}

}  // namespace
}  // namespace spectrace
