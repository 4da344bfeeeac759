#include "vetting.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "limited_process.hpp"
#include "result_reading.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/log.hpp"

namespace spectrace {
namespace {

constexpr std::size_t kMostErrorBytes = 4096;  // of each part of an error

std::vector<std::string>& vetting_command() {
  static std::vector<std::string> command;
  return command;
}

/// In proportion to the bytes that lie on the disk, which a size alone, of a file with holes, says nothing of.
ProcessLimits limits_for(const FileReader& file) {
  struct stat status {};
  ::fstat(file.descriptor(), &status);
  const auto stored_bytes =
      std::min<std::uint64_t>(file.size_bytes(), static_cast<std::uint64_t>(status.st_blocks) * 512);
  constexpr std::uint64_t kSlowestBytesPerSecond = 5'000'000;
  return {.seconds = 10 + stored_bytes / kSlowestBytesPerSecond,
          .memory_bytes = (std::uint64_t{1} << 30) + 8 * stored_bytes,
          .output_bytes = 64 << 10};
}

std::string cut(const std::string& text) { return text.substr(0, kMostErrorBytes); }

}  // namespace

void use_vetting_command(std::vector<std::string> command) { vetting_command() = std::move(command); }

bool has_vetting() { return !vetting_command().empty(); }

bool vet_in_process(const FileReader& file, std::size_t most_values) {
  const ProcessLimits limits = limits_for(file);
  std::vector<std::string> command = vetting_command();
  command.push_back(std::filesystem::absolute(file.path()).string());
  command.push_back(std::to_string(most_values));
  command.push_back(std::to_string(limits.seconds));
  command.push_back(std::to_string(limits.memory_bytes));
  log_debug("'{}' was touched since it was written, or is not of this program: a process of its own reads it first",
            file.path().string());
  const ProcessEnd end = run_limited(command, limits);
  if (!end.failure.empty())
    throw unreadable_results(file.path(),
                             "damaged, or made to do harm: a process that read it did not end well, " + end.failure);
  const Json verdict = Json::parse(end.output, nullptr, /*allow_exceptions=*/false);
  const auto text = [&](const char* key) {
    const auto found = verdict.find(key);
    return found != verdict.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (!verdict.is_object() || text("verdict").empty())
    throw unreadable_results(file.path(), "a process that read it said nothing that can be understood");
  if (text("verdict") == "refused") throw unreadable_results(file.path(), text("why"));
  return text("verdict") == "whole";
}

void vet_results(const std::string& path, const std::string& most_values, const std::string& seconds,
                 const std::string& memory_bytes) {
  const auto number = [](const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); };
  limit_this_process(number(seconds), number(memory_bytes));
  Json verdict;
  try {
    verdict = {
        {"verdict", read_results_here(path, number(most_values), DigestCheck::asked).is_whole ? "whole" : "changed"}};
  } catch (const InputError& error) {
    verdict = {{"verdict", "refused"}, {"why", cut(error.why())}};
  } catch (const std::exception& error) {
    verdict = {{"verdict", "refused"}, {"why", cut(error.what())}};
  }
  const std::string text = verdict.dump(-1, ' ', false, Json::error_handler_t::replace);
  const bool is_said = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  // Libraries' own endings have nothing to add, and HDF5's may stumble over what it was given.
  std::_Exit(is_said ? 0 : 1);
}

}  // namespace spectrace
