#pragma once

#include <cstddef>
#include <cstdint>

#include "spectrace/core/file.hpp"

namespace spectrace {

/// A part of a file mapped into memory, unmapped at the end of its life so that its pages do not add up. A page that
/// cannot be had when it is touched (the file was cut short meanwhile, its disk fails) would end the process by SIGBUS:
/// here the rest of the region reads as zeros then, and expect_whole() says so. Used by the thread that made it, one
/// region a thread at a time.
class MappedRegion {
 public:
  /// @throws InputError (io) if the file has become shorter, or cannot be mapped.
  MappedRegion(const FileReader& file, std::uint64_t offset, std::uint64_t size);
  ~MappedRegion();
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;

  const std::byte* data() const { return data_; }
  /// To be asked after the last byte was looked at. @throws InputError (io) if what was seen was not the file's.
  void expect_whole() const;

 private:
  const FileReader& file_;
  void* address_ = nullptr;
  std::uint64_t length_ = 0;
  const std::byte* data_ = nullptr;
};

}  // namespace spectrace
