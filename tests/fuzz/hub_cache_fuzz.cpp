#include <sys/stat.h>

#include <cstdlib>
#include <system_error>

#include "fuzz/script.hpp"
#include "fuzz/target.hpp"
#include "spectrace/checkpoint/hub.hpp"

namespace fs = std::filesystem;

namespace {

/// One line of the script: "d PATH" makes a folder, "f PATH CONTENT" a file, "l PATH TARGET" a link, "p PATH" a FIFO,
/// all below the cache. Lines that say nothing of the kind are passed over.
void make_entry(const fs::path& cache, std::string_view line) {
  if (line.size() < 3 || line[1] != ' ') return;
  const std::string_view rest = line.substr(2);
  const fs::path relative = rest.substr(0, rest.find(' '));
  const std::string content(rest.substr(std::min(rest.size(), relative.native().size() + 1)));
  for (const fs::path& part : relative)
    if (part == ".." || part == "/") return;
  const fs::path path = cache / relative;
  std::error_code ignored;
  // Below a link something outside the cache could be written to.
  for (fs::path folder = path.parent_path(); folder != cache; folder = folder.parent_path())
    if (fs::is_symlink(folder, ignored) || folder.native().size() < cache.native().size()) return;
  fs::create_directories(path.parent_path(), ignored);
  if (line[0] == 'd') fs::create_directory(path, ignored);
  if (line[0] == 'l') fs::create_symlink(content, path, ignored);
  if (line[0] == 'p') ::mkfifo(path.c_str(), 0600);
  if (line[0] == 'f' && !fs::is_symlink(path, ignored) && !fs::is_fifo(path, ignored))
    std::ofstream(path, std::ios::binary) << content;
}

}  // namespace

// A hub cache as a script makes it; the first line is the model that is looked for, "id" or "id@revision".
std::string spectrace::fuzz::take(std::string_view bytes) {
  for (const char* variable :
       {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME", "TRANSFORMERS_CACHE"})
    ::unsetenv(variable);
  const TempFolder folder;
  const fs::path cache = folder.path() / "cache", base = folder.path() / "base";
  fs::create_directories(cache);
  fs::create_directories(base);
  Script script(bytes);
  const std::string model(script.line());
  for (int lines = 0; lines < 64 && !script.at_end(); ++lines) make_entry(cache, script.line());
  try {
    find_model_folder(model, base, cache);
  } catch (const InputError& refused) {
    return refused.what();
  }
  return {};
}
