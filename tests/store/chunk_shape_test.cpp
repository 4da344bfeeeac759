#include "../../src/store/chunk_shape.hpp"

#include <gtest/gtest.h>

namespace spectrace::h5 {
namespace {

using Shape = std::vector<hsize_t>;

TEST(chunk_shape, small_and_empty_data_have_none) {
  EXPECT_EQ(chunk_shape({}), Shape{});
  EXPECT_EQ(chunk_shape({512}), Shape{});
  EXPECT_EQ(chunk_shape({0, 1'000'000}), Shape{});
  EXPECT_EQ(chunk_shape({513}), (Shape{513}));
}

TEST(chunk_shape, whole_trailing_dimensions) {
  EXPECT_EQ(chunk_shape({80, 4, 8192}), (Shape{2, 4, 8192}));      // two layers of 256 KiB
  EXPECT_EQ(chunk_shape({1000, 32, 32}), (Shape{63, 32, 32}));     // 16 blocks of prompts
  EXPECT_EQ(chunk_shape({65536}), (Shape{65536}));                 // 512 KiB sharp
  EXPECT_EQ(chunk_shape({65537}), (Shape{32769}));                 // halves, not all and one
  EXPECT_EQ(chunk_shape({3, 5, 200'000}), (Shape{1, 1, 50'000}));  // one row is four chunks
}

TEST(chunk_shape, chunks_fit_the_data_and_the_limit) {
  for (hsize_t a : {1, 7, 100}) {
    for (hsize_t b : {1, 33, 5000}) {
      for (hsize_t c : {1, 64, 70'001}) {
        const Shape shape = {a, b, c};
        const Shape chunk = chunk_shape(shape);
        if (chunk.empty()) {
          EXPECT_LE(a * b * c, 512u);
          continue;
        }
        EXPECT_LE(chunk[0] * chunk[1] * chunk[2] * 8, hsize_t{512} << 10);
        for (std::size_t i = 0; i < 3; ++i) {
          EXPECT_GE(chunk[i], 1u);
          EXPECT_LE(chunk[i], shape[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace spectrace::h5
