

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "spectrace/core/file.hpp"

namespace spectrace {
namespace {

/// docs/file-format.md is made from the schema. After a change: SPECTRACE_WRITE_DOCS=1 store_tests
TEST(Schema, file_format_page_is_up_to_date) {
  const auto path = std::filesystem::path(SPECTRACE_SOURCE_DIR) / "docs" / "file-format.md";
  const std::string marker = "<!-- from here on made from src/store/schema.cpp -->\n";
  const std::string page = read_text_file(path);
  const auto at = page.find(marker);
  ASSERT_NE(at, std::string::npos);
  const std::string expected = page.substr(0, at + marker.size()) + schema_as_markdown();
  if (std::getenv("SPECTRACE_WRITE_DOCS") != nullptr) write_file_atomically(path, expected);
  EXPECT_EQ(read_text_file(path), expected);
}

TEST(Schema, names_are_unique_and_every_dimension_is_described) {
  const auto check = [](const std::vector<DatasetSpec>& schema) {
    std::set<std::string> names;
    for (const auto& spec : schema) {
      EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
      EXPECT_FALSE(spec.units.empty()) << spec.name;
      EXPECT_FALSE(spec.long_name.empty()) << spec.name;
      for (const auto& dim : spec.dims) EXPECT_EQ(dimension_spec(dim).name, dim);
    }
  };
  check(weights_schema());
  check(heads_schema());
  check(unembedding_schema());
  check(statistics_scalars_schema());
  std::vector<DatasetSpec> prompts;
  for (const auto& quantity : prompt_schema()) {
    EXPECT_EQ(quantity.dataset.dims.front(), "prompt");
    prompts.push_back(quantity.dataset);
  }
  check(prompts);
}

/// Editors and `check` know the quantities from the job's schema.
TEST(Schema, job_schema_lists_the_quantities_that_keep_may_name) {
  std::vector<std::string> names;
  for (const auto& quantity : prompt_schema())
    if (quantity.is_stored) names.push_back(quantity.dataset.name);
  const Json schema = Json::parse(job_schema());
  EXPECT_EQ(schema.at("definitions").at("quantity").at("enum").get<std::vector<std::string>>(), names);
}

TEST(Schema, what_keep_stores) {
  using Which = KeepChoice::Which;
  const auto stored = [](const KeepChoice& keep) {
    std::set<std::string> names;
    for (const auto& quantity : prompt_schema())
      if (is_kept(quantity, keep)) names.insert(quantity.dataset.name);
    return names;
  };
  EXPECT_TRUE(stored({Which::listed, {}}).empty());
  EXPECT_EQ(stored({Which::listed, {"heat_capacity", "gain"}}), (std::set<std::string>{"heat_capacity", "gain"}));
  const auto all = stored({Which::all, {}}), most = stored({Which::most, {}});
  EXPECT_FALSE(all.contains("free_energy"));  // it is made from log_partition
  std::set<std::string> only_all;
  std::set_difference(all.begin(), all.end(), most.begin(), most.end(), std::inserter(only_all, only_all.end()));
  EXPECT_EQ(only_all, (std::set<std::string>{"log_partition_nonzero", "internal_energy", "heat_capacity",
                                             "thermal_entropy", "graph_log_partition_nonzero", "graph_internal_energy",
                                             "graph_heat_capacity", "graph_thermal_entropy"}));
}

}  // namespace
}  // namespace spectrace
