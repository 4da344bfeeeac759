#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace spectrace {

/// Changes bytes the same way in every run: what fails once fails again.
class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string mutate(std::string bytes) {
    for (std::uint64_t changes = 1 + below(4); changes > 0 && !bytes.empty(); --changes) change(bytes);
    return bytes;
  }

 private:
  // Not std::uniform_int_distribution: its values differ between standard libraries.
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  void change(std::string& bytes) {
    const std::size_t at = below(bytes.size());
    switch (below(8)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
      case 1: bytes[at] = static_cast<char>(random_()); break;
      case 2: bytes.resize(at); break;
      case 3: bytes.erase(at, 1 + below(16)); break;
      case 4: bytes.insert(at, 1 + below(16), static_cast<char>(random_())); break;
      case 5: bytes.insert(at, bytes.substr(below(bytes.size()), below(64))); break;
      case 6:  // extreme numbers
        for (std::size_t i = at; i < at + 8 && i < bytes.size(); ++i) bytes[i] = below(2) ? '\xff' : '\0';
        break;
      default:  // digits of a JSON number
        for (std::size_t i = at; i < bytes.size(); ++i)
          if (bytes[i] >= '0' && bytes[i] <= '9') {
            bytes[i] = static_cast<char>('0' + below(10));
            break;
          }
    }
  }

  std::mt19937_64 random_;
};

}  // namespace spectrace
