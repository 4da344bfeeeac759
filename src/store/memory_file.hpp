#pragma once

#include <string_view>
#include <vector>

#include "h5.hpp"

namespace spectrace::h5 {

/// An HDF5 file that is made in memory: its bytes are those that HDF5 would have left on disk.
///
/// HDF5 writing to disk itself lost: after a write has failed (a full disk) it tries again whenever something closes,
/// up to the end of the process. H5Fget_file_image lost too: the file is still open when it is called, and in 1.10 it
/// clears the mark for that from the superblock without renewing the checksum, so nothing can open the image.
class MemoryFile {
 public:
  MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  hid_t get() const { return file_.get(); }
  /// Closes the file. @return its bytes, which live as long as this object. @pre all that was opened in it is closed.
  std::string_view close();

 private:
  std::vector<char> image_;  // grows by HDF5's callbacks; before file_, which uses it up to its end
  Handle file_;
};

}  // namespace spectrace::h5
