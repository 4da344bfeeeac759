#include "spectrace/measure/stored_matrix.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

const TensorChoice kAll{{"*"}, {}, {"*conv*"}, 0};

TensorInfo tensor(std::string name, std::vector<std::int64_t> shape, StorageType type = StorageType::float32) {
  TensorInfo info;
  info.name = std::move(name);
  info.type = type;
  info.strides = row_major_strides(shape);
  info.shape = std::move(shape);
  return info;
}

std::vector<std::string> names_of(const StoredMatrices& found) {
  std::vector<std::string> names;
  for (const StoredMatrix& matrix : found.matrices) names.push_back(matrix.name);
  return names;
}

std::vector<std::string> reasons_of(const StoredMatrices& found) {
  std::vector<std::string> reasons;
  for (const LeftOutTensor& left : found.left_out) reasons.push_back(left.name + ": " + left.why);
  return reasons;
}

TEST(StoredMatrices, are_in_the_order_of_numbers_in_names) {
  const auto found =
      stored_matrices({tensor("h.10.w", {2, 3}), tensor("h.2.w", {3, 2}), tensor("h.2.b", {2, 2})}, kAll);
  EXPECT_EQ(names_of(found), (std::vector<std::string>{"h.2.b", "h.2.w", "h.10.w"}));
  EXPECT_EQ(found.matrices[1].rows, 3);
  EXPECT_EQ(found.matrices[1].columns, 2);
  EXPECT_FALSE(found.matrices[1].slice);
}

TEST(StoredMatrices, three_dimensions_are_a_stack_along_the_first) {
  const auto found = stored_matrices({tensor("experts", {11, 4, 6})}, kAll);
  ASSERT_EQ(found.matrices.size(), 11u);
  for (std::int64_t e = 0; e < 11; ++e) {
    const StoredMatrix& matrix = found.matrices[static_cast<std::size_t>(e)];
    EXPECT_EQ(matrix.name, "experts[" + std::to_string(e) + "]");
    EXPECT_EQ(matrix.tensor, "experts");
    EXPECT_EQ(matrix.slice, e);
    EXPECT_EQ(matrix.rows, 4);
    EXPECT_EQ(matrix.columns, 6);
  }
}

TEST(StoredMatrices, convolutions_are_outputs_by_inputs_and_kernel) {
  const auto found = stored_matrices({tensor("conv1.weight", {8, 3, 5}), tensor("patch.weight", {7, 3, 4, 2}),
                                      tensor("video.weight", {6, 3, 2, 4, 5})},
                                     kAll);
  EXPECT_EQ(names_of(found), (std::vector<std::string>{"conv1.weight", "patch.weight", "video.weight"}));
  EXPECT_EQ(found.matrices[0].columns, 15);
  EXPECT_EQ(found.matrices[1].columns, 24);
  EXPECT_EQ(found.matrices[2].rows, 6);
  EXPECT_EQ(found.matrices[2].columns, 120);
}

TEST(StoredMatrices, every_tensor_is_a_matrix_or_left_out_with_the_reason) {
  const TensorChoice choice{{"*.w", "*.m*"}, {"x.*"}, {}, 10};
  const auto found =
      stored_matrices({tensor("a.w", {2, 3}), tensor("b.w", {3}), tensor("c.w", {}), tensor("d.w", {2, 0}),
                       tensor("e.w", {2, 2}, StorageType::int64), tensor("f.w", {2, 2}, StorageType::uint8),
                       tensor("g.v", {2, 2}), tensor("h.w", {2, 6}), tensor("i.m", {4, 2, 5}), tensor("j.m", {2, 3, 5}),
                       tensor("k.attn.bias", {1, 1, 4, 4}), tensor("x.w", {2, 2})},
                      choice);
  EXPECT_EQ(names_of(found), (std::vector<std::string>{"a.w", "i.m[0]", "i.m[1]", "i.m[2]", "i.m[3]"}));
  EXPECT_EQ(
      reasons_of(found),
      (std::vector<std::string>{"b.w: 1 dimension: no matrix", "c.w: 0 dimensions: no matrix", "d.w: no elements",
                                "e.w: type int64, which holds no floating numbers",
                                "f.w: type uint8, which holds no floating numbers", "g.v: fits no pattern of 'include'",
                                "h.w: 12 elements, more than max_elements", "j.m: 15 elements, more than max_elements",
                                "k.attn.bias: a mask or a table that no model learns", "x.w: excluded by 'x.*'"}));
}

TEST(StoredMatrices, more_than_any_model_has_are_refused_before_they_are_listed) {
  const std::vector<TensorInfo> tensors = {tensor("a", {std::int64_t{1} << 40, 1, 1}), tensor("b", {2, 2})};
  EXPECT_THROW(stored_matrices(tensors, kAll), InputError);
  EXPECT_EQ(stored_matrices(tensors, {{"*"}, {}, {"a"}, 0}).matrices.front().rows, std::int64_t{1} << 40);
}

TEST(StoredMatrices, two_of_one_name_are_refused) {
  const std::vector<TensorInfo> tensors = {tensor("a", {2, 3, 4}), tensor("a[1]", {3, 4})};
  EXPECT_THROW(stored_matrices(tensors, kAll), InputError);
  EXPECT_EQ(stored_matrices(tensors, {{"*"}, {"a"}, {}, 0}).matrices.size(), 1u);
}

}  // namespace
}  // namespace spectrace
