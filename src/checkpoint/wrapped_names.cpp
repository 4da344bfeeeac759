#include "wrapped_names.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr std::string_view compiled = "_orig_mod.", parallel = "module.", adapted = "base_model.model.";

bool all_start_with(const std::vector<TensorInfo>& tensors, std::string_view prefix) {
  return !tensors.empty() && std::all_of(tensors.begin(), tensors.end(),
                                         [&](const auto& tensor) { return tensor.name.starts_with(prefix); });
}

/// "a._orig_mod.b" as "a.b": only where a name's part begins.
std::string without_compiled(std::string name) {
  for (std::size_t at = name.find(compiled); at != std::string::npos; at = name.find(compiled, at))
    if (at == 0 || name[at - 1] == '.')
      name.erase(at, compiled.size());
    else
      ++at;
  return name;
}

}  // namespace

void strip_wrappers(const std::filesystem::path& folder, CheckpointFiles& files) {
  auto tensors = files.tensors;
  for (auto& tensor : tensors) tensor.name = without_compiled(std::move(tensor.name));
  std::string stripped;
  if (!std::equal(tensors.begin(), tensors.end(), files.tensors.begin(),
                  [](const auto& a, const auto& b) { return a.name == b.name; }))
    stripped = "'_orig_mod.' (torch.compile)";
  if (all_start_with(tensors, parallel)) {
    for (auto& tensor : tensors) tensor.name.erase(0, parallel.size());
    stripped += (stripped.empty() ? "" : " and ") + std::string("'module.' (DistributedDataParallel)");
  }
  if (all_start_with(tensors, adapted))
    throw InputError(ErrorKind::model, "'" + folder.string() + "': every tensor's name begins with 'base_model.model.'",
                     "so PEFT names the parts of a model with adapters that are not merged",
                     "Merge them first, in Python: model.merge_and_unload().save_pretrained(new_folder).");
  if (stripped.empty()) return;
  std::set<std::string_view> names;
  for (const auto& tensor : tensors)
    if (!names.insert(tensor.name).second)
      throw InputError(ErrorKind::model, "'" + folder.string() + "': tensor '" + tensor.name + "' is there twice",
                       "under its name and with " + stripped + " in it", "Save the model without its wrapper.");
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  files.tensors = std::move(tensors);
  files.warnings.push_back("the names of tensors have " + stripped + " in them, which is left out");
}

}  // namespace spectrace
