#pragma once

#include "fuzz/target.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"

namespace spectrace::fuzz {

/// Opens the bytes as a checkpoint file and reads every small tensor that may be read.
inline std::string take_checkpoint(std::string_view bytes, const std::string& name) {
  return take_file(bytes, name, [](const std::filesystem::path& path) {
    const auto store = TensorStore::open(path.parent_path(), IoMode::read);
    for (const auto& tensor : store.tensors())
      if (is_floating(tensor.type) && tensor.num_elements() < 100'000) store.read(tensor, ComputeType::float32);
  });
}

}  // namespace spectrace::fuzz
