#include "spectrace/results/result_attributes.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

OpenModel open_llama() {
  return open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama", IoMode::automatic);
}

/// Null if there is none of the name.
const AttributeValue* find(const Attributes& attributes, const std::string& name) {
  const auto found =
      std::find_if(attributes.begin(), attributes.end(), [&](const auto& one) { return one.first == name; });
  return found == attributes.end() ? nullptr : &found->second;
}

std::vector<std::string> names_of(const Attributes& attributes) {
  std::vector<std::string> names;
  for (const auto& [name, value] : attributes) names.push_back(name);
  return names;
}

ModelEntry entry_of(const std::string& name) {
  ModelEntry entry;
  entry.name = name;
  return entry;
}

TEST(ResultAttributes, analyses_that_a_model_cannot_have_are_said_where_there_are_some) {
  OpenModel model = open_llama();
  const ResultStatus ok{.status = "ok", .error = ""};
  EXPECT_EQ(find(result_attributes(Job(), entry_of("m"), model, ok), "impossible_analyses"), nullptr);
  for (LayerSources& layer : model.description.layers) {
    layer.mlp_gate.reset();
    layer.mlp_up = layer.mlp_down = {};
  }
  const Attributes attributes = result_attributes(Job(), entry_of("m"), model, ok);
  const AttributeValue* said = find(attributes, "impossible_analyses");
  ASSERT_NE(said, nullptr);
  EXPECT_EQ(Json::parse(std::get<std::string>(*said)), Json({{"mlp", "its blocks have no MLP"}}));
}

TEST(ResultAttributes, a_model_that_could_not_be_opened_has_the_first_ones) {
  const ResultStatus partial{.status = "partial", .error = "a layer", .failed_units = 2};
  const auto all = names_of(result_attributes(Job(), entry_of("m"), open_llama(), partial));
  const Attributes failed = failed_attributes(Job(), entry_of("m"), "no file");
  const auto first = names_of(failed);
  ASSERT_LT(first.size(), all.size());
  EXPECT_EQ(first.back(), "compute_dtype");
  EXPECT_TRUE(std::equal(first.begin(), first.end(), all.begin()));
  EXPECT_EQ(*find(failed, "status"), AttributeValue("failed"));
  EXPECT_EQ(*find(failed, "error"), AttributeValue("no file"));
  EXPECT_EQ(*find(failed, "failed_units"), AttributeValue(std::int64_t{1}));
}

TEST(ResultAttributes, groups_stand_as_the_job_has_them_and_earlier_ones_behind) {
  Job job;
  for (const char* set : {"z", "a"}) job.prompt_sets.emplace_back().name = set;
  const auto group = [](const std::string& path, const std::string& mark) {
    Group made;
    made.path = path;
    made.attributes.emplace_back("mark", mark);
    return made;
  };
  ResultTree earlier, tree;
  for (const char* path : {"/prompts/b", "/prompts/a", "/checkpoint", "/weights"})
    earlier.groups.push_back(group(path, "old"));
  for (const std::string& path :
       {group_of_statistics("a"), group_of_set("a"), group_of_set("z"), std::string("/unembedding")})
    tree.groups.push_back(group(path, "new"));
  add_earlier_groups(earlier, tree);
  order_groups(job, tree);
  std::vector<std::string> paths;
  for (const Group& one : tree.groups) paths.push_back(one.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"/weights", "/unembedding", "/prompts/z", "/prompts/a",
                                             "/prompts/a/statistics", "/prompts/b", "/checkpoint"}));
  EXPECT_EQ(std::get<std::string>(tree.find("/prompts/a")->attributes.front().second), "new");
}

}  // namespace
}  // namespace spectrace
