#include "checkpoint_files.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "spectrace/checkpoint/other_kinds.hpp"
#include "spectrace/checkpoint/safetensors.hpp"
#include "spectrace/checkpoint/torch_archive.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"
#include "wrapped_names.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

constexpr const char* download_again = "Download the model again, or copy the file from where it is whole.";

/// Which files hold the weights; with an index, which tensor it expects where.
struct Source {
  std::string format;
  std::vector<fs::path> paths;                    ///< sorted
  std::optional<fs::path> index;                  ///< the file below comes from
  std::map<std::string, std::string> weight_map;  ///< tensor -> name of its shard
};

/// The names that the index uses, each with a tensor that it expects there.
std::map<std::string, std::string> shards_of(const Source& source) {
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : source.weight_map) shards.emplace(shard, tensor);
  return shards;
}

Source read_index(const fs::path& path, std::string format) {
  Source source{.format = std::move(format), .paths = {}, .index = path, .weight_map = {}};
  const auto weight_map = JsonNode::parse_file(path, ErrorKind::model).at("weight_map");
  weight_map.for_each_member([&](const std::string& tensor, const JsonNode& shard) {
    const fs::path name = shard.as_string();
    const bool has_nul = name.native().find('\0') != std::string::npos;
    if (name.empty() || name != name.filename() || name == "." || name == ".." || has_nul)
      throw weight_map.error("tensor '" + tensor + "' is said to be in '" + name.string() + "'",
                             "a shard lies in the index's own folder");
    source.weight_map.emplace(tensor, name.string());
  });
  if (source.weight_map.empty()) throw weight_map.error("names no tensors", {}, download_again);

  const auto shards = shards_of(source);
  std::vector<std::string> missing;
  for (const auto& [shard, tensor] : shards) {
    source.paths.push_back(path.parent_path() / shard);
    if (is_absent(source.paths.back())) missing.push_back(shard);
  }
  if (!missing.empty())
    throw InputError(ErrorKind::model, "'" + path.string() + "': the shard '" + missing.front() + "' is missing",
                     "tensor '" + shards.at(missing.front()) + "' lies in it; " + std::to_string(missing.size()) +
                         " of " + std::to_string(shards.size()) + " shards are missing",
                     download_again);
  return source;
}

/// In the order in which transformers looks, then any single safetensors file.
Source find_source(const fs::path& folder) {
  for (const auto& [format, file] : {std::pair{"safetensors", "model.safetensors"}, {"pytorch", "pytorch_model.bin"}}) {
    const auto path = folder / file;
    if (!is_absent(path)) return Source{.format = format, .paths = {path}, .index = {}, .weight_map = {}};
    auto index = path;
    index += ".index.json";
    if (!is_absent(index)) return read_index(index, format);
  }
  refuse_other_kinds(folder);
  const auto others = files_ending_in(folder, ".safetensors");
  if (others.size() == 1)
    return Source{.format = "safetensors", .paths = {folder / others[0]}, .index = {}, .weight_map = {}};
  std::string why =
      "looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
      "pytorch_model.bin.index.json";
  if (!others.empty()) why += "; found " + quoted_list(others) + ", but no index that says what lies where";
  throw InputError(ErrorKind::model, "'" + folder.string() + "' holds no weights", why, download_again);
}

std::string file_name(const CheckpointFiles& files, const TensorInfo& tensor) {
  return files.readers[static_cast<std::size_t>(tensor.file)]->path().filename().string();
}

/// A tensor that the index sends to one shard, and another one holds as well (an older copy, a shared one), is the
/// index's: the other goes.
void drop_copies(const Source& source, CheckpointFiles& files) {
  std::vector<std::string> dropped;
  const auto& tensors = files.tensors;
  const auto is_copy = [&](const TensorInfo& tensor) {
    const auto entry = source.weight_map.find(tensor.name);
    if (entry == source.weight_map.end() || entry->second == file_name(files, tensor)) return false;
    const auto [first, last] = std::equal_range(tensors.begin(), tensors.end(), tensor,
                                                [](const auto& a, const auto& b) { return a.name < b.name; });
    return std::any_of(first, last, [&](const auto& other) { return file_name(files, other) == entry->second; });
  };
  std::vector<TensorInfo> kept;
  for (const auto& tensor : tensors) {
    if (is_copy(tensor))
      dropped.push_back("'" + tensor.name + "' in '" + file_name(files, tensor) + "'");
    else
      kept.push_back(tensor);
  }
  if (dropped.empty()) return;
  files.tensors = std::move(kept);
  files.warnings.push_back(std::to_string(dropped.size()) + (dropped.size() == 1 ? " tensor is" : " tensors are") +
                           " in another shard than '" + source.index->filename().string() +
                           "' says as well and not read there; the first is " + dropped.front());
}

/// @throws InputError if what the shards hold is not what the index says.
void check_against_index(const Source& source, const CheckpointFiles& files) {
  std::set<std::string_view> found;
  for (const auto& tensor : files.tensors) {
    found.insert(tensor.name);
    const auto entry = source.weight_map.find(tensor.name);
    if (entry != source.weight_map.end() && entry->second != file_name(files, tensor))
      throw InputError(
          ErrorKind::model,
          "'" + source.index->string() + "': tensor '" + tensor.name + "' is said to be in '" + entry->second + "'",
          "it lies in '" + file_name(files, tensor) + "' alone: index and shards are not of one download",
          download_again);
  }
  for (const auto& [tensor, shard] : source.weight_map)
    if (!found.contains(tensor))
      throw InputError(ErrorKind::model,
                       "'" + source.index->string() + "': tensor '" + tensor + "' is said to be in '" + shard + "'",
                       "it is not there: index and shards are not of one download", download_again);
}

void check_names_unique(const CheckpointFiles& files) {
  for (std::size_t i = 1; i < files.tensors.size(); ++i) {
    const auto &a = files.tensors[i - 1], &b = files.tensors[i];
    if (a.name == b.name)
      throw InputError(ErrorKind::model, "tensor '" + a.name + "' is in two files",
                       "'" + files.readers[static_cast<std::size_t>(a.file)]->path().string() + "' and '" +
                           files.readers[static_cast<std::size_t>(b.file)]->path().string() + "'",
                       download_again);
  }
}

}  // namespace

std::vector<std::string> files_ending_in(const fs::path& folder, const std::string& extension) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    // A link that leads nowhere is a file as well: opening it says what is wrong.
    if (std::error_code unknown; it->path().extension() == extension && !it->is_directory(unknown))
      names.push_back(it->path().filename().string());
  if (error) throw InputError(ErrorKind::io, "cannot list the folder '" + folder.string() + "'", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

CheckpointFiles open_checkpoint_files(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw InputError(ErrorKind::model, "'" + folder.string() + "' is not a folder",
                     error ? error.message() : "a checkpoint is a folder");
  const Source source = find_source(folder);
  CheckpointFiles files;
  files.format = source.format;
  for (const auto& path : source.paths) {
    files.readers.push_back(std::make_shared<const FileReader>(path));
    const int index = static_cast<int>(files.readers.size()) - 1;
    auto tensors = source.format == "safetensors" ? read_safetensors_header(*files.readers.back(), index)
                                                  : read_torch_archive(*files.readers.back(), index);
    std::move(tensors.begin(), tensors.end(), std::back_inserter(files.tensors));
  }
  std::stable_sort(files.tensors.begin(), files.tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  if (source.index) {
    drop_copies(source, files);
    check_against_index(source, files);
  }
  check_names_unique(files);
  strip_wrappers(folder, files);
  if (files.tensors.empty())
    throw InputError(ErrorKind::model, "'" + source.paths.front().string() + "' holds no tensors", {}, download_again);
  return files;
}

}  // namespace spectrace
