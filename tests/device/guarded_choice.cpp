// In place of src/sweep/device_choice.cpp: where a job asks for GPUs, every rank has a guarded device. Another program
// of all else that the program is made of.
#include "guarded_device.hpp"
#include "spectrace/sweep/device_choice.hpp"

namespace spectrace {

ChosenDevice choose_device(DeviceChoice choice, Communicator&) {
  if (choice != DeviceChoice::cuda) return {};
  constexpr std::int64_t kBytes = std::int64_t{1} << 30;  // layers of the tests' models stay
  return {testing::guarded_device(), kBytes};
}

void expect_device(DeviceChoice) {}

}  // namespace spectrace
