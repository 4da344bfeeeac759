#include "spectrace/measure/catalogue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>

#include "model/checkpoint_case.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/measure/choice.hpp"

namespace spectrace {
namespace {

/// Visits whatever an analysis declares as a dataset, with the group it lies in.
template <typename Visit>
void for_each_declared(const Visit& visit) {
  for (const Analysis* analysis : catalogue()) {
    const AnalysisInfo& info = analysis->info();
    for (const Quantity& quantity : info.quantities) visit(quantity, info.group.empty() ? "prompts" : info.group);
    for (const Quantity& quantity : info.set_quantities) visit(quantity, group_of_set_numbers("<set>", info.name));
    for (const Fact& fact : info.facts) visit(fact.quantity, info.group);
    for (const SetScalar& scalar : info.scalars) visit(scalar.quantity, std::string("prompts"));
  }
}

TEST(Catalogue, names_are_unique_in_their_group_and_no_dimensions) {
  std::set<std::pair<std::string, std::string>> names;
  std::set<std::string> dims;
  for_each_declared([&](const Quantity& quantity, const std::string& group) {
    EXPECT_TRUE(names.emplace(group, quantity.name).second) << group << " " << quantity.name;
    dims.insert(quantity.dims.begin(), quantity.dims.end());
  });
  // A dimension is a dataset of its own in the file.
  for (const auto& [group, name] : names) EXPECT_FALSE(dims.contains(name)) << group << " " << name;
}

/// Says of itself what it is told to.
class Said final : public PromptAnalysis {
 public:
  using PromptAnalysis::PromptAnalysis;
  PromptWants wants() const override { return {}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription&, const TokenBatch&, const Settings&,
                                          PromptArrays&) const override {
    return nullptr;
  }
};

/// What is wrong with the catalogue and one analysis more, which says what `say` makes it; empty if nothing is.
std::string error_with(const std::function<void(AnalysisInfo&)>& say) {
  AnalysisInfo info;
  info.name = "other";
  info.place = -1;
  say(info);
  const Said said(std::move(info));
  std::vector<const Analysis*> all = catalogue();
  all.push_back(&said);
  try {
    expect_unique(all);
    return "";
  } catch (const InternalError& error) {
    return error.what();
  }
}

TEST(Catalogue, what_two_analyses_have_is_named) {
  const std::string same = "two analyses have the same ";
  const auto quantity = [](const char* name) { return Quantity{.name = name}; };
  EXPECT_EQ(error_with([&](AnalysisInfo& info) { info.quantities = {quantity("other")}; }), "");
  EXPECT_EQ(error_with([](AnalysisInfo& info) { info.name = "sheaf"; }), same + "name 'sheaf'");
  EXPECT_EQ(error_with([](AnalysisInfo& info) { info.place = find_analysis("sheaf")->info().place; }),
            same + "place 50");
  EXPECT_EQ(error_with([&](AnalysisInfo& info) { info.quantities = {quantity("trace")}; }),
            same + "dataset of prompts 'trace'");
  EXPECT_EQ(error_with([&](AnalysisInfo& info) {
              info.group = "/heads";
              info.quantities = {quantity("stable_rank")};
            }),
            same + "dataset '/heads/stable_rank'");
  EXPECT_EQ(error_with([&](AnalysisInfo& info) {
              info.set_quantities = {quantity("a"), quantity("a")};
            }),
            same + "dataset '/prompts/<set>/other/a'");
  EXPECT_EQ(error_with([&](AnalysisInfo& info) { info.scalars = {{quantity("l_star_trace")}}; }),
            same + "dataset of prompts 'l_star_trace'");
  EXPECT_EQ(error_with([](AnalysisInfo& info) {
              info.summary = {{"mean_trace", ""}};
            }),
            same + "column 'mean_trace' of the summary");
}

TEST(Catalogue, analyses_are_found_by_their_names) {
  EXPECT_EQ(analysis_names().size(), catalogue().size());
  for (const auto& name : {"weights", "heads", "unembedding", "attention", "sheaf", "residual"}) {
    const Analysis* analysis = find_analysis(name);
    ASSERT_NE(analysis, nullptr) << name;
    EXPECT_EQ(analysis->name(), name);
  }
  EXPECT_EQ(find_analysis("Weights"), nullptr);
  const auto places = [](const Analysis* a, const Analysis* b) { return a->info().place < b->info().place; };
  EXPECT_TRUE(std::is_sorted(catalogue().begin(), catalogue().end(), places));
}

TEST(Catalogue, every_dataset_says_what_it_is_and_how_it_is_made) {
  for_each_declared([](const Quantity& quantity, const std::string& group) {
    SCOPED_TRACE(group + " " + quantity.name);
    EXPECT_FALSE(quantity.units.empty());
    EXPECT_FALSE(quantity.meaning.empty());
    EXPECT_FALSE(quantity.formula.empty());
    EXPECT_FALSE(quantity.function.empty());
  });
  for (const Analysis* analysis : catalogue()) EXPECT_FALSE(analysis->info().meaning.empty()) << analysis->name();
}

TEST(Catalogue, every_dimension_is_described) {
  for_each_declared([](const Quantity& quantity, const std::string&) {
    for (const auto& dim : quantity.dims) {
      const DimensionInfo& info = dimension_info(dim);
      EXPECT_EQ(info.name, dim) << quantity.name;
      EXPECT_FALSE(info.meaning.empty()) << dim;
      EXPECT_FALSE(info.units.empty()) << dim;
    }
  });
}

TEST(Catalogue, layers_and_prompts_come_first) {
  for (const Analysis* analysis : catalogue())
    for (const Quantity& quantity : analysis->info().quantities) {
      SCOPED_TRACE(analysis->name() + " " + quantity.name);
      if (dynamic_cast<const PromptAnalysis*>(analysis) != nullptr) {
        ASSERT_FALSE(quantity.dims.empty());
        EXPECT_EQ(quantity.dims.front(), "prompt");
        EXPECT_TRUE(analysis->info().group.empty());
      } else {
        EXPECT_FALSE(analysis->info().group.empty());
      }
      if (dynamic_cast<const LayerAnalysis*>(analysis) != nullptr) {
        ASSERT_FALSE(quantity.dims.empty());
        EXPECT_EQ(quantity.dims.front(), "layer");
      }
      // Of a slot that is not finite, messages name the layer.
      if (!quantity.must_be_finite.empty()) {
        ASSERT_GE(quantity.dims.size(), 2u);
        EXPECT_EQ(quantity.dims[1], "layer");
      }
    }
}

TEST(Catalogue, what_is_derived_or_asked_for_names_what_there_is) {
  for (const Analysis* analysis : catalogue())
    for (const Quantity& quantity : analysis->info().quantities) {
      SCOPED_TRACE(analysis->name() + " " + quantity.name);
      EXPECT_EQ(quantity.derived.from.empty(), quantity.derived.value == nullptr);
      EXPECT_EQ(quantity.derived.from.empty(), quantity.keep != Keep::never_rows);
      if (!quantity.derived.from.empty()) {
        const Quantity* source = analysis->find_quantity(quantity.derived.from);
        ASSERT_NE(source, nullptr);
        EXPECT_EQ(source->dims, quantity.dims);
      }
      if (!quantity.option.empty()) {
        const Json& property = analysis->info().section_schema.at(quantity.option);
        EXPECT_EQ(property.at("type"), "boolean");
        EXPECT_EQ(property.at("default"), false);
      }
    }
}

TEST(Catalogue, sizes_of_a_models_results_are_known) {
  const testing::Model model(testing::case_folder("llama"));
  for (const Chosen& chosen : AnalysisChoice::of(analysis_names())) {
    const Extents extents = chosen.extents(model.description, Slicing::correct, 5, 3);
    for (const Quantity* quantity : chosen.quantities()) {
      SCOPED_TRACE(chosen.name() + " " + quantity->name);
      EXPECT_NO_THROW(EXPECT_GT(num_values(*quantity, extents, "prompt"), 0));
    }
    for (const Quantity& quantity : chosen.analysis->info().set_quantities)
      EXPECT_NO_THROW(EXPECT_GT(num_values(quantity, extents), 0)) << quantity.name;
  }
}

bool is_of_a_word(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '_'; }

bool has_word(const std::string& text, const std::string& word) {
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    if ((at == 0 || !is_of_a_word(text[at - 1])) && (end == text.size() || !is_of_a_word(text[end]))) return true;
  }
  return false;
}

/// Who reads docs/quantities.md looks for it there.
TEST(Catalogue, functions_are_names_of_public_headers) {
  std::string headers;
  const auto folder = std::filesystem::path(SPECTRACE_SOURCE_DIR) / "include" / "spectrace";
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder))
    if (file.path().extension() == ".hpp") headers += read_text_file(file.path());
  ASSERT_TRUE(has_word(headers, "singular_values"));
  ASSERT_FALSE(has_word(headers, "singular_value"));
  for_each_declared([&](const Quantity& quantity, const std::string& group) {
    EXPECT_TRUE(has_word(headers, quantity.function)) << group << " " << quantity.name << ": " << quantity.function;
  });
}

TEST(NearestNames, are_those_that_were_perhaps_meant) {
  const std::vector<std::string> names = {"weights", "heads", "attention", "sheaf", "residual"};
  EXPECT_EQ(nearest_names("atention", names), std::vector<std::string>{"attention"});
  EXPECT_EQ(nearest_names("head", names), std::vector<std::string>{"heads"});
  EXPECT_EQ(nearest_names("residuals", names), std::vector<std::string>{"residual"});
  EXPECT_TRUE(nearest_names("logit_lens", names).empty());
  EXPECT_EQ(nearest_names("xa", {"xd", "xc", "xb", "xa1", "xa"}).size(), 3u);
  EXPECT_EQ(nearest_names("xa", {"xd", "xc", "xb", "xa1", "xa"}).front(), "xa");
}

}  // namespace
}  // namespace spectrace
