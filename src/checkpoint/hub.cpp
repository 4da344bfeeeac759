#include "spectrace/checkpoint/hub.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <vector>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/home.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// $NAME and ${NAME} with the variable's value in their place; what is not set stays as it is.
std::string expand_variables(const std::string& text) {
  const auto is_part = [](unsigned char c) { return c == '_' || std::isalnum(c) != 0; };
  std::string expanded;
  for (std::size_t i = 0; i < text.size();) {
    const bool is_braced = text.compare(i, 2, "${") == 0;
    const std::size_t begin = i + (is_braced ? 2 : 1);
    std::size_t end = begin;
    while (text[i] == '$' && end < text.size() && (is_braced ? text[end] != '}' : is_part(text[end]))) ++end;
    const std::size_t next = end + (is_braced ? 1 : 0);
    const char* const value =
        end > begin && next <= text.size() ? std::getenv(text.substr(begin, end - begin).c_str()) : nullptr;
    expanded += value ? value : text.substr(i, std::max<std::size_t>(next, i + 1) - i);
    i = std::max<std::size_t>(next, i + 1);
  }
  return expanded;
}

std::optional<fs::path> environment_path(const char* variable) {
  const char* const value = std::getenv(variable);
  if (!value || !*value) return std::nullopt;
  return fs::path(expand_variables(expand_home(value)));
}

/// Where the hub's own client would look (huggingface_hub/constants.py) comes first, then where it would look if less
/// was set, and last what transformers 4 has for itself.
std::vector<fs::path> hub_caches() {
  std::vector<fs::path> caches;
  const auto add = [&](const char* variable, const char* below) {
    if (const auto path = environment_path(variable)) {
      const fs::path cache = *below ? *path / below : *path;
      if (std::find(caches.begin(), caches.end(), cache) == caches.end()) caches.push_back(cache);
    }
  };
  add("HF_HUB_CACHE", "");
  add("HUGGINGFACE_HUB_CACHE", "");
  add("HF_HOME", "hub");
  add("XDG_CACHE_HOME", "huggingface/hub");
  add("HOME", ".cache/huggingface/hub");
  add("TRANSFORMERS_CACHE", "");
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

/// The snapshot's name that refs/<revision> holds; nothing if there is no such ref or no such snapshot.
std::optional<fs::path> follow_ref(const fs::path& model, const std::string& revision) {
  std::error_code error;
  constexpr std::uintmax_t most_bytes = 4096;  // a commit has 40
  const fs::path ref = model / "refs" / revision;
  if (!fs::is_regular_file(ref, error) || fs::file_size(ref, error) > most_bytes || error) return std::nullopt;
  std::string name = read_text_file(ref, most_bytes);
  name.erase(std::find_if(name.begin(), name.end(), [](unsigned char c) { return c <= ' '; }), name.end());
  if (name.empty() || name.find('/') != std::string::npos || name.starts_with(".")) return std::nullopt;
  if (!fs::is_directory(model / "snapshots" / name, error)) return std::nullopt;
  return model / "snapshots" / name;
}

std::vector<fs::path> snapshots_of(const fs::path& model) {
  std::vector<fs::path> snapshots;
  std::error_code error;
  for (fs::directory_iterator it(model / "snapshots", error), end; !error && it != end; it.increment(error))
    if (std::error_code unreadable; it->is_directory(unreadable)) snapshots.push_back(it->path());
  std::sort(snapshots.begin(), snapshots.end());
  return snapshots;
}

/// A ref of that name, or the only snapshot whose name begins so; without a revision what refs/main names. Nothing else
/// is taken for main: a snapshot that was fetched by its commit leaves no ref.
std::optional<fs::path> find_snapshot(const fs::path& model, const std::string& revision) {
  if (revision.empty()) return follow_ref(model, "main");
  if (auto snapshot = follow_ref(model, revision)) return snapshot;
  std::optional<fs::path> found;
  for (const auto& snapshot : snapshots_of(model)) {
    const std::string name = snapshot.filename().string();
    if (name == revision) return snapshot;
    if (!name.starts_with(revision)) continue;
    if (found)
      throw InputError(ErrorKind::model, "the revision '" + revision + "' could be more than one",
                       "snapshots '" + found->filename().string() + "' and '" + name + "'",
                       "Give more of its letters.");
    found = snapshot;
  }
  return found;
}

/// Refs and snapshots of a cached model, as one may write them.
std::vector<std::string> revisions_of(const fs::path& model) {
  std::vector<std::string> names;
  std::error_code error;
  const fs::path refs = model / "refs";
  for (fs::recursive_directory_iterator it(refs, error), end; !error && it != end; it.increment(error))
    if (const std::string name = it->path().lexically_relative(refs).string(); follow_ref(model, name))
      names.push_back(name);
  std::sort(names.begin(), names.end());
  for (const auto& snapshot : snapshots_of(model)) names.push_back(snapshot.filename().string());
  return names;
}

void expect_revision(const std::string& revision) {
  for (const fs::path& part : fs::path(revision))
    if (part == ".." || part == "/")
      throw InputError(ErrorKind::model, "'" + revision + "' is no revision",
                       "a branch, a tag, or a commit or its first letters");
}

}  // namespace

HubReference split_revision(const std::string& path) {
  const auto at = path.find('@');
  if (at == std::string::npos || at + 1 == path.size()) return {path, {}};
  std::string id = path.substr(0, at);
  if (path.front() == '.' || path.front() == '~' || !cache_folder_name(id)) return {path, {}};
  return {std::move(id), path.substr(at + 1)};
}

fs::path find_model_folder(const std::string& path, const fs::path& base, const fs::path& models_root,
                           const std::string& revision) {
  if (path.empty()) throw InputError(ErrorKind::model, "the model's path is empty");
  if ((path + revision).find('\0') != std::string::npos)
    throw InputError(ErrorKind::model, "the model's path '" + path + "' holds a NUL", "no file has such a name");
  std::vector<std::string> looked_at;
  std::error_code error;
  const auto is_folder = [&](const fs::path& candidate) {
    looked_at.push_back(candidate.lexically_normal().string());
    return fs::is_directory(candidate, error);
  };
  const std::string given = expand_home(path);
  HubReference hub = split_revision(path);
  if (!revision.empty()) hub.revision = revision;
  std::vector<fs::path> caches = hub_caches();
  if (is_folder(base / given)) return (base / given).lexically_normal();
  if (!models_root.empty()) {
    const fs::path root = base / expand_home(models_root.string());
    if (is_folder(root / given)) return (root / given).lexically_normal();
    caches.insert(caches.begin(), root);  // a copied cache
  }
  expect_revision(hub.revision);
  std::vector<std::string> revisions;
  if (const auto name = cache_folder_name(hub.id))
    for (const auto& cache : caches)
      if (is_folder(cache / *name)) {
        if (const auto snapshot = find_snapshot(cache / *name, hub.revision)) return snapshot->lexically_normal();
        for (auto& there : revisions_of(cache / *name)) revisions.push_back(std::move(there));
      }
  if (!revisions.empty() && hub.revision.empty())
    throw InputError(ErrorKind::model,
                     "the model '" + hub.id + "' is on this machine, but not its revision main, and no other is named",
                     "there are " + quoted_list(revisions),
                     "Name the one that is meant: 'revision' in the job, or " + hub.id + "@" + revisions.front() + ".");
  if (!revisions.empty())
    throw InputError(ErrorKind::model,
                     "the revision '" + hub.revision + "' of the model '" + hub.id + "' is not on this machine",
                     "there are " + quoted_list(revisions),
                     "Name one of these, or download it to the hub cache: nothing is fetched here.");
  const bool is_file = fs::is_regular_file(base / given, error);
  throw InputError(
      ErrorKind::model, "the model '" + path + "' is not on this machine",
      std::string(is_file ? "it is a file, expected its folder; " : "") + "looked at " + quoted_list(looked_at),
      "Give the folder of the checkpoint, or download it to the hub cache: nothing is fetched here.");
}

}  // namespace spectrace
