#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "spectrace/app/commands.hpp"
#include "spectrace/store/diff.hpp"
#include "spectrace/store/result_file.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

std::set<std::string> result_names(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".h5") names.insert(entry.path().filename().string());
  return names;
}

std::vector<std::string> diff_files(const fs::path& a, const fs::path& b, const DiffTolerance& tolerance) {
  return diff_trees(read_result_file(a), read_result_file(b), tolerance);
}

}  // namespace

int command_diff(const CommandLine& line) {
  const DiffTolerance tolerance{line.rtol, line.atol};
  const fs::path a = line.diff_a, b = line.diff_b;
  for (const auto& path : {a, b})
    if (!fs::exists(path)) throw InputError(ErrorKind::io, "'" + path.string() + "' does not exist");
  bool differs = false;
  const auto report = [&](const std::string& name, const std::vector<std::string>& lines) {
    for (const auto& text : lines) fmt::print("{}{}\n", name.empty() ? "" : name + ": ", text);
    differs |= !lines.empty();
  };
  if (!fs::is_directory(a) || !fs::is_directory(b)) {
    if (fs::is_directory(a) || fs::is_directory(b))
      throw InputError(ErrorKind::usage, "a folder and a file cannot be compared", "",
                       "Give two folders or two files.");
    report("", diff_files(a, b, tolerance));
  } else {
    const auto in_a = result_names(a), in_b = result_names(b);
    for (const auto& name : in_a)
      if (!in_b.contains(name)) report(name, {"only in " + a.string()});
    for (const auto& name : in_b)
      if (!in_a.contains(name)) report(name, {"only in " + b.string()});
    for (const auto& name : in_a)
      if (in_b.contains(name)) report(name, diff_files(a / name, b / name, tolerance));
    if (in_a.empty() && in_b.empty()) throw InputError(ErrorKind::io, "neither folder holds results (*.h5)");
  }
  if (!differs) fmt::print("no differences\n");
  return differs ? 1 : 0;
}

}  // namespace spectrace
