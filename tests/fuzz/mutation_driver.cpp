// Runs a fuzz target without libFuzzer: PROGRAM COUNT [--draw N] FILE... mutates each file COUNT times, the same way
// every time; JSON by its tree every other time. Another draw gives other mutations: long runs are shared out by it.
// Some mutations have to be taken and some refused, or they are too weak or too strong to try anything.
// An input that crashes the target, or that it doesn't leave within a minute, is kept as ./crash-PROGRAM-DRAW-FILE.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "fuzz/json_mutator.hpp"
#include "fuzz/mutator.hpp"
#include "fuzz/target.hpp"
#include "spectrace/core/file.hpp"

namespace {

constexpr long kMostSeconds = 60;

// What a signal's handler needs, ready before one comes.
const char* crash_name = nullptr;
const char* input_data = nullptr;
std::size_t input_size = 0;

void keep_input(int signal) {
  const int file = ::open(crash_name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  if (file >= 0 && ::write(file, input_data, input_size) >= 0) ::close(file);
  constexpr char hint[] = "the input is kept in ";
  if (::write(STDERR_FILENO, hint, sizeof hint - 1) < 0 ||
      ::write(STDERR_FILENO, crash_name, std::strlen(crash_name)) < 0 || ::write(STDERR_FILENO, "\n", 1) < 0)
    ::_exit(99);
  std::signal(signal, SIG_DFL);
  ::raise(signal);
}

/// On a stack of its own: the target's may be what has run out.
void keep_what_crashes() {
#ifdef __SANITIZE_ADDRESS__  // its own report says more
  std::signal(SIGALRM, keep_input);
#else
  static std::vector<char> memory(64 << 10);
  const stack_t stack{.ss_sp = memory.data(), .ss_flags = 0, .ss_size = memory.size()};
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = keep_input;
  action.sa_flags = SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGALRM}) ::sigaction(signal, &action, nullptr);
#endif
}

std::string take(const std::string& input) {
  input_data = input.data();
  input_size = input.size();
  ::alarm(kMostSeconds);
  std::string refusal = spectrace::fuzz::take(input);
  ::alarm(0);
  return refusal;
}

}  // namespace

int main(int num_arguments, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + num_arguments);
  const bool has_draw = words.size() > 2 && words[1] == "--draw";
  if (words.size() < (has_draw ? 4u : 2u)) {
    std::fprintf(stderr, "usage: %s COUNT [--draw N] FILE...\n", arguments[0]);
    return 2;
  }
  const long count = std::atol(words[0].c_str());
  const std::uint64_t draw = has_draw ? std::strtoull(words[2].c_str(), nullptr, 10) : 0;
  keep_what_crashes();
  int code = 0;
  const std::size_t first = has_draw ? 3 : 1;
  for (std::size_t i = first; i < words.size(); ++i) {
    const std::string seed = spectrace::read_text_file(words[i]);
    const std::string name = "crash-" + std::filesystem::path(arguments[0]).filename().string() + "-" +
                             std::to_string(draw) + "-" + std::to_string(i - first + 1);
    crash_name = name.c_str();
    const std::string refusal = take(seed);
    const std::uint64_t start = draw * 1'000'003 + (i - first + 2);
    spectrace::Mutator mutator(start);
    spectrace::JsonMutator json_mutator(start);
    long taken = 0;
    for (long k = 0; k < count; ++k) {
      const auto of_tree = k % 2 == 0 ? json_mutator.mutate(seed) : std::nullopt;
      taken += take(of_tree ? *of_tree : mutator.mutate(seed)).empty();
      if ((k + 1) % 1'000'000 == 0) std::fprintf(stderr, "%s: %ld of %ld\n", words[i].c_str(), k + 1, count);
    }
    const bool good = refusal.empty() && taken > 0 && taken < count;
    std::printf("%s: %ld of %ld mutations taken%s\n", words[i].c_str(), taken, count, good ? "" : " (FAILED)");
    if (!refusal.empty()) std::printf("the file itself is refused: %s\n", refusal.c_str());
    if (!good) code = 1;
  }
  return code;
}
