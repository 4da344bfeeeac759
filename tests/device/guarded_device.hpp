#pragma once

#include <cstdint>

#include "spectrace/numerics/device.hpp"

namespace spectrace::testing {

/// A device for tests (libtorch's PrivateUse1) that finds what only a GPU would: its memory is mapped twice, and the
/// mapping that tensors point to is closed to the host. A host read or write there is a SIGSEGV that names the
/// allocation. Operations are the CPU's own kernels on the other mapping, so bits are the CPU's. A tensor of the host
/// among an operation's is an exception, as on a GPU. Memory that was never written is NaN. What is copied without
/// blocking is NaN until its stream is waited for (to the host) or the stream's next operation runs (to the device). Of
/// two streams, neither may use what the other has used, nor the memory of what that has freed, before the host has
/// waited for that one: an exception, or the end of the process, whatever the threads' real order was.
Device guarded_device();

/// Bytes of all tensors that live on it now.
std::int64_t guarded_bytes();
/// Bytes copied from the host to the device since the program began.
std::int64_t guarded_bytes_brought();

}  // namespace spectrace::testing
