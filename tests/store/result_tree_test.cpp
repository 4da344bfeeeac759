#include "spectrace/store/result_tree.hpp"

#include <gtest/gtest.h>

#include "sample_tree.hpp"

namespace spectrace {
namespace {

TEST(result_tree, finds_by_name_or_returns_null) {
  const ResultTree tree = test::sample_tree();
  ASSERT_NE(tree.find("/unembedding"), nullptr);
  EXPECT_EQ(tree.find("unembedding"), nullptr);
  const Group& weights = *tree.find("/weights");
  ASSERT_NE(weights.find("num_singular_values"), nullptr);
  EXPECT_EQ(weights.find("num_singular_values")->dims.size(), 2u);
  EXPECT_EQ(weights.find("layer"), nullptr);
  ASSERT_NE(weights.find_dimension("matrix"), nullptr);
  EXPECT_EQ(weights.find_dimension("matrix")->size(), 4u);
  EXPECT_EQ(weights.find_dimension("head"), nullptr);
  EXPECT_EQ(std::get<double>(*tree.find_attribute("rope_theta")), 10000.5);
  EXPECT_EQ(tree.find_attribute("absent"), nullptr);
}

}  // namespace
}  // namespace spectrace
