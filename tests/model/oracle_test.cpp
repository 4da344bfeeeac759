// Every case under tests/data/model against transformers (made by tests/oracle/make_checkpoints.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoint_case.hpp"

namespace spectrace {
namespace {

using namespace spectrace::testing;

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(case_folder("")))
    if (std::filesystem::exists(entry.path() / "expected.safetensors"))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// expected.safetensors, in a folder of its own so that TensorStore opens it alone.
class Expected {
 public:
  explicit Expected(const std::filesystem::path& folder) {
    folder_ = std::filesystem::temp_directory_path() /
              ("spectrace-expected-" + folder.filename().string() + "-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(folder / "expected.safetensors", folder_ / "model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    store_.emplace(TensorStore::open(folder_));
  }
  ~Expected() { std::filesystem::remove_all(folder_); }

  Tensor operator()(const std::string& name) const {
    const TensorInfo* info = store_->find(name);
    if (!info) throw std::runtime_error("expected.safetensors has no '" + name + "'");
    return store_->read(*info, ComputeType::float64);
  }

 private:
  std::filesystem::path folder_;
  std::optional<TensorStore> store_;
};

std::vector<std::vector<std::int64_t>> read_prompts(const std::filesystem::path& folder) {
  const auto node = JsonNode::parse_file(folder / "prompts.json", ErrorKind::prompt);
  return node.json().get<std::vector<std::vector<std::int64_t>>>();
}

class OracleTest : public ::testing::TestWithParam<std::string> {};

void expect_agreement(const std::string& name, ComputeType type, double tolerance) {
  const Model model(case_folder(name));
  const Expected expected(case_folder(name));
  const auto prompts = read_prompts(case_folder(name));
  const TokenBatch batch = make_batch(prompts);
  const ForwardResult found = run_forward(model, batch, type);
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const std::string prompt = std::to_string(p);
    const std::int64_t first = batch.row_start[p], count = batch.row_start[p + 1] - first;
    const Tensor attentions = expected("attentions." + prompt), boundaries = expected("boundaries." + prompt);
    for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer)
      EXPECT_LE(relative_error(found.attentions[static_cast<std::size_t>(layer)][p], attentions[layer]), tolerance)
          << "attention of prompt " << p << ", layer " << layer;
    for (std::int64_t b = 0; b <= model.description.num_layers; ++b)
      EXPECT_LE(relative_error(found.boundaries[static_cast<std::size_t>(b)].narrow(0, first, count), boundaries[b]),
                tolerance)
          << "hidden states of prompt " << p << " at boundary " << b;
    EXPECT_LE(relative_error(found.final_norm.narrow(0, first, count), expected("final_norm." + prompt)), tolerance)
        << "final norm of prompt " << p;
  }
}

/// expected.safetensors is made with the oracle's float32 steps in float64.
TEST_P(OracleTest, float64_agrees) { expect_agreement(GetParam(), ComputeType::float64, 1e-10); }

TEST_P(OracleTest, float32_agrees) { expect_agreement(GetParam(), ComputeType::float32, 5e-5); }

TEST_P(OracleTest, attention_weights_are_equal) {
  const Model model(case_folder(GetParam()));
  const Expected expected(case_folder(GetParam()));
  for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer) {
    const std::string number = "." + std::to_string(layer);
    const MatrixRoles roles = attention_roles();
    const auto alone = read_matrices(model.description, model.store, layer, roles, ComputeType::float64);
    const auto whole = matrices_of(read_layer(model.description, model.store, layer, ComputeType::float64), roles);
    EXPECT_TRUE(alone.errors.empty());
    for (const LayerMatrices& matrices : {alone.matrices, whole})
      for (const MatrixRole role : roles)
        EXPECT_TRUE(at::equal(matrices.at(role), expected(info(role).name + number)))
            << "layer " << layer << ", " << info(role).name;
  }
}

TEST_P(OracleTest, uses_every_tensor) {
  const Model model(case_folder(GetParam()));
  EXPECT_EQ(unused_tensors(model.description, model.store), std::vector<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Cases, OracleTest, ::testing::ValuesIn(case_names()),
                         [](const auto& test) { return test.param; });

TEST(OracleTestData, covers_every_family_with_a_forward_pass) {
  std::set<std::string> found, known;
  for (const auto& name : case_names()) found.insert(Model(case_folder(name)).description.family);
  for (const FamilyInfo& family : families())
    if (family.limits.no_forward.empty()) known.insert(family.model_type);
  EXPECT_EQ(found, known);
}

}  // namespace
}  // namespace spectrace
