#include <fstream>

#include "fuzz/target.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {
namespace {

/// A file that is no part of the mutated bytes.
void write_beside(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

constexpr std::string_view kVocabulary = R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4})";
constexpr std::string_view kTokenizer =
    R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "added_tokens": [{"id": 4, "content": "<|endoftext|>"}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4}, "merges": ["a b"]}})";

}  // namespace
}  // namespace spectrace

/// The small files beside a vocabulary: an object of files and their contents, each written as it is.
std::string spectrace::fuzz::take(std::string_view bytes) {
  return take_file(bytes, "all.json", [](const std::filesystem::path& path) {
    const std::filesystem::path folder = path.parent_path();
    const Json files = JsonNode::parse_file(path, ErrorKind::model).json();
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"}) {
      std::filesystem::remove(folder / name);
      if (files.is_object() && files.contains(name)) write_beside(folder / name, files[name].dump());
    }
    write_beside(folder / "vocab.json", kVocabulary);
    write_beside(folder / "merges.txt", "a b\n");
    std::filesystem::remove(folder / "tokenizer.json");
    std::string refused;
    for (const bool has_tokenizer_json : {false, true}) {
      if (has_tokenizer_json) write_beside(folder / "tokenizer.json", kTokenizer);
      try {
        const auto tokenizer = Tokenizer::load(folder);
        for (const char* text : {"", "ab a<|endoftext|>b", " <x>  ab"}) tokenizer.encode(text);
        tokenizer.choice().to_json().dump();
      } catch (const InputError& error) {  // the other folder is tried all the same
        refused = error.what();
      }
    }
    if (!refused.empty()) throw InputError(ErrorKind::model, refused);
  });
}
