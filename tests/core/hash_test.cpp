#include "spectrace/core/hash.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace spectrace {
namespace {

TEST(Xxh3, known_values) {
  // xxhash's own: XXH3_64bits of the empty text, and of "abc" (xxhsum -H3).
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2u);
  EXPECT_EQ(xxh3_64(std::as_bytes(std::span("abc", 3))), 0x78af5f94892f3950u);
}

TEST(Xxh3, parts_make_no_difference) {
  // Lengths around those at which XXH3 changes its way: 16, 128, 240 bytes and blocks of 1024.
  for (const std::size_t size : {0, 1, 16, 17, 129, 240, 241, 1024, 1025, 5000}) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 167 + (i >> 8));
    for (const std::size_t part : {1, 7, 256, 4096}) {
      Xxh3 hash;
      for (std::size_t i = 0; i < size; i += part) hash.update(std::span(bytes).subspan(i, std::min(part, size - i)));
      EXPECT_EQ(hash.value(), xxh3_64(bytes)) << size << " in parts of " << part;
    }
  }
}

}  // namespace
}  // namespace spectrace
