#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace spectrace::text {

/// Text that lives until the end of one encode call, for the pieces that view it.
class TextArena {
 public:
  /// `max_bytes`: of all that is put into it.
  explicit TextArena(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Room for `size` bytes. @throws InputError (prompt) if that is more than it has.
  char* allocate(std::size_t size);
  std::string_view keep(std::string_view text);

 private:
  std::size_t max_bytes_, used_bytes_ = 0;
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t left_in_block_ = 0;
  char* next_ = nullptr;
};

}  // namespace spectrace::text
