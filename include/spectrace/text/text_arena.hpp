#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// Text that lives until the end of one encode call, for the pieces that view it.
class TextArena {
 public:
  /// Room for `size` bytes.
  char* allocate(std::size_t size);
  std::string_view keep(std::string_view text);

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t left_in_block_ = 0;
  char* next_ = nullptr;
};

}  // namespace spectrace::text
