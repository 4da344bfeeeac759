#include "image_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace::h5 {
namespace {

constexpr std::size_t kLeastGrowth = 64 << 10;

void* copy(void* to, const void* from, std::size_t size, H5FD_file_image_op_t, void*) {
  return std::memcpy(to, from, size);
}
/// The file is closed: its bytes are what we came for.
herr_t keep(void*, H5FD_file_image_op_t, void*) { return 0; }
/// HDF5 copies property lists at will; all copies mean the one image.
void* share(void* image) { return image; }
herr_t unshare(void*) { return 0; }

}  // namespace

struct ImageFile::Image {
  int descriptor = -1;
  int error = 0;  // of the system, where room could not be reserved
  char* bytes = nullptr;
  std::size_t capacity = 0;

  ~Image() {
    if (bytes != nullptr) ::munmap(bytes, capacity);
    if (descriptor >= 0) ::close(descriptor);
  }

  /// HDF5 asks for memory here. No exception may pass through it: null says that there is none.
  static void* resize(void*, std::size_t size, H5FD_file_image_op_t, void* image) {
    return static_cast<Image*>(image)->grow(size);
  }
  static void* allocate(std::size_t size, H5FD_file_image_op_t, void* image) {
    return static_cast<Image*>(image)->grow(size);
  }

  void* grow(std::size_t size) {
    if (size <= capacity) return bytes;
    const std::size_t wanted = std::max(size, capacity + std::max(kLeastGrowth, capacity / 4));
    // Reserved, not only promised: a page of a mapping that the disk has no room for would kill the process.
    if (error == 0) {
      do {
        error = ::posix_fallocate(descriptor, 0, static_cast<off_t>(wanted));
      } while (error == EINTR);
      if (error != 0) leave_the_disk();
    }
    const int kind = error == 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* const place = bytes == nullptr
                            ? ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, kind, error == 0 ? descriptor : -1, 0)
                            : ::mremap(bytes, capacity, wanted, MREMAP_MAYMOVE);
    if (place == MAP_FAILED) return nullptr;
    bytes = static_cast<char*>(place);
    capacity = wanted;
    return bytes;
  }

  /// HDF5 goes on in ordinary memory, so that it can close its file: it does not get over a failure there.
  void leave_the_disk() {
    if (bytes == nullptr) return;
    void* const place = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return;
    std::memcpy(place, bytes, capacity);
    ::munmap(bytes, capacity);
    bytes = static_cast<char*>(place);
  }
};

ImageFile::ImageFile(std::filesystem::path path) : path_(std::move(path)), image_(std::make_unique<Image>()) {
  image_->descriptor = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (image_->descriptor < 0)
    throw InputError(ErrorKind::io, "cannot create '" + path_.string() + "'", std::strerror(errno),
                     "Does the folder exist, and may you write to it?");
  const Handle access = property_list(H5P_FILE_ACCESS);
  SPECTRACE_H5(H5Pset_fapl_core, access.get(), kLeastGrowth, false);
  SPECTRACE_H5(H5Pset_libver_bounds, access.get(), H5F_LIBVER_V18, H5F_LIBVER_V110);
  H5FD_file_image_callbacks_t callbacks = {Image::allocate, copy, Image::resize, keep, share, unshare, image_.get()};
  SPECTRACE_H5(H5Pset_file_image_callbacks, access.get(), &callbacks);
  const Handle creation = property_list(H5P_FILE_CREATE);
  set_reproducible(creation.get());
  file_ = Handle(SPECTRACE_H5(H5Fcreate, "spectrace-results-in-memory", H5F_ACC_TRUNC, creation.get(), access.get()),
                 H5Fclose);
}

std::string ImageFile::system_error() const { return image_->error == 0 ? "" : std::strerror(image_->error); }

ImageFile::~ImageFile() {
  if (file_.get() < 0) return;
  try {
    file_.close_checked();
  } catch (const Error&) {
    static_cast<void>(image_.release());  // out of memory, too: HDF5 goes on believing in it
  }
}

void ImageFile::release_memory() {
  // Of a file: its pages stay, in the system's cache.
  if (image_->bytes != nullptr && image_->error == 0) ::madvise(image_->bytes, image_->capacity, MADV_DONTNEED);
}

void ImageFile::close() {
  file_.close_checked();
  if (image_->error != 0) throw Error(system_error());
  // HDF5 may have used more memory for a while than the file has in the end. Its size stands in the superblock: version
  // 2, which libver V18 asks for, has it at byte 28 (HDF5 File Format Specification, "Disk Format: Level 0A").
  constexpr std::size_t version_at = 8, offset_size_at = 9, size_at = 28;
  std::uint64_t size_bytes = 0;
  Image& image = *image_;
  if (image.capacity < size_at + sizeof size_bytes || image.bytes[version_at] != 2 || image.bytes[offset_size_at] != 8)
    throw Error("HDF5 made a file of another format than was asked for");
  std::memcpy(&size_bytes, image.bytes + size_at, sizeof size_bytes);
  ::munmap(std::exchange(image.bytes, nullptr), image.capacity);
  while (::ftruncate(image.descriptor, static_cast<off_t>(size_bytes)) != 0)
    if (errno != EINTR) throw Error(std::strerror(errno));
}

}  // namespace spectrace::h5
