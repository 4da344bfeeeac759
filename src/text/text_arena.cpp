#include "spectrace/text/text_arena.hpp"

#include <algorithm>

#include "spectrace/text/limits.hpp"

namespace spectrace::text {

char* TextArena::allocate(std::size_t size) {
  constexpr std::size_t block_bytes = 16 * 1024;
  if (size > max_bytes_ - used_bytes_) throw grows_too_long();
  used_bytes_ += size;
  if (size > left_in_block_) {
    left_in_block_ = std::max(size, block_bytes);
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(left_in_block_));
    next_ = blocks_.back().get();
  }
  char* const begin = next_;
  next_ += size;
  left_in_block_ -= size;
  return begin;
}

std::string_view TextArena::keep(std::string_view text) {
  char* const copy = allocate(text.size());
  std::copy(text.begin(), text.end(), copy);
  return {copy, text.size()};
}

}  // namespace spectrace::text
