#include "fuzz/target.hpp"
#include "spectrace/text/prompt_set.hpp"

// The first byte chooses the kind of file.
std::string spectrace::fuzz::take(std::string_view bytes) {
  if (bytes.empty()) return "no bytes";
  const char* names[] = {"prompts.jsonl", "prompts.txt", "prompts.csv", "prompts.tsv"};
  const auto kind = static_cast<unsigned char>(bytes.front()) % 4;
  return take_file(bytes.substr(1), names[kind], [](const std::filesystem::path& path) { read_prompt_file(path); });
}
