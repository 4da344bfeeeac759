#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "expect_input_error.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

at::Tensor counted(const std::vector<std::int64_t>& shape, at::ScalarType type) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return at::arange(1, count + 1, at::kLong).to(type).reshape(shape);
}

class CheckpointFilesTest : public testing::Test {
 protected:
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  TensorStore open() const { return TensorStore::open(folder_.path()); }
  void expect_open_refused(std::initializer_list<std::string> parts) const {
    expect_input_error(ErrorKind::model, parts, [&] { open(); });
  }

  TempFolder folder_;
};

TEST_F(CheckpointFilesTest, index_decides_between_two_copies) {
  const at::Tensor older = counted({2, 3}, at::kHalf), newer = counted({2, 3}, at::kHalf) + 7;
  write_safetensors(file("one.safetensors"), {{"a", older}, {"b", newer}, {"c", newer}});
  write_safetensors(file("two.safetensors"), {{"a", newer}, {"b", older}});
  write_bytes(file("model.safetensors.index.json"),
              R"({"weight_map": {"a": "two.safetensors", "b": "one.safetensors", "c": "one.safetensors"}})");
  const auto store = open();
  ASSERT_EQ(store.tensors().size(), 3u);
  for (const char* name : {"a", "b", "c"})
    EXPECT_TRUE(at::equal(store.read(*store.find(name), ComputeType::float32), newer.to(at::kFloat))) << name;
  ASSERT_EQ(store.warnings().size(), 1u);
  EXPECT_NE(store.warnings()[0].find("2 tensors are in another shard than 'model.safetensors.index.json' says"),
            std::string::npos);
  EXPECT_NE(store.warnings()[0].find("'a' in 'one.safetensors'"), std::string::npos);
}

TEST_F(CheckpointFilesTest, tied_pair_of_which_the_metadata_name_the_other) {
  const at::Tensor head = counted({3, 2}, at::kFloat);
  write_bytes(file("model.safetensors"),
              safetensors_bytes(R"({"__metadata__":{"embed.weight":"lm_head.weight"},)"
                                R"("lm_head.weight":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}})",
                                std::string(static_cast<const char*>(head.const_data_ptr()), 24)));
  const auto store = open();
  ASSERT_EQ(store.tensors().size(), 2u);
  for (const char* name : {"embed.weight", "lm_head.weight"}) {
    ASSERT_NE(store.find(name), nullptr);
    EXPECT_TRUE(at::equal(store.read(*store.find(name), ComputeType::float32), head)) << name;
  }
  EXPECT_EQ(store.digest(*store.find("embed.weight")), store.digest(*store.find("lm_head.weight")));
}

TEST_F(CheckpointFilesTest, names_that_wrappers_leave) {
  const at::Tensor a = counted({2}, at::kFloat), b = counted({3}, at::kFloat);
  const auto expect_read = [&](const std::string& first, const std::string& second, const std::string& said) {
    write_safetensors(file("model.safetensors"), {{first, b}, {second, a}});
    const auto store = open();
    ASSERT_NE(store.find("model.z.weight"), nullptr) << first;
    ASSERT_NE(store.find("lm_head.weight"), nullptr) << second;
    EXPECT_TRUE(at::equal(store.read(*store.find("model.z.weight"), ComputeType::float32), b));
    EXPECT_TRUE(at::equal(store.read(*store.find("lm_head.weight"), ComputeType::float32), a));
    ASSERT_EQ(store.warnings().size(), said.empty() ? 0u : 1u);
    for (const auto& warning : store.warnings()) EXPECT_NE(warning.find(said), std::string::npos) << warning;
  };
  expect_read("model.z.weight", "lm_head.weight", "");
  expect_read("_orig_mod.model.z.weight", "_orig_mod.lm_head.weight", "'_orig_mod.' (torch.compile) in them");
  expect_read("model._orig_mod.z.weight", "lm_head.weight", "'_orig_mod.' (torch.compile) in them");
  expect_read("module.model.z.weight", "module.lm_head.weight", "'module.' (DistributedDataParallel) in them");
  expect_read("module._orig_mod.model.z.weight", "module._orig_mod.lm_head.weight", "and 'module.'");
  // What is not in front of every name, or is the end of another word, is part of the name.
  write_safetensors(file("model.safetensors"), {{"module.a", a}, {"b_orig_mod.c", b}});
  EXPECT_TRUE(open().find("module.a") && open().find("b_orig_mod.c") && open().warnings().empty());
  write_safetensors(file("model.safetensors"), {{"a.b", a}, {"a._orig_mod.b", b}});
  expect_open_refused({"tensor 'a.b' is there twice", "torch.compile"});
  write_safetensors(file("model.safetensors"), {{"base_model.model.a", a}, {"base_model.model.b.lora_A.weight", b}});
  expect_open_refused({"begins with 'base_model.model.'", "PEFT", "merge_and_unload"});
}

TEST_F(CheckpointFilesTest, folders_of_something_else) {
  const at::Tensor a = counted({2}, at::kFloat);
  write_safetensors(file("adapter_model.safetensors"), {{"base_model.model.b.lora_A.weight", a}});
  write_bytes(file("adapter_config.json"), R"({"base_model_name_or_path": "org/base", "peft_type": "LORA"})");
  expect_open_refused({"holds a LORA adapter of org/base, and no model", "merge_and_unload"});
  write_bytes(file("adapter_config.json"), "[]");
  expect_open_refused({"adapter of a model that it does not name"});
  write_safetensors(file("model.safetensors"), {{"w", a}});  // the merged model beside its adapter
  EXPECT_NE(open().find("w"), nullptr);
  for (const char* name : {"model.safetensors", "adapter_model.safetensors", "adapter_config.json"})
    fs::remove(file(name));
  write_safetensors(file("consolidated.safetensors"), {{"layers.0.attention.wq.weight", a}});
  expect_open_refused({"'consolidated.safetensors', under their publisher's own names", "convert_mistral"});
  fs::rename(file("consolidated.safetensors"), file("consolidated.00.pth"));
  expect_open_refused({"'consolidated.00.pth', under their publisher's own names"});
  fs::rename(file("consolidated.00.pth"), file("model-Q4_K_M.gguf"));
  expect_open_refused({"holds GGUF alone: 'model-Q4_K_M.gguf'"});
  fs::rename(file("model-Q4_K_M.gguf"), file("any_name.safetensors"));
  EXPECT_NE(open().find("layers.0.attention.wq.weight"), nullptr);
}

}  // namespace
}  // namespace spectrace
