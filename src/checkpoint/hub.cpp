#include "spectrace/checkpoint/hub.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <tuple>
#include <vector>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> environment_path(const char* variable) {
  const char* const value = std::getenv(variable);
  if (!value || !*value) return std::nullopt;
  return fs::path(value);
}

/// In the order of the hub's own client.
std::vector<fs::path> hub_caches() {
  std::vector<fs::path> caches;
  if (const auto path = environment_path("HF_HUB_CACHE")) caches.push_back(*path);
  if (const auto path = environment_path("HF_HOME")) caches.push_back(*path / "hub");
  if (const auto path = environment_path("HOME")) caches.push_back(*path / ".cache" / "huggingface" / "hub");
  return caches;
}

/// "models--org--name" of a hub id; nothing if the text cannot be one.
std::optional<std::string> cache_folder_name(const std::string& id) {
  const auto slash = id.find('/');
  const bool one_slash = slash == std::string::npos || id.find('/', slash + 1) == std::string::npos;
  if (id.empty() || !one_slash || slash == 0 || slash + 1 == id.size() || id.find("..") != std::string::npos)
    return std::nullopt;
  if (slash == std::string::npos) return "models--" + id;
  return "models--" + id.substr(0, slash) + "--" + id.substr(slash + 1);
}

/// The snapshot of a cached model: the one of refs/main, else the newest, and of equally old ones the last by name.
std::optional<fs::path> find_snapshot(const fs::path& model) {
  std::error_code error;
  const fs::path snapshots = model / "snapshots";
  if (const fs::path ref = model / "refs" / "main"; fs::is_regular_file(ref, error)) {
    std::string revision = read_text_file(ref);
    revision.erase(std::find_if(revision.begin(), revision.end(), [](unsigned char c) { return c <= ' '; }),
                   revision.end());
    if (!revision.empty() && revision.find('/') == std::string::npos && fs::is_directory(snapshots / revision, error))
      return snapshots / revision;
  }
  std::optional<std::tuple<fs::file_time_type, fs::path>> newest;
  for (fs::directory_iterator it(snapshots, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_directory(error)) continue;
    std::tuple candidate(it->last_write_time(error), it->path());
    if (!newest || candidate > *newest) newest = std::move(candidate);
  }
  if (!newest) return std::nullopt;
  return std::get<fs::path>(*newest);
}

}  // namespace

fs::path find_model_folder(const std::string& path, const fs::path& base, const fs::path& models_root) {
  if (path.empty()) throw InputError(ErrorKind::model, "the model's path is empty");
  std::vector<std::string> looked_at;
  std::error_code error;
  const auto is_folder = [&](const fs::path& candidate) {
    looked_at.push_back(candidate.lexically_normal().string());
    return fs::is_directory(candidate, error);
  };
  std::vector<fs::path> caches = hub_caches();
  if (is_folder(base / path)) return (base / path).lexically_normal();
  if (!models_root.empty()) {
    const fs::path root = base / models_root;
    if (is_folder(root / path)) return (root / path).lexically_normal();
    caches.insert(caches.begin(), root);  // a copied cache
  }
  if (const auto name = cache_folder_name(path))
    for (const auto& cache : caches)
      if (is_folder(cache / *name))
        if (const auto snapshot = find_snapshot(cache / *name)) return snapshot->lexically_normal();
  const bool is_file = fs::is_regular_file(base / path, error);
  throw InputError(
      ErrorKind::model, "the model '" + path + "' is not on this machine",
      std::string(is_file ? "it is a file, expected its folder; " : "") + "looked at " + quoted_list(looked_at),
      "Give the folder of the checkpoint, or download it to the hub cache: nothing is fetched here.");
}

}  // namespace spectrace
