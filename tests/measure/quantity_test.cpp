#include "spectrace/measure/quantity.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace spectrace {
namespace {

using Names = std::vector<std::string>;
using Shape = std::vector<std::int64_t>;

Quantity of_experts() {
  Quantity quantity{.name = "norm", .dims = {"layer", "expert", "matrix"}};
  quantity.optional_dim = "expert";
  return quantity;
}

TEST(Quantity, has_its_optional_dimension_where_that_is_there) {
  const Extents with = {{"layer", 2}, {"expert", 5}, {"matrix", 3}}, without = {{"layer", 2}, {"matrix", 3}};
  EXPECT_EQ(dims_of(of_experts(), with), (Names{"layer", "expert", "matrix"}));
  EXPECT_EQ(shape_of(of_experts(), with), (Shape{2, 5, 3}));
  EXPECT_EQ(dims_of(of_experts(), without), (Names{"layer", "matrix"}));
  EXPECT_EQ(shape_of(of_experts(), without), (Shape{2, 3}));
  EXPECT_EQ(num_values(of_experts(), without, "layer"), 3);
}

TEST(Quantity, any_other_dimension_has_to_be_there) {
  EXPECT_THROW(shape_of(of_experts(), {{"layer", 2}, {"expert", 5}}), std::out_of_range);
}

}  // namespace
}  // namespace spectrace
