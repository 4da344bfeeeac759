// The forward pass on the guarded device: the CPU's bits, every case under tests/data/model.
#include <gtest/gtest.h>

#include "guarded_device.hpp"
#include "model/checkpoint_case.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(case_folder("")))
    if (std::filesystem::exists(entry.path() / "prompts.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct Pass {
  std::vector<Tensor> attentions, boundaries;
  Tensor final_norm;
};

Pass pass_on(const Device& device, const Model& model, const TokenBatch& batch, ComputeType type, bool observe = true) {
  Pass pass;
  Tensor hidden = embed(model.description, model.store, batch, type, device).hidden;
  const auto keep = [](const Tensor& x) { return Device::to_host(x).clone(); };
  pass.boundaries.push_back(keep(hidden));
  std::vector<Tensor> seen(static_cast<std::size_t>(batch.num_prompts()));
  AttentionObserver observer;
  if (observe)
    observer = [&](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores&) {
      EXPECT_EQ(first_head, 0);
      EXPECT_EQ(a.size(0), model.description.num_heads);
      seen[static_cast<std::size_t>(prompt)] = keep(a);
    };
  for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer) {
    const LayerWeights weights =
        on_device(read_layer(model.description, model.store, layer, type, nullptr, Widening::later), device, type);
    run_block(model.description, layer, weights, batch, hidden, observer);
    EXPECT_TRUE(Device::of(hidden) == device);
    pass.boundaries.push_back(keep(hidden));
    pass.attentions.insert(pass.attentions.end(), seen.begin(), seen.end());
  }
  pass.final_norm = keep(apply_final_norm(model.description, model.store, hidden));
  return pass;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

void expect_same_bits(const Model& model, const TokenBatch& batch, ComputeType type) {
  const Pass host = pass_on(Device::cpu(), model, batch, type), there = pass_on(guarded_device(), model, batch, type);
  ASSERT_EQ(host.attentions.size(), there.attentions.size());
  for (std::size_t i = 0; i < host.boundaries.size(); ++i)
    EXPECT_TRUE(same_bits(host.boundaries[i], there.boundaries[i])) << "hidden states at boundary " << i;
  for (std::size_t i = 0; i < host.attentions.size(); ++i)
    EXPECT_TRUE(same_bits(host.attentions[i], there.attentions[i])) << "attention " << i;
  EXPECT_TRUE(same_bits(host.final_norm, there.final_norm));
  EXPECT_TRUE(host.final_norm.isfinite().all().item<bool>());
}

class DeviceForward : public ::testing::TestWithParam<std::string> {
 protected:
  void compare(ComputeType type) {
    const Model model(case_folder(GetParam()));
    const auto node = JsonNode::parse_file(case_folder(GetParam()) / "prompts.json", ErrorKind::prompt);
    expect_same_bits(model, make_batch(node.json().get<std::vector<std::vector<std::int64_t>>>()), type);
  }
};

TEST_P(DeviceForward, float32_has_the_bits_of_the_cpu) { compare(ComputeType::float32); }
TEST_P(DeviceForward, float64_has_the_bits_of_the_cpu) { compare(ComputeType::float64); }

INSTANTIATE_TEST_SUITE_P(Cases, DeviceForward, ::testing::ValuesIn(case_names()),
                         [](const auto& test) { return test.param; });

/// Prompts of so many tokens, no two alike.
TokenBatch made_batch(const Model& model, const std::vector<std::int64_t>& lengths) {
  std::vector<std::vector<std::int64_t>> prompts;
  for (const std::int64_t length : lengths) {
    auto& ids = prompts.emplace_back();
    for (std::int64_t i = 0; i < length; ++i)
      ids.push_back((i * 7 + i * i % 13 + static_cast<std::int64_t>(prompts.size())) % model.description.vocab_size);
  }
  return make_batch(prompts);
}

/// A device cuts work into other pieces than the host's threads: more rows than one chunk has there and here, and a
/// prompt whose attention is cut by rows in both. Products of other heights differ by rounding, so the distance to
/// float64 measures both: float32's own error, not more than twice the host's.
TEST(DevicePieces, long_prompts_are_as_exact_as_on_the_cpu) {
  const Model model(case_folder("llama"));
  const TokenBatch batch = made_batch(model, {4200, 300});
  const std::int64_t entries = model.description.num_heads * 4200 * 4200;
  ASSERT_GE(entries, std::int64_t{1} << 26) << "cut by rows on a device";
  const Pass exact = pass_on(Device::cpu(), model, batch, ComputeType::float64, /*observe=*/false);
  const Pass host = pass_on(Device::cpu(), model, batch, ComputeType::float32, false);
  const Pass there = pass_on(guarded_device(), model, batch, ComputeType::float32, false);
  const double of_host = relative_error(host.final_norm, exact.final_norm);
  EXPECT_GT(of_host, 0);
  EXPECT_LE(relative_error(there.final_norm, exact.final_norm), 2 * of_host);
}

TEST(DevicePieces, several_batches_go_together_with_the_bits_of_each_alone) {
  const Model model(case_folder("qwen2"));
  const Device device = guarded_device();
  const TokenBatch first = made_batch(model, {5, 9}), second = made_batch(model, {17});
  std::vector<Tensor> alone;
  const LayerWeights weights =
      on_device(read_layer(model.description, model.store, 0, ComputeType::float32), device, ComputeType::float32);
  std::vector<BlockBatch> together;
  for (const TokenBatch* batch : {&first, &second}) {
    Tensor hidden = embed(model.description, model.store, *batch, ComputeType::float32, device).hidden;
    together.push_back({batch, hidden.clone(), {}});
    run_block(model.description, 0, weights, *batch, hidden, {});
    alone.push_back(Device::to_host(hidden));
  }
  run_block(model.description, 0, weights, std::span(together));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_FALSE(together[i].error);
    EXPECT_TRUE(same_bits(Device::to_host(together[i].hidden), alone[i]));
  }
}

/// Of all views of a fused matrix only one copy goes there.
TEST(DeviceWeights, each_stored_tensor_goes_once) {
  for (const char* name : {"gpt2", "phi3", "llama"}) {
    const Model model(case_folder(name));
    const LayerWeights host = read_layer(model.description, model.store, 0, ComputeType::float32);
    const std::int64_t before = guarded_bytes_brought();
    const LayerWeights there = on_device(host, guarded_device(), ComputeType::float32);
    EXPECT_EQ(guarded_bytes_brought() - before, layer_size_bytes(model.description, 0, ComputeType::float32)) << name;
    EXPECT_EQ(there.w_q.weight.strides(), host.w_q.weight.strides()) << name;
    EXPECT_TRUE(at::equal(Device::to_host(there.w_v.weight), host.w_v.weight)) << name;
  }
}

}  // namespace
}  // namespace spectrace
