#include "fuzz/target.hpp"
#include "spectrace/model/adapter.hpp"

// config.json beside an intact checkpoint, the one of the seeds.
std::string spectrace::fuzz::take(std::string_view bytes) {
  static const auto store =
      TensorStore::open(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama_yarn", IoMode::read);
  return take_file(bytes, "config.json", [](const std::filesystem::path& path) {
    const auto description = describe_model(JsonNode::parse_file(path, ErrorKind::model), store);
    unused_tensors(description, store);
  });
}
