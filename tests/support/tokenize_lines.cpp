// A line of token ids for each input line, and the time that it took: for tests/oracle/tokenizers_differential.py and
// tools/bench/tokenize_against_tokenizers.
//   tokenize_lines MODEL_FOLDER FILE [--json]
// With --json each line is a JSON text, so that newlines and everything else inside a text survive.

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/text/tokenizer.hpp"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  try {
    const spectrace::Stopwatch loading;
    const auto tokenizer = spectrace::Tokenizer::load(argv[1]);
    const double load_s = loading.elapsed_s();
    const bool is_json = argc > 3 && std::string(argv[3]) == "--json";
    std::ifstream file(argv[2], std::ios::binary);
    double encode_s = 0;
    std::string output;
    for (std::string line; std::getline(file, line);) {
      if (is_json) line = spectrace::Json::parse(line).get<std::string>();
      const spectrace::Stopwatch encoding;
      std::vector<std::int64_t> ids;
      std::string error;
      try {
        ids = tokenizer.encode(line);
      } catch (const spectrace::InputError& problem) {
        error = problem.what();
      }
      encode_s += encoding.elapsed_s();
      output.clear();
      for (const auto id : ids) output += (output.empty() ? "" : " ") + std::to_string(id);
      if (!error.empty()) output = "error: " + error;
      std::puts(output.c_str());
    }
    for (const auto& warning : tokenizer.choice().warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
    std::fprintf(stderr, "%s\nload %.3f s, encode %.3f s\n", tokenizer.choice().kind.c_str(), load_s, encode_s);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
