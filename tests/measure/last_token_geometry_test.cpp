#include <gtest/gtest.h>

#include <cmath>

#include "model/checkpoint_case.hpp"
#include "numerics/gaussian.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/choice.hpp"

namespace spectrace {
namespace {

constexpr std::int64_t kPrompts = 11;

class LastTokenGeometry : public ::testing::Test {
 protected:
  LastTokenGeometry() {
    chosen_.settings = {{"boundaries", {0, 1, -1}}};
    const std::int64_t boundaries = chosen_.extents(model_.description, Slicing::correct).at("boundary");
    const std::int64_t width = model_.description.hidden_size;
    const Tensor all = gaussian(kPrompts, boundaries * width, 3).reshape({kPrompts, boundaries, width});
    all.select(0, 4).fill_(kNaN);  // a prompt that failed
    vectors_ = all;
  }

  /// Prompts [first, last) as a batch's record.
  Record batch(std::int64_t first, std::int64_t last) const {
    Record record;
    record.arrays["last_token_vectors"] = as_array(vectors_.narrow(0, first, last - first).contiguous());
    return record;
  }

  /// Of batches that end before these prompts; also how often they had to come.
  std::pair<Record, int> numbers(std::int64_t limit_bytes, const std::vector<std::int64_t>& ends) const {
    const Circumstances of{model_.description, Slicing::correct, chosen_.settings, 0, kPrompts};
    const auto join = chosen_.of_prompts()->join(of, limit_bytes);
    int passes = 0;
    do {
      ++passes;
      std::int64_t first = 0;
      for (const std::int64_t end : ends) {
        join->add(batch(first, end));
        first = end;
      }
    } while (join->needs_another_pass());
    return {join->finish(), passes};
  }

  const testing::Model model_{testing::case_folder("llama")};
  Chosen chosen_ = *AnalysisChoice::of({"last_token_geometry"}).begin();
  Tensor vectors_;
};

void expect_same(const Record& a, const Record& b) {
  ASSERT_EQ(a.arrays.size(), b.arrays.size());
  EXPECT_EQ(encode_record(a), encode_record(b));
}

TEST_F(LastTokenGeometry, has_the_same_bits_in_any_number_of_passes_and_batches) {
  const auto [at_once, one] = numbers(std::int64_t{1} << 30, {kPrompts});
  const auto [one_by_one, three] = numbers(0, {kPrompts});
  EXPECT_EQ(one, 1);
  EXPECT_EQ(three, 3);
  expect_same(at_once, one_by_one);
  expect_same(at_once, numbers(0, {2, 4, 5, 9, kPrompts}).first);
}

TEST_F(LastTokenGeometry, leaves_out_what_failed) {
  const Record found = numbers(0, {kPrompts}).first;
  EXPECT_EQ(found.arrays.at("num_vectors").values, std::vector<double>{kPrompts - 1});
  const Tensor ran = at::cat({vectors_.narrow(0, 0, 4), vectors_.narrow(0, 5, kPrompts - 5)});
  const Array& values = found.arrays.at("singular_values");
  const std::int64_t width = values.shape[1];
  for (std::int64_t b = 0; b < values.shape[0]; ++b) {
    const Tensor expected = at::linalg_svdvals(ran.select(1, b));
    for (std::int64_t i = 0; i < expected.numel(); ++i)
      EXPECT_NEAR(values.values[static_cast<std::size_t>(b * width + i)], expected[i].item<double>(), 1e-13 * 20);
  }
}

TEST_F(LastTokenGeometry, of_prompts_that_all_failed_is_no_number) {
  vectors_.fill_(kNaN);
  const Record found = numbers(0, {kPrompts}).first;
  EXPECT_EQ(found.arrays.at("num_vectors").values, std::vector<double>{0});
  for (const auto& [name, array] : found.arrays) {
    if (name == "num_vectors") continue;
    for (const double value : array.values) EXPECT_TRUE(std::isnan(value)) << name;
  }
}

}  // namespace
}  // namespace spectrace
