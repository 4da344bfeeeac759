#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace spectrace::fuzz {

/// Takes choices from the bytes of a fuzz input; 0 for ever once they are used up.
class Script {
 public:
  explicit Script(std::string_view bytes) : bytes_(bytes) {}

  bool at_end() const { return at_ >= bytes_.size(); }
  std::uint8_t byte() { return at_end() ? 0 : static_cast<std::uint8_t>(bytes_[at_++]); }
  std::size_t below(std::size_t bound) {
    const std::size_t high = byte();
    return bound == 0 ? 0 : (high << 8 | byte()) % bound;
  }
  /// All up to the next line end or the input's.
  std::string_view line() {
    const std::string_view rest = bytes_.substr(at_ < bytes_.size() ? at_ : bytes_.size());
    const std::string_view found = rest.substr(0, rest.find('\n'));
    at_ += found.size() + 1;
    return found;
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace spectrace::fuzz
