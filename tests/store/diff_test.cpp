#include "spectrace/store/diff.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "sample_tree.hpp"

namespace spectrace {
namespace {

using Lines = std::vector<std::string>;

/// What the diff says of the sample and the sample changed.
template <typename Change>
Lines diff_of(const Change& change, const DiffTolerance& tolerance = {}) {
  ResultTree changed = test::sample_tree();
  change(changed);
  return diff_trees(test::sample_tree(), changed, tolerance);
}

std::vector<double>& spectra(ResultTree& tree) {
  return std::get<std::vector<double>>(tree.groups[0].datasets[0].values);
}

TEST(diff, equal_trees_have_no_difference) {
  EXPECT_EQ(diff_of([](ResultTree&) {}), Lines{});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.attributes.emplace_back("content_sha256", std::string("x")); }), Lines{});
}

TEST(diff, values_are_counted_and_the_worst_is_placed_by_coordinate) {
  const auto change = [](ResultTree& t) {
    spectra(t)[0] -= 0.25;                     // layer 0, W_Q, index 0
    spectra(t)[(2 * 4 + 2) * 5 + 4] -= 0.5;    // layer 2, W_V, index 4
    spectra(t)[(1 * 4 + 3) * 5 + 1] += 0.125;  // layer 1, W_O, index 1
  };
  const Lines lines = diff_of(change);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].starts_with(
      "/weights/singular_values: 3 of 60 values differ, largest |a-b| = 0.5 at layer=2, matrix=W_V, index=4: "))
      << lines[0];
}

TEST(diff, tolerances_are_absolute_plus_relative_to_b) {
  const auto change = [](ResultTree& t) { spectra(t)[0] = 100.5; };  // from 100
  EXPECT_EQ(diff_of(change, {.rtol = 0, .atol = 0.5}), Lines{});
  EXPECT_EQ(diff_of(change, {.rtol = 0, .atol = 0.499}).size(), 1u);
  EXPECT_EQ(diff_of(change, {.rtol = 0.5 / 100.25, .atol = 0}), Lines{});
  EXPECT_EQ(diff_of(change, {.rtol = 0.5 / 100.75, .atol = 0}).size(), 1u);
}

TEST(diff, nan_equals_nan_only_and_no_tolerance_passes_infinity) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const DiffTolerance wide{.rtol = 1, .atol = 1e300};
  EXPECT_EQ(diff_of([](ResultTree& t) { spectra(t)[3] = 0; }, wide).size(), 1u);  // was NaN
  EXPECT_EQ(diff_of([](ResultTree& t) { spectra(t)[0] = std::numeric_limits<double>::quiet_NaN(); }, wide).size(), 1u);
  EXPECT_EQ(diff_of([](ResultTree& t) { spectra(t)[0] = inf; }, wide).size(), 1u);
  ResultTree a = test::sample_tree(), b = test::sample_tree();
  spectra(a)[0] = spectra(b)[0] = inf;
  EXPECT_EQ(diff_trees(a, b, {}), Lines{});
  spectra(b)[0] = -inf;
  EXPECT_EQ(diff_trees(a, b, wide).size(), 1u);
}

TEST(diff, integers_are_compared_exactly) {
  ResultTree a = test::sample_tree(), b = test::sample_tree();
  auto& in_a = std::get<std::vector<std::int64_t>>(a.groups[0].datasets[1].values);
  auto& in_b = std::get<std::vector<std::int64_t>>(b.groups[0].datasets[1].values);
  in_a[11] = (std::int64_t{1} << 60) + 1;  // as doubles these two are one
  in_b[11] = std::int64_t{1} << 60;
  EXPECT_EQ(diff_trees(a, b, {}),
            Lines{"/weights/num_singular_values: 1 of 12 values differ, largest |a-b| = 1 at layer=2, matrix=W_O: "
                  "1152921504606846977 and 1152921504606846976"});
  EXPECT_EQ(diff_trees(a, b, {.rtol = 0, .atol = 1}), Lines{});
  in_a[11] = std::numeric_limits<std::int64_t>::max();
  in_b[11] = std::numeric_limits<std::int64_t>::min();
  EXPECT_EQ(diff_trees(a, b, {}).size(), 1u);  // no overflow: the sanitizer would say
}

TEST(diff, texts_and_scalars) {
  const Lines text =
      diff_of([](ResultTree& t) { std::get<std::vector<std::string>>(t.groups[3].datasets[0].values)[1] = "new"; });
  EXPECT_EQ(text, Lines{"/prompts/Sätze/prompt_id: 1 of 2 values differ, the first at prompt=1: '' and 'new'"});
  const Lines scalar = diff_of([](ResultTree& t) { t.groups[2].datasets[1].values = std::vector<double>{12.75}; });
  EXPECT_EQ(scalar, Lines{"/unembedding/spectral_norm: 1 of 1 values differ, largest |a-b| = 0.25: 12.5 and 12.75"});
}

TEST(diff, one_sided_things_are_named) {
  EXPECT_EQ(diff_of([](ResultTree& t) { t.groups.erase(t.groups.begin()); }), Lines{"/weights: only in A"});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.groups[0].datasets.pop_back(); }),
            Lines{"/weights/num_singular_values: only in A"});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.attributes.emplace_back("new", 1.0); }), Lines{"/@new: only in B"});
  EXPECT_EQ(diff_of([](ResultTree& t) {
              t.groups[0].dimensions.push_back({"head", std::vector<std::int64_t>{0}, "1", "Head"});
            }),
            Lines{"/weights/head: only in B"});
}

TEST(diff, shapes_types_and_descriptions) {
  EXPECT_EQ(diff_of([](ResultTree& t) {
              auto& dataset = t.groups[0].datasets[1];
              dataset.dims = {"layer"};
              dataset.values = std::vector<std::int64_t>{1, 2, 3};
            }),
            Lines{"/weights/num_singular_values: shape (layer=3, matrix=4) and (layer=3)"});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.groups[2].datasets[1].values = std::vector<std::int64_t>{12}; }),
            Lines{"/unembedding/spectral_norm: texts, integers or numbers: not the same"});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.groups[2].datasets[1].units = "m"; }),
            Lines{"/unembedding/spectral_norm@units: '1' and 'm'"});
}

TEST(diff, coordinates_are_compared_too) {
  EXPECT_EQ(diff_of([](ResultTree& t) { std::get<std::vector<double>>(t.groups[3].dimensions[1].values)[2] = 1001; }),
            Lines{"/prompts/Sätze/beta: 1 of 3 values differ, largest |a-b| = 1 at beta[2]: 1000 and 1001"});
}

TEST(diff, attributes_show_where_long_texts_part) {
  EXPECT_EQ(diff_of([](ResultTree& t) { std::get<double>(t.attributes[3].second) = 2; }),
            Lines{"/@rope_theta: 10000.5 and 2"});
  EXPECT_EQ(diff_of([](ResultTree& t) { t.attributes[3].second = std::string("2"); }),
            Lines{"/@rope_theta: text, integer or number: not the same"});
  ResultTree a = test::sample_tree(), b = test::sample_tree();
  std::get<std::string>(a.attributes[1].second) = std::string(1000, 'x') + "from here on";
  std::get<std::string>(b.attributes[1].second) = std::string(1000, 'x') + "and there";
  EXPECT_EQ(diff_trees(a, b, {}), (Lines{"/@job: from byte 1000 on, '" + std::string(20, 'x') + "from here on' and '" +
                                         std::string(20, 'x') + "and there'"}));
}

}  // namespace
}  // namespace spectrace
