#include "memory_file.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>

namespace spectrace::h5 {
namespace {

/// HDF5 asks for memory here. No exception may pass through it: null says that there is none.
void* resize(void*, std::size_t size, H5FD_file_image_op_t, void* image) {
  auto& bytes = *static_cast<std::vector<char>*>(image);
  try {
    bytes.resize(size);
  } catch (const std::exception&) {
    return nullptr;
  }
  return bytes.data();
}
void* allocate(std::size_t size, H5FD_file_image_op_t operation, void* image) {
  return resize(nullptr, size, operation, image);
}
void* copy(void* to, const void* from, std::size_t size, H5FD_file_image_op_t, void*) {
  return std::memcpy(to, from, size);
}
/// The file is closed: its bytes are what we came for.
herr_t keep(void*, H5FD_file_image_op_t, void*) { return 0; }
/// HDF5 copies property lists at will; all copies mean the one image.
void* share(void* image) { return image; }
herr_t unshare(void*) { return 0; }

}  // namespace

MemoryFile::MemoryFile() {
  const Handle access = property_list(H5P_FILE_ACCESS);
  // Grows to the byte: the vector does its own rounding up.
  SPECTRACE_H5(H5Pset_fapl_core, access.get(), 1, false);
  SPECTRACE_H5(H5Pset_libver_bounds, access.get(), H5F_LIBVER_V18, H5F_LIBVER_V110);
  H5FD_file_image_callbacks_t callbacks = {allocate, copy, resize, keep, share, unshare, &image_};
  SPECTRACE_H5(H5Pset_file_image_callbacks, access.get(), &callbacks);
  const Handle creation = property_list(H5P_FILE_CREATE);
  set_reproducible(creation.get());
  file_ = Handle(SPECTRACE_H5(H5Fcreate, "spectrace-results-in-memory", H5F_ACC_TRUNC, creation.get(), access.get()),
                 H5Fclose);
}

std::string_view MemoryFile::close() {
  file_.close_checked();
  // HDF5 may have used more memory for a while than the file has in the end. Its size stands in the superblock: version
  // 2, which libver V18 asks for, has it at byte 28 (HDF5 File Format Specification, "Disk Format: Level 0A").
  constexpr std::size_t version_at = 8, offset_size_at = 9, size_at = 28;
  std::uint64_t size_bytes = 0;
  if (image_.size() < size_at + sizeof size_bytes || image_[version_at] != 2 || image_[offset_size_at] != 8)
    throw Error("HDF5 made a file of another format than was asked for");
  std::memcpy(&size_bytes, image_.data() + size_at, sizeof size_bytes);
  image_.resize(size_bytes);
  return {image_.data(), image_.size()};
}

}  // namespace spectrace::h5
