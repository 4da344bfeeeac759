#include "spectrace/work/layer_stream.hpp"

#include <gtest/gtest.h>

#include <set>

#include "work/copied_model.hpp"

namespace spectrace {
namespace {

const MatrixRoles kAllRoles = {MatrixRole::w_q,    MatrixRole::w_k,  MatrixRole::w_v,   MatrixRole::w_o,
                               MatrixRole::w_gate, MatrixRole::w_up, MatrixRole::w_down};
const MatrixRoles kAttention = attention_roles();

/// Of the stored tensors that a layer is made of.
std::uint64_t stored_bytes(const OpenModel& model, std::int64_t layer) {
  ModelDescription only;
  only.layers.push_back(model.description.layers[static_cast<std::size_t>(layer)]);
  std::set<std::string> names;
  std::uint64_t bytes = 0;
  for (const TensorSource* source : only.all_sources())
    if (!source->tensor.empty() && names.insert(source->tensor).second)
      bytes += model.store.find(source->tensor)->size_bytes;
  return bytes;
}

std::vector<std::string> names_of_roles(const std::map<MatrixRole, std::string>& errors) {
  std::vector<std::string> names;
  for (const auto& [role, error] : errors) names.push_back(info(role).name);
  return names;
}

TEST(LayerStream, who_needs_a_matrix_that_cannot_be_read_fails_of_it_alone) {
  const CopiedModel copy("llama", broken("k_proj.weight"));
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::correct);
  const LoadedLayer& loaded = stream.load(0, {.weights = true, .sliced = kAllRoles, .values = true});
  EXPECT_EQ(names_of_roles(loaded.matrix_errors), std::vector<std::string>{"W_K"});
  ASSERT_TRUE(loaded.weights_error.has_value());
  EXPECT_NE(loaded.weights_error->find("k_proj.weight"), std::string::npos) << *loaded.weights_error;
  EXPECT_FALSE(loaded.weights.has_value());
  EXPECT_EQ(loaded.find_error(kAttention), loaded.matrix_errors.at(MatrixRole::w_k));
  EXPECT_EQ(loaded.find_error({MatrixRole::w_q, MatrixRole::w_v, MatrixRole::w_o, MatrixRole::w_up}), std::nullopt);
  for (const MatrixRole role : kAllRoles) {
    EXPECT_EQ(loaded.matrices.has(role), role != MatrixRole::w_k) << info(role).name;
    EXPECT_EQ(loaded.sliced.has(role), role != MatrixRole::w_k) << info(role).name;
  }
  EXPECT_EQ(loaded.values_error, std::nullopt);
  EXPECT_EQ(loaded.values.size(), static_cast<std::size_t>(model.description.num_heads));
  EXPECT_FALSE(loaded.is_good());
  stream.release(0);
  EXPECT_FALSE(stream.is_loaded(0)) << "what failed does not stay";
  EXPECT_TRUE(stream.load(1, {.weights = true, .sliced = kAllRoles, .values = true}).is_good());
}

TEST(LayerStream, singular_values_of_heads_fail_of_their_matrix_alone) {
  const CopiedModel copy("llama", broken("v_proj.weight"));
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::correct);
  const LoadedLayer& loaded = stream.load(0, {.sliced = {MatrixRole::w_q}, .values = true});
  EXPECT_EQ(loaded.values_error, loaded.matrix_errors.at(MatrixRole::w_v));
  EXPECT_TRUE(loaded.values.empty());
  EXPECT_TRUE(loaded.sliced.has(MatrixRole::w_q));
  EXPECT_FALSE(loaded.weights || loaded.weights_error);
}

TEST(LayerStream, later_needs_are_met_and_nothing_is_read_twice) {
  const CopiedModel copy("llama");
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::correct);
  EXPECT_FALSE(stream.load(1, {.weights = true}).matrices.has(MatrixRole::w_q));
  const std::uint64_t bytes = model.store.bytes_read();
  EXPECT_EQ(bytes, stored_bytes(model, 1));
  const LoadedLayer& loaded = stream.load(1, {.weights = true, .sliced = kAllRoles, .values = true});
  for (const MatrixRole role : kAllRoles) EXPECT_TRUE(loaded.sliced.has(role)) << info(role).name;
  EXPECT_TRUE(loaded.matrices.at(MatrixRole::w_down).is_same(loaded.weights->mlp_down.weight)) << "no copy";
  EXPECT_FALSE(loaded.values.empty());
  EXPECT_EQ(model.store.bytes_read(), bytes);
}

// As published, W_Q, W_K and W_V are thirds of what is fused: each has rows of all three.
TEST(LayerStream, thirds_are_of_all_three_matrices) {
  const CopiedModel copy("gpt_neox");
  const OpenModel model = copy.open();
  ASSERT_TRUE(model.description.fused_qkv_per_head);
  const TensorSource& source = model.description.layers[0].w_v.weight;
  const Tensor fused = model.store.read(*model.store.find(source.tensor), ComputeType::float32);
  LayerStream stream(model, ComputeType::float32, Slicing::as_published);
  const LoadedLayer& loaded = stream.load(0, {.sliced = {MatrixRole::w_v, MatrixRole::w_o}});
  for (const MatrixRole role : kAttention) EXPECT_TRUE(loaded.sliced.has(role)) << info(role).name;
  const std::int64_t third = fused.size(0) / 3;
  EXPECT_TRUE(at::equal(loaded.sliced.at(MatrixRole::w_q), fused.narrow(0, 0, third)));
  EXPECT_TRUE(at::equal(loaded.sliced.at(MatrixRole::w_k), fused.narrow(0, third, third)));
  EXPECT_TRUE(at::equal(loaded.sliced.at(MatrixRole::w_v), fused.narrow(0, 2 * third, third)));
  EXPECT_FALSE(at::equal(loaded.matrices.at(MatrixRole::w_v), loaded.sliced.at(MatrixRole::w_v)));
  EXPECT_TRUE(at::equal(loaded.matrices.at(MatrixRole::w_o), loaded.sliced.at(MatrixRole::w_o)));
}

TEST(LayerStream, thirds_of_which_a_matrix_cannot_be_read_are_none) {
  const CopiedModel copy("opt", broken("k_proj.weight"));
  OpenModel model = copy.open();
  // As if it lay in one tensor: whatever fails of it, the thirds have rows of it.
  model.description.fused_qkv_per_head = true;
  const LayerNeeds needs{.sliced = {MatrixRole::w_v, MatrixRole::w_o}, .values = true};
  LayerStream published(model, ComputeType::float32, Slicing::as_published),
      correct(model, ComputeType::float32, Slicing::correct);
  const LoadedLayer& loaded = published.load(0, needs);
  EXPECT_EQ(names_of_roles(loaded.matrix_errors), (std::vector<std::string>{"W_Q", "W_K", "W_V"}));
  EXPECT_NE(loaded.matrix_errors.at(MatrixRole::w_v).find("k_proj.weight"), std::string::npos);
  EXPECT_EQ(loaded.values_error, loaded.matrix_errors.at(MatrixRole::w_v));
  EXPECT_FALSE(loaded.sliced.has(MatrixRole::w_v));
  EXPECT_TRUE(loaded.sliced.has(MatrixRole::w_o));
  EXPECT_TRUE(correct.load(0, needs).is_good()) << "which has no need of W_K";
}

TEST(LayerStream, roundings_of_the_slicing_are_of_the_spectra_alone) {
  const CopiedModel copy("llama", [](const std::string&, const Tensor& tensor) {
    return tensor + 0x1p-20;  // beyond what float16 holds
  });
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::as_published_float16);
  const LoadedLayer& loaded = stream.load(0, {.weights = true, .sliced = {MatrixRole::w_o}});
  const Tensor& stored = loaded.matrices.at(MatrixRole::w_o);
  EXPECT_TRUE(at::equal(loaded.sliced.at(MatrixRole::w_o), stored.to(at::kHalf).to(at::kFloat)));
  EXPECT_FALSE(at::equal(loaded.sliced.at(MatrixRole::w_o), stored));
  EXPECT_TRUE(at::equal(loaded.weights->w_o.weight, stored));
}

TEST(LayerStream, what_is_not_asked_for_sliced_is_not_sliced) {
  const CopiedModel copy("llama");
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::as_published_float16);
  const LoadedLayer& loaded =
      stream.load(0, {.matrices = {MatrixRole::w_up, MatrixRole::w_o}, .sliced = {MatrixRole::w_o}});
  EXPECT_TRUE(loaded.matrices.has(MatrixRole::w_up) && loaded.matrices.has(MatrixRole::w_o));
  EXPECT_TRUE(loaded.sliced.has(MatrixRole::w_o));
  EXPECT_FALSE(loaded.sliced.has(MatrixRole::w_up));
}

// Spectra are of what is stored, whatever type the forward pass has.
TEST(LayerStream, matrices_stored_in_float64_are_read_once_for_both_types) {
  const CopiedModel copy("llama",
                         [](const std::string&, const Tensor& tensor) { return tensor.to(at::kDouble) + 0x1p-40; });
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::correct);
  const LoadedLayer& loaded = stream.load(0, {.weights = true, .sliced = kAllRoles, .values = true});
  ASSERT_TRUE(loaded.is_good());
  EXPECT_EQ(model.store.bytes_read(), stored_bytes(model, 0));
  for (const MatrixRole role : kAllRoles) EXPECT_EQ(loaded.sliced.at(role).scalar_type(), at::kDouble);
  EXPECT_EQ(loaded.weights->w_q.weight.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(loaded.weights->mlp_up.weight, loaded.matrices.at(MatrixRole::w_up).to(at::kFloat)));
  EXPECT_FALSE(at::equal(loaded.weights->mlp_up.weight.to(at::kDouble), loaded.matrices.at(MatrixRole::w_up)));
}

TEST(LayerStream, layers_that_stay_are_not_read_again) {
  const CopiedModel copy("llama");
  const OpenModel model = copy.open();
  const LayerNeeds needs{.weights = true, .sliced = kAttention, .values = true};
  const std::int64_t of_layer = layer_size_bytes(model.description, 0, ComputeType::float32);
  ASSERT_EQ(of_layer, layer_size_bytes(model.description, 1, ComputeType::float32));
  const auto pass = [&](LayerStream& stream) {
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      stream.load(layer, needs);
      stream.release(layer);
    }
  };
  // How many layers stay, for so many bytes.
  const std::vector<std::pair<std::int64_t, std::int64_t>> limits = {
      {0, 0}, {of_layer - 1, 0}, {of_layer, 1}, {2 * of_layer, 2}};
  for (const auto& [bytes, num_staying] : limits) {
    SCOPED_TRACE(bytes);
    LayerStream stream(model, ComputeType::float32, Slicing::correct);
    stream.may_keep(bytes);
    pass(stream);
    for (std::int64_t layer = 0; layer < 2; ++layer) EXPECT_EQ(stream.is_loaded(layer), layer < num_staying);
    const std::uint64_t before = model.store.bytes_read();
    pass(stream);
    EXPECT_EQ(model.store.bytes_read() - before, static_cast<std::uint64_t>(2 - num_staying) * stored_bytes(model, 1));
    stream.may_keep(0);
    EXPECT_FALSE(stream.is_loaded(0));
  }
}

// Without weights for the forward pass, nobody comes for it again.
TEST(LayerStream, layers_of_spectra_alone_do_not_stay) {
  const CopiedModel copy("llama");
  const OpenModel model = copy.open();
  LayerStream stream(model, ComputeType::float32, Slicing::correct);
  stream.may_keep(std::int64_t{1} << 30);
  stream.load(0, {.sliced = kAttention});
  stream.release(0);
  EXPECT_FALSE(stream.is_loaded(0));
}

}  // namespace
}  // namespace spectrace
