#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <sstream>

#include "spectrace/app/commands.hpp"
#include "spectrace/checkpoint/hub.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/home.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {
namespace {

void print_ids(const Tokenizer& tokenizer, std::string_view text, std::string& out) {
  bool first = true;
  for (const std::int64_t id : tokenizer.encode(text)) {
    fmt::format_to(std::back_inserter(out), "{}{}", first ? "" : " ", id);
    first = false;
  }
  out += '\n';
}

void tokenize_lines(const Tokenizer& tokenizer, std::istream& in) {
  std::string text, out;
  for (std::int64_t number = 1; std::getline(in, text); ++number) {
    try {
      print_ids(tokenizer, text, out);
    } catch (const InputError& error) {
      throw error.in("line " + std::to_string(number));
    }
    if (out.size() > (1 << 16)) {
      std::cout << out;
      out.clear();
    }
  }
  std::cout << out;
}

}  // namespace

std::filesystem::path find_named_model(const std::string& target) {
  try {
    return find_model_folder(target, std::filesystem::current_path(), {});
  } catch (const InputError& error) {  // a job has other models to go on with; here nothing is left to read
    throw InputError(ErrorKind::io, error.problem(), error.why(), error.suggestion());
  }
}

int command_tokenize(const CommandLine& line) {
  const Tokenizer tokenizer = Tokenizer::load(find_named_model(line.target));
  for (const auto& warning : tokenizer.choice().warnings) log_warning("{}", warning);
  if (line.text) {
    std::istringstream text(*line.text + "\n");
    tokenize_lines(tokenizer, text);
  } else if (line.file) {
    const std::filesystem::path path = expand_home(*line.file);
    std::istringstream file(read_text_file(path, text::kMaxPromptFileBytes));
    tokenize_lines(tokenizer, file);
  } else {
    std::ios::sync_with_stdio(false);
    tokenize_lines(tokenizer, std::cin);
  }
  return 0;
}

}  // namespace spectrace
