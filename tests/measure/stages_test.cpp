#include "spectrace/measure/stages.hpp"

#include <gtest/gtest.h>

#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

// Ranks add their times up by number: it must not depend on which analysis a rank comes to first, here the last one.
TEST(Stages, an_analysis_has_its_place_in_the_catalogue) {
  const auto& all = catalogue();
  for (std::size_t place = all.size(); place-- > 0;) {
    const auto expected = static_cast<std::size_t>(Stage::first_analysis) + place;
    EXPECT_EQ(static_cast<std::size_t>(stage_of(*all[place])), expected) << all[place]->name();
    EXPECT_EQ(name(static_cast<Stage>(expected)), all[place]->name());
  }
}

TEST(Stages, names) {
  EXPECT_EQ(name(Stage::opening), "opening");
  EXPECT_EQ(name(Stage::value_spectra), "value spectra");
  EXPECT_EQ(name(Stage::exchange), "exchange");
  const auto num_stages = static_cast<std::size_t>(Stage::first_analysis) + catalogue().size();
  EXPECT_LE(num_stages, kNumStages);
  EXPECT_EQ(name(static_cast<Stage>(num_stages)), "");
}

}  // namespace
}  // namespace spectrace
