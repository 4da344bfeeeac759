#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "h5.hpp"

namespace spectrace::h5 {

/// An HDF5 file in the making: HDF5 believes to make it in memory (its core driver), and the memory is a file, mapped.
/// So HDF5 itself never does a call on the disk that could fail: a full disk is found when room is reserved; HDF5 then
/// ends its work in ordinary memory, and the error is ours to tell. HDF5's own driver lost for that: a write that fails
/// while a file is being closed leaves it open up to the end of the process, which may then crash. What is written need
/// not stay resident.
class ImageFile {
 public:
  /// Creates the file. @throws InputError (io).
  explicit ImageFile(std::filesystem::path path);
  ~ImageFile();
  ImageFile(const ImageFile&) = delete;
  ImageFile& operator=(const ImageFile&) = delete;

  hid_t get() const { return file_.get(); }
  /// Lets the system take back the memory of what is written.
  void release_memory();
  /// Why room could not be reserved ("No space left on device"): nothing will come of this file. Empty if it could.
  std::string system_error() const;
  /// Closes it and cuts the file to its size. @pre all that was opened in it is closed. @throws Error.
  void close();

 private:
  struct Image;
  std::filesystem::path path_;
  std::unique_ptr<Image> image_;
  Handle file_;
};

}  // namespace spectrace::h5
