#include "spectrace/results/earlier_results.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/growth.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/results/summary.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

Group group_of(const std::string& path, const std::vector<Quantity>& quantities) {
  static const std::map<std::string, std::size_t> sizes = {{"layer", 2}, {"matrix", 4}, {"index", 3},
                                                           {"head", 2},  {"token", 5},  {"boundary", 3}};
  constexpr std::size_t kOtherSize = 2;
  Group group;
  group.path = path;
  std::set<std::string> dims;
  for (const Quantity& quantity : quantities) dims.insert(quantity.dims.begin(), quantity.dims.end());
  for (const auto& dim : dims) {
    const auto size = sizes.find(dim);
    Coordinate values = std::vector<std::int64_t>(size == sizes.end() ? kOtherSize : size->second);
    if (dim == "statistic") values = statistic_names();
    group.dimensions.push_back(dimension_of({dimension_info(dim), std::move(values)}));
  }
  for (const Quantity& quantity : quantities) {
    std::size_t count = 1;
    for (const auto& dim : quantity.dims) count *= group.find_dimension(dim)->size();
    group.datasets.push_back(dataset_of(quantity, std::vector<double>(count, 1.5)));
  }
  return group;
}

/// All that results may hold, small.
ResultTree whole_tree() {
  ResultTree tree;
  tree.attributes = {{"Conventions", std::string(kConventions)},
                     {"parameters", std::string("{}")},
                     {"status", std::string("ok")},
                     {"error", std::string()},
                     {"num_layers", std::int64_t{2}},
                     {"num_heads", std::int64_t{2}},
                     {"identity", identity_to_json({{"slicing", "correct"},
                                                    {"compute dtype", "float32"},
                                                    {"tokens_per_batch", "30"},
                                                    {"beta grid", "[0.1,1.0]"}})}};
  for (const Analysis* analysis : catalogue())
    if (const AnalysisInfo& info = analysis->info(); !info.group.empty())
      tree.groups.push_back(group_of(info.group, info.quantities));
  std::vector<Quantity> prompts, statistics;
  for (const Quantity* quantity : prompt_quantities()) {
    if (quantity->keep != Keep::never_rows) prompts.push_back(*quantity);
    if (!quantity->has_statistics) continue;
    statistics.push_back(*quantity);
    statistics.back().dims.front() = "statistic";
  }
  for (const SetScalar* scalar : set_scalars()) statistics.push_back(scalar->quantity);
  Group set = group_of("/prompts/a", prompts);
  for (const Quantity& fact : prompt_facts())
    if (fact.name == kPromptId || fact.name == kPromptError || fact.name == kPromptErrorByAnalysis)
      set.datasets.push_back(dataset_of(fact, std::vector<std::string>{"", "too long"}));
  tree.groups.push_back(std::move(set));
  tree.groups.push_back(group_of("/prompts/a/statistics", statistics));
  Group checkpoint;
  checkpoint.path = kCheckpointGroup;
  checkpoint.dimensions = {common_dimension(kTensor, std::vector<std::string>{"x", "y"})};
  checkpoint.datasets = {dataset_of(digest_quantity(), std::vector<std::string>{"1", "2"})};
  tree.groups.push_back(std::move(checkpoint));
  return tree;
}

/// Writes the tree, with a digest that is right, and does all that a run does with earlier results. True if they were
/// built upon.
class ResultsOfBefore : public testing::Test {
 protected:
  void SetUp() override {
    job_.output = folder_.path();
    entry_.name = "m";
    job_.models = {entry_};
    PromptSetEntry set;
    set.name = "a";
    job_.prompt_sets = {set};
  }

  bool are_built_upon(const ResultTree& tree) {
    write_result_file(result_path(job_, entry_), tree);
    // As for a model that fails for another reason: whatever the file holds, its row is written.
    const ResultTree any = read_result_file(result_path(job_, entry_), WrongDigest::unasked, kMostValuesInMemory);
    summarize(job_, entry_, {ModelStatus::failed, "something else"}, &any);
    std::optional<ResultTree> earlier;
    try {
      earlier = read_earlier_results(job_, entry_, WrongDigest::refused);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(),
                error.problem().find("another format") == std::string::npos ? ErrorKind::model : ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find("m.h5"), std::string::npos) << error.what();
      return false;
    }
    if (!earlier) return false;
    ResultTree now;
    now.attributes = {{"parameters", std::string()}};
    find_lack(*earlier, AnalysisChoice::of(analysis_names()), {KeepChoice::Which::all, {}}, {PreparedSet{"a", {}}});
    add_earlier_groups(*earlier, now);
    order_groups(job_, now);
    update_scalars(now, result_path(job_, entry_));
    set_parameters(now, merged(identity_from_json(text_attribute(*earlier, "identity")), {}));
    summarize(job_, entry_, {ModelStatus::ok, ""}, &now);
    return true;
  }

  const TempFolder folder_;
  Job job_;
  ModelEntry entry_;
};

TEST_F(ResultsOfBefore, whole_ones_are_built_upon) { EXPECT_TRUE(are_built_upon(whole_tree())); }

TEST_F(ResultsOfBefore, another_format_is_refused) {
  ResultTree tree = whole_tree();
  tree.attributes.front().second = std::string("spectrace-1");
  EXPECT_FALSE(are_built_upon(tree));
}

// A version that knows one quantity more finds files of before it: they are good for all that they have.
TEST_F(ResultsOfBefore, a_group_that_lacks_a_dataset_is_built_upon) {
  const ResultTree whole = whole_tree();
  for (std::size_t g = 0; g < whole.groups.size(); ++g) {
    if (whole.groups[g].path == kCheckpointGroup) continue;
    SCOPED_TRACE(whole.groups[g].path);
    ResultTree tree = whole;
    tree.groups[g].datasets.erase(tree.groups[g].datasets.begin());
    EXPECT_TRUE(are_built_upon(tree));
  }
}

// Nothing vanishes of them where a job asks for something else.
TEST_F(ResultsOfBefore, groups_with_failed_units_stay_and_are_lacking) {
  ResultTree tree = whole_tree();
  for (Group& group : tree.groups)
    if (group.path == "/heads" || group.path == "/prompts/a")
      group.attributes.emplace_back(kFailedUnitsAttribute, std::int64_t{1});
  write_result_file(result_path(job_, entry_), tree);
  const auto earlier = read_earlier_results(job_, entry_, WrongDigest::refused);
  ASSERT_TRUE(earlier.has_value());
  ASSERT_EQ(earlier->groups.size(), tree.groups.size());
  EXPECT_EQ(num_failed_units(*earlier), 2);
  const auto lack = find_lack(*earlier, AnalysisChoice::of({"weights", "heads"}), {}, {});
  EXPECT_EQ(lack.of_weights.names(), std::vector<std::string>{"heads"});
}

/// A forgery, and whether nothing may be built upon what it leaves.
struct Edit {
  std::function<void(ResultTree&)> make;
  bool is_refused;
};

/// What must be there, of its type, whatever results hold.
bool is_needed(const std::string& group, const std::string& dataset) {
  return group == kCheckpointGroup || dataset == kPromptId || dataset == kPromptError;
}

void add_edits_of_attributes(const ResultTree& tree, std::vector<Edit>& edits) {
  const std::vector<AttributeValue> others = {std::string("x"), std::int64_t{-1}, 0.5, std::string("[[1]]"),
                                              std::string("[[\"tokens_per_batch\",\"many\"]]")};
  for (std::size_t a = 0; a < tree.attributes.size(); ++a) {
    const std::string& name = tree.attributes[a].first;
    const bool is_refused = name == "Conventions" || name == "identity";
    edits.push_back({[=](ResultTree& t) { t.attributes.erase(t.attributes.begin() + static_cast<std::ptrdiff_t>(a)); },
                     is_refused});
    for (const auto& other : others)
      edits.push_back({[=](ResultTree& t) { t.attributes[a].second = other; }, is_refused});
  }
}

/// Each kind many times, each dataset once; all of all is half a minute.
Edit edit_of_dataset(const ResultTree& tree, std::size_t g, std::size_t d) {
  const std::string &group = tree.groups[g].path, &name = tree.groups[g].datasets[d].name;
  const bool needed = is_needed(group, name), is_text_of_prompts = needed && group != kCheckpointGroup;
  const auto dataset = [g, d](ResultTree& t) -> Dataset& { return t.groups[g].datasets[d]; };
  const std::vector<Edit> kinds = {
      {[=](ResultTree& t) {
         t.groups[g].datasets.erase(t.groups[g].datasets.begin() + static_cast<std::ptrdiff_t>(d));
       },
       needed},
      {[=](ResultTree& t) { dataset(t).name += "_"; }, needed},
      {[=](ResultTree& t) {
         dataset(t).dims.clear();
         dataset(t).values = std::vector<std::string>{"x"};
       },
       !is_text_of_prompts},
      {[=](ResultTree& t) {
         dataset(t).dims.clear();
         dataset(t).values = std::vector<std::int64_t>{1};
       },
       true},
      {[=](ResultTree& t) {
         t.groups[g].dimensions.push_back({"none", std::vector<std::int64_t>(), "1", "Nothing"});
         dataset(t).dims = {"none"};
         dataset(t).values = std::vector<double>();
       },
       true}};
  return kinds[d % kinds.size()];
}

/// Whatever can be taken out, retyped or given other dimensions, one at a time.
std::vector<Edit> edits_of(const ResultTree& tree) {
  std::vector<Edit> edits;
  add_edits_of_attributes(tree, edits);
  for (std::size_t g = 0; g < tree.groups.size(); ++g) {
    const std::string& path = tree.groups[g].path;
    const bool is_set = path == "/prompts/a", is_checkpoint = path == kCheckpointGroup;
    edits.push_back(
        {[=](ResultTree& t) { t.groups.erase(t.groups.begin() + static_cast<std::ptrdiff_t>(g)); }, is_checkpoint});
    edits.push_back({[=](ResultTree& t) { t.groups[g].datasets.clear(); }, is_checkpoint || is_set});
    edits.push_back({[=](ResultTree& t) {
                       t.groups[g] = {t.groups[g].path, {}, {}, {}};
                     },
                     is_checkpoint || path.starts_with("/prompts/")});
    for (std::size_t d = 0; d < tree.groups[g].datasets.size(); ++d) edits.push_back(edit_of_dataset(tree, g, d));
  }
  return edits;
}

// The digest is right each time: what stands between a forged file and the program is this alone. Nothing crashes or
// throws anything else, and those that are built upon only lack what they need not have.
TEST_F(ResultsOfBefore, forged_ones_are_refused_or_lack_nothing_that_is_needed) {
  const ResultTree whole = whole_tree();
  const auto edits = edits_of(whole);
  std::size_t num_refused = 0;
  for (std::size_t e = 0; e < edits.size(); ++e) {
    ResultTree tree = whole;
    edits[e].make(tree);
    EXPECT_EQ(are_built_upon(tree), !edits[e].is_refused) << "edit " << e;
    num_refused += edits[e].is_refused;
  }
  EXPECT_GT(num_refused, edits.size() / 3);
  EXPECT_LT(num_refused, edits.size());
}

}  // namespace
}  // namespace spectrace
