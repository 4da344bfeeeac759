#include "spectrace/results/contents.hpp"

#include <gtest/gtest.h>

#include <set>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {
namespace {

using Place = std::pair<std::string, std::string>;  // group, name

std::set<Place> all_places() {
  std::set<Place> places;
  for (const KnownDataset& dataset : known_datasets())
    EXPECT_TRUE(places.emplace(dataset.group, dataset.quantity.name).second)
        << dataset.group << "/" << dataset.quantity.name << " is there twice";
  return places;
}

TEST(Contents, everything_that_is_written_is_known_once) {
  const auto places = all_places();
  const std::string set = group_of_set("<set>"), statistics = group_of_statistics("<set>");
  for (const Quantity& fact : prompt_facts()) EXPECT_TRUE(places.contains({set, fact.name})) << fact.name;
  for (const Quantity* quantity : prompt_quantities()) {
    const bool is_in_rows = places.contains({set, quantity->name}),
               is_in_statistics = places.contains({statistics, quantity->name});
    EXPECT_EQ(is_in_rows, can_be_kept(*quantity)) << quantity->name;
    EXPECT_EQ(is_in_statistics, quantity->keep == Keep::never_rows) << quantity->name;
  }
  for (const Analysis* analysis : catalogue())
    for (const Quantity& quantity : analysis->info().set_quantities)
      EXPECT_TRUE(places.contains({group_of_set_numbers("<set>", analysis->name()), quantity.name})) << quantity.name;
  for (const SetScalar* scalar : set_scalars())
    EXPECT_TRUE(places.contains({statistics, scalar->quantity.name})) << scalar->quantity.name;
  EXPECT_TRUE(places.contains({kCheckpointGroup, kDigest}));
  for (const Quantity& column : common_summary_columns()) EXPECT_TRUE(places.contains({kSummaryGroup, column.name}));
  for (const SummaryColumn* column : summary_columns()) EXPECT_TRUE(places.contains({kSummaryGroup, column->name}));
}

TEST(Contents, all_say_what_they_are_and_their_dimensions_are_known) {
  const auto places = all_places();
  const std::string set = group_of_set("<set>");
  for (const KnownDataset& dataset : known_datasets()) {
    const Quantity& quantity = dataset.quantity;
    EXPECT_NE(quantity.meaning, "") << dataset.group << "/" << quantity.name;
    for (const auto& dim : quantity.dims)
      EXPECT_TRUE(places.contains({"", dim}) || places.contains({dataset.group, dim}) ||
                  (dataset.group.starts_with(set) && places.contains({set, dim})))
          << dataset.group << "/" << quantity.name << ": " << dim;
  }
}

}  // namespace
}  // namespace spectrace
