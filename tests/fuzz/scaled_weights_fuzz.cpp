#include "fuzz/checkpoint.hpp"

// A file of weights and their scales under each of the configurations that join them: one of them has to take the seed.
std::string spectrace::fuzz::take(std::string_view bytes) {
  std::string refused;
  bool is_taken = false;
  for (const char* config : {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 8]}})",
                             R"({"quantization_config": {"quant_method": "fp8"}})",
                             R"({"quantization_config": {"quant_method": "fbgemm_fp8"}})",
                             R"({"quantization_config": {"quant_method": "mxfp4"}})"}) {
    const std::string error = take_file(bytes, "model.safetensors", [&](const std::filesystem::path& path) {
      std::ofstream(path.parent_path() / "config.json") << config;
      const auto store = TensorStore::open(path.parent_path(), IoMode::read);
      for (const auto& tensor : store.tensors()) {
        if (tensor.num_elements() > 100'000) continue;
        store.read_digest(tensor);
        if (is_floating(tensor.type)) store.read(tensor, ComputeType::float32);
      }
    });
    is_taken |= error.empty();
    refused += error;
  }
  return is_taken ? std::string() : refused;
}
