// The fuzz targets of tests/fuzz on a fixed series of mutations: whatever the bytes, only an InputError may come out.
#include <gtest/gtest.h>

#include <filesystem>

#include "fuzz/checkpoint_target.hpp"
#include "fuzz/mutator.hpp"
#include "spectrace/core/file.hpp"
#include "support/safetensors_writer.hpp"

namespace spectrace {
namespace {

constexpr int num_mutations = 3000;

/// Both outcomes have to occur, or the mutations are too weak or too strong to try anything.
void mutate_checkpoint(const std::string& seed, const std::string& name, std::uint64_t number) {
  ASSERT_TRUE(open_as_checkpoint(seed, name));
  Mutator mutator(number);
  int taken = 0;
  for (int i = 0; i < num_mutations; ++i) taken += open_as_checkpoint(mutator.mutate(seed), name);
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, num_mutations);
}

TEST(Mutation, safetensors) {
  const TempFolder folder;
  const auto path = folder.path() / "seed.safetensors";
  write_safetensors(path, {{"model.embed.weight", at::arange(12, at::kFloat).reshape({4, 3})},
                           {"model.mask", at::zeros({2, 2}, at::kByte)},
                           {"model.norm.weight", at::ones({5}, at::kBFloat16)},
                           {"none", at::zeros({0, 3}, at::kHalf)},
                           {"scalar", at::ones({}, at::kDouble)}});
  mutate_checkpoint(read_text_file(path), "model.safetensors", 1);
}

TEST(Mutation, torch_archives) {
  const auto folder = std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests" / "data" / "checkpoint";
  std::uint64_t number = 2;
  for (const char* name : {"types.bin", "types_protocol4.bin", "views.bin", "nested.bin"}) {
    SCOPED_TRACE(name);
    mutate_checkpoint(read_text_file(folder / name), "pytorch_model.bin", number++);
  }
}

}  // namespace
}  // namespace spectrace
