#pragma once

#include <fstream>
#include <span>
#include <string>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/error.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {

/// Opens `bytes` as the checkpoint file `name` and reads every small tensor. Only an InputError may come out; it is
/// swallowed. Returns whether the file was taken.
inline bool open_as_checkpoint(std::span<const char> bytes, const std::string& name) {
  static const TempFolder folder;
  const auto path = folder.path() / name;
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bool taken = false;
  try {
    const auto store = TensorStore::open(folder.path(), IoMode::read);
    taken = true;
    for (const auto& tensor : store.tensors())
      if (tensor.num_elements() < 100'000) store.read(tensor, ComputeType::float32);
  } catch (const InputError&) {
  }
  std::filesystem::remove(path);
  return taken;
}

}  // namespace spectrace
