#include "spectrace/measure/choice.hpp"

#include <gtest/gtest.h>

#include "model/checkpoint_case.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

using Strings = std::vector<std::string>;

TEST(AnalysisChoice, is_in_the_catalogues_order_however_it_is_named) {
  const AnalysisChoice choice = AnalysisChoice::of({"residual", "unembedding", "weights", "attention"});
  EXPECT_EQ(choice.names(), (Strings{"weights", "unembedding", "attention", "residual"}));
  EXPECT_EQ(choice.of_prompts().names(), (Strings{"attention", "residual"}));
  EXPECT_EQ(choice.of_weights().names(), (Strings{"weights", "unembedding"}));
  EXPECT_TRUE(choice.has("weights"));
  EXPECT_FALSE(choice.has("sheaf"));
  EXPECT_EQ(choice.find("unembedding")->analysis, find_analysis("unembedding"));
  EXPECT_TRUE(choice.any_of_prompts());
  EXPECT_FALSE(choice.of_weights().any_of_prompts());
  EXPECT_TRUE(AnalysisChoice().empty());
}

TEST(AnalysisChoice, an_analysis_is_of_one_kind) {
  for (const Chosen& chosen : AnalysisChoice::of(analysis_names()))
    EXPECT_EQ((chosen.of_layers() != nullptr) + (chosen.of_rows() != nullptr) + (chosen.of_prompts() != nullptr) +
                  (dynamic_cast<const TensorAnalysis*>(chosen.analysis) != nullptr),
              1)
        << chosen.name();
}

TEST(AnalysisChoice, a_quantity_that_is_asked_for_is_left_out_unless_it_is) {
  Chosen sheaf = *AnalysisChoice::of({"sheaf"}).find("sheaf");
  const auto has_eigenvalues = [&] {
    for (const Quantity* quantity : sheaf.quantities())
      if (quantity->name == "graph_eigenvalues") return true;
    return false;
  };
  EXPECT_FALSE(has_eigenvalues());
  const std::size_t without = sheaf.quantities().size();
  sheaf.settings["graph_eigenvalues"] = true;
  EXPECT_TRUE(has_eigenvalues());
  EXPECT_EQ(sheaf.quantities().size(), without + 1);
}

/// Of prompts; no model can have it.
class Impossible final : public PromptAnalysis {
 public:
  explicit Impossible(const PromptWants& wants = {})
      : PromptAnalysis({.name = "impossible", .meaning = "Nothing.", .quantities = {}}), wants_(wants) {}
  PromptWants wants() const override { return wants_; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription&, const TokenBatch&, const Settings&,
                                          PromptArrays&) const override {
    return nullptr;
  }

 private:
  std::string find_lack(const ModelDescription&) const override { return "nobody can have it"; }

  PromptWants wants_;
};

TEST(AnalysisChoice, what_a_model_cannot_have_is_left_out_of_prompts_too) {
  const testing::Model model(testing::case_folder("llama"));
  const Impossible impossible;
  const AnalysisChoice all = AnalysisChoice::of(analysis_names());
  std::vector<Chosen> chosen(all.begin(), all.end());
  chosen.push_back({&impossible, {}});
  EXPECT_EQ(AnalysisChoice(chosen).possible(model.description).names(), analysis_names());
  EXPECT_EQ(impossible_analyses(model.description), Json::object());
}

TEST(AnalysisChoice, a_model_without_mlps_cannot_have_their_spectra) {
  const testing::Model model(testing::case_folder("llama"));
  ModelDescription without = model.description;
  for (LayerSources& layer : without.layers) {
    layer.mlp_gate.reset();
    layer.mlp_up = layer.mlp_down = {};
  }
  const AnalysisChoice choice = AnalysisChoice::of({"weights", "mlp", "residual"});
  EXPECT_EQ(choice.possible(model.description).names(), (Strings{"weights", "mlp", "residual"}));
  EXPECT_EQ(choice.possible(without).names(), (Strings{"weights", "residual"}));
  const Json impossible = impossible_analyses(without);
  ASSERT_EQ(impossible.size(), 1u);
  EXPECT_NE(impossible.at("mlp").get<std::string>().find("no MLP"), std::string::npos);
}

TEST(AnalysisChoice, wants_what_any_of_them_wants) {
  const PromptWants residual = wants_of(AnalysisChoice::of({"residual"}));
  EXPECT_TRUE(residual.norms);
  EXPECT_FALSE(residual.attention || residual.mean_attention || residual.value_spectra || residual.scores);
  const PromptWants both = wants_of(AnalysisChoice::of({"weights", "attention", "residual"}));
  EXPECT_TRUE(both.norms && both.attention && both.mean_attention);
  EXPECT_FALSE(both.value_spectra);
  EXPECT_TRUE(wants_of(AnalysisChoice::of({"sheaf"})).value_spectra);
}

TEST(AnalysisChoice, mean_attention_and_scores_come_with_the_attention) {
  for (const PromptWants& wants : {PromptWants{.mean_attention = true}, PromptWants{.scores = true}}) {
    const Impossible analysis(wants);
    EXPECT_TRUE(wants_of(AnalysisChoice({Chosen{&analysis}})).attention);
  }
  const Impossible analysis({.norms = true, .value_spectra = true});
  EXPECT_FALSE(wants_of(AnalysisChoice({Chosen{&analysis}})).attention);
}

}  // namespace
}  // namespace spectrace
