#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/plan/open_model.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {

/// A copy of a committed model whose tensors are written anew, changed.
class CopiedModel {
 public:
  using Change = std::function<Tensor(const std::string& name, const Tensor& tensor)>;

  explicit CopiedModel(
      const std::string& name, const Change& change = [](const std::string&, const Tensor& tensor) { return tensor; }) {
    const auto source = std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model" / name;
    std::filesystem::copy_file(source / "config.json", folder_.path() / "config.json");
    const TensorStore store = TensorStore::open(source);
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const TensorInfo& info : store.tensors())
      tensors.emplace_back(info.name, change(info.name, store.read(info, ComputeType::float32)));
    write_safetensors(folder_.path() / "model.safetensors", tensors);
  }

  OpenModel open() const { return open_model_folder(folder_.path(), IoMode::automatic); }

 private:
  const TempFolder folder_;
};

/// A change that makes the matrix of layer 0 whose name ends so unreadable.
inline CopiedModel::Change broken(const std::string& matrix) {
  return [matrix](const std::string& name, const Tensor& tensor) {
    if (name.find("layers.0.") != std::string::npos && name.ends_with(matrix))
      tensor[1][2] = std::numeric_limits<float>::quiet_NaN();
    return tensor;
  };
}

}  // namespace spectrace
