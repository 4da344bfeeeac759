#include "fuzz/target.hpp"
#include "spectrace/text/tokenizer.hpp"

std::string spectrace::fuzz::take(std::string_view bytes) {
  return take_file(bytes, "tokenizer.json", [](const std::filesystem::path& path) {
    const auto tokenizer = Tokenizer::load(path.parent_path());
    for (const char* text :
         {"", "The capital of France is Paris.", "  a\xc3\xa9\xe2\x80\x8d 12\n", "<s> </s><unk><|endoftext|>"})
      tokenizer.encode(text);
  });
}
