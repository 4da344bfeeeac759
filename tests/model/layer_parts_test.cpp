#include "spectrace/model/layer_parts.hpp"

#include <gtest/gtest.h>

#include <set>

#include "model/checkpoint_case.hpp"

namespace spectrace::testing {
namespace {

const MatrixRoles kUngated = {MatrixRole::w_q, MatrixRole::w_k,  MatrixRole::w_v,
                              MatrixRole::w_o, MatrixRole::w_up, MatrixRole::w_down};
const MatrixRoles kGated = {MatrixRole::w_q,    MatrixRole::w_k,  MatrixRole::w_v,   MatrixRole::w_o,
                            MatrixRole::w_gate, MatrixRole::w_up, MatrixRole::w_down};

/// Tensors that a visit of all parts comes by, each once.
std::set<std::string> tensors_of_parts(const LayerSources& layer) {
  std::set<std::string> names;
  for (const TensorSource* source : all_sources(layer)) {
    names.insert(source->tensor);
    names.insert(source->stacked.begin(), source->stacked.end());
  }
  return names;
}

/// Tensors of the checkpoint that belong to a layer by their name ("h.1.", "layers.1.").
std::set<std::string> tensors_by_name(const TensorStore& store, std::int64_t layer) {
  std::set<std::string> names;
  for (const TensorInfo& tensor : store.tensors())
    for (const std::string list : {"h.", "layers."})
      if (tensor.name.find("." + list + std::to_string(layer) + ".") != std::string::npos ||
          tensor.name.starts_with(list + std::to_string(layer) + "."))
        names.insert(tensor.name);
  return names;
}

TEST(LayerParts, matrices_come_in_the_order_of_roles) {
  for (const auto& [name, expected] : {std::pair("gpt2", kUngated), std::pair("llama", kGated)}) {
    const Model model(case_folder(name));
    const LayerSources& layer = model.description.layers[0];
    MatrixRoles roles;
    std::size_t num_small = 0;
    for_each_part(
        layer, [&](MatrixRole role, const LinearSource&) { roles.push_back(role); }, [&](const auto&) { ++num_small; });
    EXPECT_EQ(roles, expected) << name;
    EXPECT_EQ(num_small, 7u) << "those that a layer may have: six norms, an activation's numbers";
    for (std::size_t role = 0; role < kNumMatrixRoles; ++role) {
      const auto which = static_cast<MatrixRole>(role);
      const bool is_there = std::find(expected.begin(), expected.end(), which) != expected.end();
      EXPECT_EQ(has_matrix(layer, which), is_there) << info(which).name;
    }
  }
}

TEST(LayerParts, sources_are_those_of_their_roles) {
  const Model model(case_folder("llama"));
  const LayerSources& layer = model.description.layers[1];
  const std::vector<std::pair<MatrixRole, std::string>> expected = {
      {MatrixRole::w_q, "self_attn.q_proj"}, {MatrixRole::w_k, "self_attn.k_proj"},
      {MatrixRole::w_v, "self_attn.v_proj"}, {MatrixRole::w_o, "self_attn.o_proj"},
      {MatrixRole::w_gate, "mlp.gate_proj"}, {MatrixRole::w_up, "mlp.up_proj"},
      {MatrixRole::w_down, "mlp.down_proj"}};
  for (const auto& [role, name] : expected)
    EXPECT_EQ(source_of(layer, role).weight.tensor, "model.layers.1." + name + ".weight");
}

// A part that the visit left out would be read by nobody, and counted nowhere.
TEST(LayerParts, no_tensor_of_a_layer_is_left_out) {
  for (const auto& name :
       {"gpt2", "llama", "gpt_neox", "opt", "gemma2", "qwen3", "olmo2", "stablelm", "phi3", "bloom", "apertus"}) {
    const Model model(case_folder(name));
    for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer) {
      std::set<std::string> expected = tensors_by_name(model.store, layer);
      ASSERT_GE(expected.size(), 4u) << name;
      for (const auto& unused : unused_tensors(model.description, model.store)) expected.erase(unused);
      EXPECT_EQ(tensors_of_parts(model.description.layers[static_cast<std::size_t>(layer)]), expected) << name;
    }
  }
}

TEST(LayerParts, elements_are_those_of_the_stored_tensors) {
  for (const auto& name : {"gpt2", "llama", "gpt_neox", "qwen3", "stablelm", "falcon_7b"}) {
    const Model model(case_folder(name));
    for (const LayerSources& layer : model.description.layers) {
      std::int64_t expected = 0;
      for (const auto& tensor : tensors_of_parts(layer)) expected += model.store.find(tensor)->num_elements();
      EXPECT_EQ(num_elements(layer), expected) << name;
    }
  }
}

TEST(LayerParts, elements_of_roles_are_of_those_that_are_there) {
  const Model model(case_folder("llama"));
  const ModelDescription& d = model.description;
  const std::int64_t queries = d.num_heads * d.head_dim * d.hidden_size,
                     keys = d.num_kv_heads * d.head_dim * d.hidden_size, inner = d.intermediate_size * d.hidden_size;
  EXPECT_EQ(most_matrix_elements(d, {MatrixRole::w_q}), queries);
  EXPECT_EQ(most_matrix_elements(d, {MatrixRole::w_k, MatrixRole::w_o}), keys + queries);
  EXPECT_EQ(most_matrix_elements(d, kGated), 2 * (queries + keys) + 3 * inner);
  EXPECT_EQ(most_matrix_elements(d, {}), 0);
  ModelDescription smaller_first = d;
  smaller_first.layers[0].mlp_gate.reset();
  EXPECT_EQ(most_matrix_elements(smaller_first, kGated), 2 * (queries + keys) + 3 * inner) << "the most of a layer";
  const Model ungated(case_folder("gpt2"));
  EXPECT_EQ(most_matrix_elements(ungated.description, {MatrixRole::w_gate}), 0);
}

TEST(LayerParts, read_layers_have_the_parts_of_their_sources) {
  const Model model(case_folder("llama"));
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  const LayerMatrices some = matrices_of(weights, {MatrixRole::w_gate, MatrixRole::w_o});
  EXPECT_TRUE(some.at(MatrixRole::w_gate).is_same(weights.mlp_gate->weight));
  EXPECT_TRUE(some.at(MatrixRole::w_o).is_same(weights.w_o.weight));
  EXPECT_FALSE(some.has(MatrixRole::w_q));
  const ReadMatrices read = read_matrices(model.description, model.store, 0, kGated, ComputeType::float32);
  EXPECT_TRUE(read.errors.empty());
  for_each_part(
      weights,
      [&](MatrixRole role, const Linear& linear) {
        EXPECT_TRUE(at::equal(read.matrices.at(role), linear.weight)) << info(role).name;
        EXPECT_EQ(most_matrix_elements(model.description, {role}), linear.weight.numel());
      },
      [](const auto&) {});
}

}  // namespace
}  // namespace spectrace::testing
