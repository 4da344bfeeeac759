#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "expect_input_error.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* fp8_16_by_8 =
    R"({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [16, 8]}})";
constexpr const char* mxfp4_config = R"({"quantization_config": {"quant_method": "mxfp4"}})";

/// All finite codes, several times over.
at::Tensor float8_codes(std::vector<std::int64_t> shape, at::ScalarType type = at::kFloat8_e4m3fn) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  const at::Tensor finite = at::remainder(at::arange(count, at::kLong) * 37 + 5, 120);
  const at::Tensor sign = at::remainder(at::arange(count, at::kLong), 2) * 128;
  return (finite + sign).to(at::kByte).reshape(shape).view(type);
}

/// What a block's scale makes of its elements, by torch.
at::Tensor multiplied(const at::Tensor& codes, const at::Tensor& scales, std::int64_t rows, std::int64_t columns,
                      at::ScalarType type) {
  const auto spread = [](const at::Tensor& grid, std::int64_t times, std::int64_t dim, std::int64_t size) {
    return grid.repeat_interleave(times, dim).narrow(dim, 0, size);
  };
  const at::Tensor by_rows = spread(scales.to(type), rows, -2, codes.size(-2));
  return codes.to(type) * spread(by_rows, columns, -1, codes.size(-1));
}

class ScaledWeights : public testing::Test {
 protected:
  void TearDown() override { set_num_threads(1); }

  fs::path file(const std::string& name) const { return folder_.path() / name; }
  TensorStore open(IoMode io = IoMode::automatic) const { return TensorStore::open(folder_.path(), io); }

  void write(const std::string& config, const std::vector<std::pair<std::string, at::Tensor>>& tensors) const {
    write_bytes(file("config.json"), config);
    write_safetensors(file("model.safetensors"), tensors);
  }
  void expect_refused(std::initializer_list<std::string> parts) const {
    expect_input_error(ErrorKind::model, parts, [&] { open(); });
  }
  void expect_every_way_reads(const std::string& name, const at::Tensor& expected) const;

  TempFolder folder_;
};

/// Whole, by blocks of rows, by chosen rows, on one thread and several; expected is float32 or float64.
void ScaledWeights::expect_every_way_reads(const std::string& name, const at::Tensor& expected) const {
  const auto type = expected.scalar_type() == at::kDouble ? ComputeType::float64 : ComputeType::float32;
  for (const auto io : {IoMode::mmap, IoMode::read})
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      const auto store = open(io);
      ASSERT_NE(store.find(name), nullptr);
      const TensorInfo& tensor = *store.find(name);
      EXPECT_EQ(tensor.shape, expected.sizes().vec());
      EXPECT_TRUE(at::equal(store.read(tensor, type), expected));
      EXPECT_TRUE(at::equal(store.read(tensor, type, Widening::later), expected));
      std::vector<std::int64_t> rows;
      for (std::int64_t first = 0; first < expected.size(0); first += 5) {
        at::Tensor out = at::empty_like(expected.narrow(0, first, std::min<std::int64_t>(5, expected.size(0) - first)));
        store.read_rows(tensor, first, out);
        EXPECT_TRUE(at::equal(out, expected.narrow(0, first, out.size(0)))) << first;
        rows.insert(rows.begin(), first);
      }
      std::map<std::int64_t, std::string> bad;
      const at::Tensor index = at::tensor(at::ArrayRef<std::int64_t>(rows), at::kLong);
      EXPECT_TRUE(at::equal(store.gather_rows(tensor, rows, type, bad), expected.index_select(0, index)));
      EXPECT_TRUE(bad.empty());
      const auto once_more = open(io);
      EXPECT_EQ(once_more.read_digest(*once_more.find(name)), store.digest(tensor));
    }
}

/// A folder that tests/data/checkpoint/make_scaled.py wrote, and what transformers makes of its tensors.
class PublishedLayouts : public ScaledWeights {
 protected:
  std::map<std::string, at::Tensor> load(const std::string& name) const {
    const fs::path source = fs::path(SPECTRACE_SOURCE_DIR) / "tests" / "data" / "checkpoint" / name;
    for (const char* part : {"config.json", "model.safetensors"}) fs::copy_file(source / part, file(part));
    const TempFolder other;
    fs::copy_file(source / "expected.safetensors", other.path() / "model.safetensors");
    const auto store = TensorStore::open(other.path());
    std::map<std::string, at::Tensor> expected;
    for (const TensorInfo& tensor : store.tensors())
      expected[tensor.name] =
          store.read(tensor, tensor.name.ends_with("64") ? ComputeType::float64 : ComputeType::float32);
    return expected;
  }
};

TEST_F(PublishedLayouts, float8_by_blocks_is_what_transformers_makes_of_it) {
  const auto expected = load("fp8_blocks");
  for (const auto& [name, values] : expected) expect_every_way_reads(name.substr(0, name.size() - 8), values);
  const auto store = open();
  ASSERT_EQ(store.tensors().size(), 3u);  // no scales among them
  EXPECT_EQ(store.find("a.weight")->type, StorageType::float8_e4m3);
  EXPECT_EQ(decoding_text(store),
            "1 tensor is float8_e4m3 times a bfloat16 scale for each block of 16 x 8 (exact); 1 tensor is float8_e4m3 "
            "times a float32 scale for each block of 16 x 8 (exact in float64, rounded once in float32)");
  EXPECT_TRUE(store.find("a.weight")->exceeds_float32());
  EXPECT_FALSE(store.find("b.weight")->exceeds_float32());
  EXPECT_NO_THROW(refuse_quantized(store, JsonNode::parse_text(fp8_16_by_8, "config.json", ErrorKind::model)));
}

TEST_F(PublishedLayouts, mxfp4_is_what_transformers_makes_of_it) {
  const at::Tensor expected = load("mxfp4").at("w.float32");
  expect_every_way_reads("w", expected);
  expect_every_way_reads("w", expected.to(at::kDouble));
  const auto store = open();
  ASSERT_EQ(store.tensors().size(), 1u);
  EXPECT_EQ(store.find("w")->type, StorageType::mxfp4);
  EXPECT_EQ(store.bytes_read(), 0u);
  store.read(*store.find("w"), ComputeType::float32);
  EXPECT_EQ(store.bytes_read(), 2u * 40 * 3 * 17);  // each byte once
  EXPECT_EQ(decoding_text(store), "1 tensor is mxfp4, multiplied out (exact) and transposed");
  EXPECT_NO_THROW(refuse_quantized(store, JsonNode::parse_text(mxfp4_config, "config.json", ErrorKind::model)));
}

// Blocks of 128 x 128 that are cut, rows that end within chunks and segments, several segments; each matrix of three
// dimensions has a grid of its own.
TEST_F(ScaledWeights, float8_of_many_segments_and_of_three_dimensions) {
  const std::string config =
      R"({"text_config": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}})";
  const at::Tensor codes = float8_codes({1100, 3001}), experts = float8_codes({7, 300, 130});
  const at::Tensor scales = at::rand({9, 24}) + 0.1, scales_of_experts = (at::rand({7, 3, 2}) + 0.1).to(at::kHalf);
  write(config, {{"w.weight", codes},
                 {"w.weight_scale_inv", scales},
                 {"w.activation_scale", at::ones({})},
                 {"experts.up", experts},
                 {"experts.up_scale_inv", scales_of_experts}});
  for (const auto type : {at::kFloat, at::kDouble}) {
    expect_every_way_reads("w.weight", multiplied(codes, scales, 128, 128, type));
    expect_every_way_reads("experts.up", multiplied(experts, scales_of_experts, 128, 128, type));
  }
  EXPECT_EQ(open().tensors().size(), 2u);
  EXPECT_GT(num_segments(*open().find("w.weight")), 3);
}

TEST_F(ScaledWeights, one_scale_in_all_and_one_for_each_row) {
  const at::Tensor codes = float8_codes({19, 300});
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {1}, {1, 1}}) {
    const at::Tensor scale = at::full(shape, 0.37, at::kBFloat16);
    write(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": null}})",
          {{"w.weight", codes}, {"w.weight_scale_inv", scale}});
    expect_every_way_reads("w.weight", codes.to(at::kDouble) * scale.to(at::kDouble).reshape({1, 1}));
  }
  const at::Tensor rows = at::rand({19, 1});
  write(R"({"quantization_config": {"quant_method": "fbgemm_fp8"}})",
        {{"w.weight", codes}, {"w.weight_scale", rows}, {"w.input_scale_ub", at::ones({1})}});
  expect_every_way_reads("w.weight", codes.to(at::kDouble) * rows.to(at::kDouble));
  EXPECT_EQ(decoding_text(open()),
            "1 tensor is float8_e4m3 times a float32 scale for each row (exact in float64, rounded once in float32)");
}

TEST_F(ScaledWeights, scales_that_are_powers_of_two) {
  const at::Tensor codes = float8_codes({3, 256});
  const at::Tensor powers = at::arange(255, at::kByte);  // 255 is NaN
  at::Tensor grid = at::zeros({3, 86}, at::kByte);
  grid.flatten().narrow(0, 0, 255).copy_(powers);
  write(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 3]}})",
        {{"w.weight", codes}, {"w.weight_scale_inv", grid.view(at::kFloat8_e8m0fnu)}});
  const at::Tensor scales = at::pow(2.0, grid.to(at::kDouble) - 127);
  expect_every_way_reads("w.weight", multiplied(codes, scales, 1, 3, at::kDouble));
}

TEST_F(ScaledWeights, weight_and_scales_in_two_shards) {
  const at::Tensor codes = float8_codes({20, 9}), scales = at::rand({2, 2});
  write_bytes(file("config.json"), fp8_16_by_8);
  write_safetensors(file("1.safetensors"), {{"w.weight", codes}});
  write_safetensors(file("2.safetensors"), {{"x.weight", at::ones({3})}, {"w.weight_scale_inv", scales}});
  write_bytes(file("model.safetensors.index.json"),
              R"({"weight_map": {"w.weight": "1.safetensors", "x.weight": "2.safetensors",
                                 "w.weight_scale_inv": "2.safetensors"}})");
  expect_every_way_reads("w.weight", multiplied(codes, scales, 16, 8, at::kDouble));
}

TEST_F(ScaledWeights, digest_sees_codes_scales_and_blocks) {
  const at::Tensor codes = float8_codes({33, 17}), scales = at::rand({3, 3});
  const auto digest = [&](const at::Tensor& c, const at::Tensor& s, const std::string& config = fp8_16_by_8) {
    write(config, {{"w.weight", c}, {"w.weight_scale_inv", s}});
    const auto store = open();
    const std::string read = store.read_digest(*store.find("w.weight"));
    const auto other = open();
    other.read(*other.find("w.weight"), ComputeType::float32);
    EXPECT_EQ(other.digest(*other.find("w.weight")), read);
    return read;
  };
  const std::string given = digest(codes, scales);
  EXPECT_EQ(digest(codes, scales), given);
  at::Tensor other_codes = codes.view(at::kByte).clone(), other_scales = scales.clone();
  other_codes[32][16] = 1;
  other_scales[2][2] = 5;
  EXPECT_NE(digest(other_codes.view(at::kFloat8_e4m3fn), scales), given);
  EXPECT_NE(digest(codes, other_scales), given);
  EXPECT_NE(digest(codes, scales, R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [15, 8]}})"),
            given);
}

TEST_F(ScaledWeights, numbers_that_are_not_finite_are_named) {
  at::Tensor codes = float8_codes({20, 9}).view(at::kByte).clone();
  codes[18][7] = 0xff;
  write(fp8_16_by_8, {{"w.weight", codes.view(at::kFloat8_e4m3fn)}, {"w.weight_scale_inv", at::ones({2, 2})}});
  auto store = open();
  expect_input_error(ErrorKind::model, {"'w.weight'", "1 of 180", "NaN at [18, 7]"},
                     [&] { store.read(*store.find("w.weight"), ComputeType::float32); });
  at::Tensor scales = at::full({1, 4, 1}, 127, at::kByte);
  scales[0][2][0] = 255;
  write(mxfp4_config, {{"w_blocks", at::ones({1, 4, 1, 16}, at::kByte)}, {"w_scales", scales}});
  store = open();
  expect_input_error(ErrorKind::model, {"'w'", "32 of 128", "NaN at [0, 0, 2]"},
                     [&] { store.read(*store.find("w"), ComputeType::float64); });
}

TEST_F(ScaledWeights, float8_that_lacks_or_does_not_fit_its_scales) {
  const at::Tensor codes = float8_codes({20, 9}), scales = at::ones({2, 2});
  write(fp8_16_by_8, {{"a.weight", codes}, {"a.weight_scale", scales}});
  expect_refused({"'a.weight' is float8_e4m3 without its scales", "'a.weight_scale_inv', which is absent",
                  "'a.weight_scale' is another kind", file("model.safetensors").string()});
  for (const at::Tensor& wrong : {at::ones({2, 3}), at::ones({4}), at::ones({}), at::ones({2, 2}, at::kDouble)}) {
    write(fp8_16_by_8, {{"a.weight", codes}, {"a.weight_scale_inv", wrong}});
    expect_refused({"'a.weight_scale_inv' is", "shape [2, 2]: one for each block of [16, 8] of 'a.weight' [20, 9]"});
  }
  write(fp8_16_by_8, {{"a.weight", at::ones({20, 9}, at::kBFloat16)}, {"a.weight_scale_inv", scales}});
  expect_refused({"'a.weight_scale_inv' is a scale", "'a.weight' is bfloat16 [20, 9]"});
  write(fp8_16_by_8, {{"b.weight", codes}, {"b.weight_scale_inv", scales}, {"a.weight_scale_inv", scales}});
  expect_refused({"'a.weight_scale_inv' is a scale", "the weight is absent"});
  write(fp8_16_by_8, {{"a.weight", float8_codes({20, 9}, at::kFloat8_e5m2)}, {"a.weight_scale_inv", scales}});
  expect_refused({"'a.weight' is float8_e5m2", "e4m3"});
  write(fp8_16_by_8, {{"a.weight", float8_codes({20})}, {"a.weight_scale_inv", at::ones({2})}});
  expect_refused({"'a.weight' is float8_e4m3 [20] with scales", "only matrices"});
}

TEST_F(ScaledWeights, config_that_says_what_is_not_known) {
  const at::Tensor codes = float8_codes({20, 9}), scales = at::ones({2, 2});
  const std::vector<std::pair<std::string, at::Tensor>> tensors = {{"a.weight", codes}, {"a.weight_scale_inv", scales}};
  write(R"({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}})", tensors);
  expect_refused({"/quantization_config/fmt", "e5m2"});
  write(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}})", tensors);
  expect_refused({"/quantization_config/weight_block_size", "[rows, columns]"});
  write(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 8]}})", tensors);
  expect_refused({"/quantization_config/weight_block_size/0", "at least 1"});
  for (const char* config : {"{}", R"({"quantization_config": {"quant_method": "compressed-tensors"}})"}) {
    write(config, tensors);
    expect_refused({"'a.weight' is float8_e4m3 [20, 9]", "'a.weight_scale_inv' seems to be its scale", "known: fp8"});
  }
}

TEST_F(ScaledWeights, mxfp4_that_lacks_or_does_not_fit_its_scales) {
  const at::Tensor blocks = at::zeros({2, 4, 3, 16}, at::kByte), scales = at::zeros({2, 4, 3}, at::kByte);
  write(mxfp4_config, {{"w_blocks", blocks}});
  expect_refused({"'w_blocks' is without its scales", "'w_scales', which is absent"});
  write(mxfp4_config, {{"w_scales", scales}});
  expect_refused({"'w_scales' is without its blocks"});
  write(mxfp4_config, {{"w_blocks", blocks}, {"w_scales", at::zeros({2, 4, 2}, at::kByte)}});
  expect_refused({"'w_scales' is uint8 [2, 4, 2]", "expected uint8 [2, 4, 3]"});
  write(mxfp4_config, {{"w_blocks", at::zeros({4, 3, 16}, at::kByte)}, {"w_scales", at::zeros({4, 3}, at::kByte)}});
  expect_refused({"'w_blocks' is uint8 [4, 3, 16]", "[experts, rows, blocks, 16]"});
  write(mxfp4_config, {{"w", at::ones({2})}, {"w_blocks", blocks}, {"w_scales", scales}});
  expect_refused({"'w_blocks' stands for 'w'", "as well"});
}

TEST_F(ScaledWeights, empty_matrices) {
  write(fp8_16_by_8, {{"w.weight", float8_codes({0, 9})}, {"w.weight_scale_inv", at::ones({0, 2})}});
  const auto store = open();
  EXPECT_EQ(store.read(*store.find("w.weight"), ComputeType::float32).numel(), 0);
  EXPECT_EQ(store.read_digest(*store.find("w.weight")).size(), 32u);
}

TEST_F(ScaledWeights, float8_by_itself_is_a_number_like_others) {
  const at::Tensor codes = float8_codes({20, 9}), wide = float8_codes({11}, at::kFloat8_e5m2);
  write("{}", {{"a.weight", codes}, {"b.bias", wide}});
  expect_every_way_reads("a.weight", codes.to(at::kFloat));
  expect_every_way_reads("b.bias", wide.to(at::kDouble));
  EXPECT_NO_THROW(refuse_quantized(open(), JsonNode::parse_text("{}", "config.json", ErrorKind::model)));
  EXPECT_EQ(decoding_text(open()), "");
}

}  // namespace
}  // namespace spectrace
