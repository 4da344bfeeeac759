#include <ATen/Parallel.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <iterator>
#include <map>
#include <system_error>

#include "fuzz/script.hpp"
#include "fuzz/target.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/measure/choice.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/open_model.hpp"
#include "support/safetensors_writer.hpp"

namespace fs = std::filesystem;

namespace spectrace::fuzz {
namespace {

/// A valid model folder of one or two shards, in memory.
struct Folder {
  Json config;
  std::array<Json, 2> headers = {Json::object(), Json::object()};
  std::array<std::string, 2> data;
  bool has_index = false;
  Json index;
};

constexpr std::array kShardNames = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
constexpr std::array kModels = {
    "gpt2",    "opt_350m",   "bloom",         "falcon_40b", "falcon_rw", "gpt_neox",    "gpt_neo",  "gptj",
    "llama3",  "llama_yarn", "mistral",       "gemma2",     "olmo2",     "gemma3_text", "stablelm", "llama_dynamic",
    "qwen3",   "phi3",       "phi3_longrope", "olmo3",      "smollm3",   "ministral3",  "exaone4",  "hunyuan_v1_dense",
    "apertus", "mimo"};
/// Of which the matrices alone are known.
constexpr std::array kStoredModels = {"mixtral", "deepseek_v3", "granitemoehybrid", "gpt_oss", "qwen3_next"};
constexpr std::size_t kNumModels = kModels.size() + kStoredModels.size();

Folder read_folder(std::size_t model) {
  const fs::path data = fs::path(SPECTRACE_SOURCE_DIR) / "tests/data";
  const fs::path path = model < kModels.size() ? data / "model" / kModels[model]
                                               : data / "stored" / kStoredModels[model - kModels.size()];
  const std::string bytes = read_text_file(path / "model.safetensors");
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  Folder folder;
  folder.config = Json::parse(read_text_file(path / "config.json"));
  folder.headers[0] = Json::parse(bytes.substr(8, header_size));
  folder.data[0] = bytes.substr(8 + header_size);
  return folder;
}

const Folder& valid_folder(std::size_t model) {
  static std::map<std::size_t, Folder> read;
  auto found = read.find(model);
  if (found == read.end()) found = read.emplace(model, read_folder(model)).first;
  return found->second;
}

Json nested(std::size_t depth) {
  Json value = 1;
  for (std::size_t i = 0; i < depth; ++i) value = Json::array({std::move(value)});
  return value;
}

/// Values at which readers break.
Json odd_value(Script& script) {
  switch (script.below(24)) {
    case 0: return nullptr;
    case 1: return true;
    case 2: return false;
    case 3: return 0;
    case 4: return -1;
    case 5: return 1;
    case 6: return 1 + script.below(64);
    case 7: return std::int64_t{1} << script.below(63);
    case 8: return INT64_MAX;
    case 9: return UINT64_MAX;
    case 10: return 1e-300;
    case 11: return 1e300;
    case 12: return -0.5;
    case 13: return 0.5;
    case 14: return 1e-40;
    case 15: return "";
    case 16: return std::string(1 + script.below(400), 'n');
    case 17: return "linear";
    case 18: return Json::array();
    case 19: return Json::object();
    case 20: return nested(script.below(70));
    case 21:
      return Json{{"rope_type", std::array{"linear", "dynamic", "yarn", "longrope", "llama3"}[script.below(5)]},
                  {"factor", std::array{0.0, 2.0, 1e-300, 1e38}[script.below(4)]},
                  {"low_freq_factor", 1.0},
                  {"high_freq_factor", std::array{1.0, 4.0}[script.below(2)]}};
    case 22: return Json::array({0, script.below(100), -3, 1e300});
    default: return std::string("a\0\xff", 3).substr(0, script.below(3));
  }
}

Json::iterator any_member(Json& object, Script& script) {
  if (object.empty()) object["x"] = 1;
  return std::next(object.begin(), static_cast<std::ptrdiff_t>(script.below(object.size())));
}

/// Sets a value anywhere in a document: here, or below.
void change_somewhere(Json& value, Script& script) {
  Json* at = &value;
  while (at->is_structured() && !at->empty() && (at == &value || script.below(4) != 0))
    at = at->is_object() ? &*any_member(*at, script) : &(*at)[script.below(at->size())];
  *at = odd_value(script);
}

void change_config(Json& config, Script& script) {
  constexpr std::array kFields = {"rope_scaling",
                                  "rope_parameters",
                                  "head_dim",
                                  "sliding_window",
                                  "num_key_value_heads",
                                  "layer_types",
                                  "attention_types",
                                  "attn_logit_softcapping",
                                  "attention_bias",
                                  "rope_theta",
                                  "model_type",
                                  "query_pre_attn_scalar",
                                  "num_hidden_layers",
                                  "hidden_size",
                                  "partial_rotary_factor"};
  if (script.below(3) == 0)
    config[kFields[script.below(kFields.size())]] = odd_value(script);
  else if (script.below(8) == 0)
    config.erase(any_member(config, script));
  else
    change_somewhere(config, script);
}

void change_header(Json& header, Script& script) {
  const auto entry = any_member(header, script);
  switch (script.below(6)) {
    case 0: header.erase(entry); break;
    case 1: {
      const std::string name =
          entry.key().substr(0, script.below(entry.key().size() + 1)) + (script.below(2) ? "x" : "");
      Json value = *entry;
      header.erase(entry);
      header[name] = std::move(value);
      break;
    }
    case 2:
      (*entry)["dtype"] = std::array{"F64", "F32", "F16", "BF16", "I64", "U8", "F8_E4M3", "F4"}[script.below(8)];
      break;
    case 3: {  // another shape of as many elements
      auto& shape = (*entry)["shape"];
      if (shape.is_array() && shape.size() == 2) std::swap(shape[0], shape[1]);
      break;
    }
    default: change_somewhere(*entry, script);
  }
}

/// Moves every other tensor to a second file, with an index. @pre nothing has been changed
void split(Folder& folder) {
  const Folder whole = std::move(folder);
  folder = Folder{.config = whole.config,
                  .headers = {Json::object(), Json::object()},
                  .data = {},
                  .has_index = true,
                  .index = {{"weight_map", Json::object()}}};
  std::size_t number = 0;
  for (const auto& [name, entry] : whole.headers[0].items()) {
    if (name == "__metadata__") continue;
    const std::size_t shard = number++ % 2;
    const std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1], at = folder.data[shard].size();
    folder.data[shard] += whole.data[0].substr(begin, end - begin);
    folder.headers[shard][name] = entry;
    folder.headers[shard][name]["data_offsets"] = {at, folder.data[shard].size()};
    folder.index["weight_map"][name] = kShardNames[shard];
  }
}

void change_bytes(std::string& bytes, Script& script) {
  if (bytes.empty()) return;
  switch (script.below(4)) {
    case 0: bytes.resize(script.below(bytes.size())); break;
    case 1: bytes.insert(script.below(bytes.size()), script.below(32), static_cast<char>(script.byte())); break;
    default: bytes[script.below(bytes.size())] = static_cast<char>(script.byte());
  }
}

/// Puts something else in a file's place.
void replace_file(const fs::path& path, Script& script) {
  std::error_code ignored;
  fs::remove(path, ignored);
  switch (script.below(5)) {
    case 0: break;
    case 1: ::mkfifo(path.c_str(), 0600); break;
    case 2: fs::create_symlink(path.filename(), path, ignored); break;
    case 3: fs::create_directory(path, ignored); break;
    default: write_bytes(path, ""), fs::resize_file(path, std::uintmax_t{1} << 38, ignored);
  }
}

/// How the changed folder is written: bytes and files are changed on the way.
void write_folder(const fs::path& path, const Folder& folder, Script& script) {
  const auto text_of = [](const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); };
  std::map<std::string, std::string> files = {{"config.json", text_of(folder.config)}};
  if (folder.has_index) files["model.safetensors.index.json"] = text_of(folder.index);
  for (std::size_t shard = 0; shard < (folder.has_index ? 2 : 1); ++shard)
    files[folder.has_index ? kShardNames[shard] : "model.safetensors"] =
        safetensors_bytes(text_of(folder.headers[shard]), folder.data[shard]);
  const auto any_file = [&] {
    return std::next(files.begin(), static_cast<std::ptrdiff_t>(script.below(files.size())));
  };
  if (script.below(8) == 1) change_bytes(any_file()->second, script);
  for (const auto& [name, bytes] : files) write_bytes(path / name, bytes);
  if (script.below(16) == 1) replace_file(path / any_file()->first, script);
}

/// Units of spectra as a run takes them: those of the first layer, and each stored matrix. One that needs a tensor with
/// a problem is refused.
void take_spectra(const OpenModel& model) {
  for (const Chosen& chosen : AnalysisChoice::of({"weights", "mlp"}).possible(model.description)) {
    if (const LayerAnalysis* layers = chosen.of_layers()) {
      const LayerWork work{layers, 0};
      layers->flops(model.description);
      layers->workspace_bytes(model.description, 1);
      if (!find_problem(model, {.work = work}))
        for (const auto& [role, error] :
             read_matrices(model.description, model.store, 0, roles_of(model.description, work), ComputeType::float32)
                 .errors)
          std::rethrow_exception(error);
    }
    for (PlacedMatrix& placed : chosen.analysis->matrices(model.description, chosen.settings)) {
      const Unit unit{.work = TensorWork{chosen.analysis, placed.place, placed.matrix}};
      if (!find_problem(model, unit)) stored_spectrum(model.store, placed.matrix, {});
    }
    chosen.extents(model.description, Slicing::correct);
  }
}

/// What a run does with a model: its stored matrices, and if it is described its first layer.
void use(const fs::path& path) {
  const OpenModel model = open_model_folder(path, IoMode::read);
  stored_matrices(model.description.tensors, {{"*"}, {}, {"*conv*"}, 0});
  num_parameters(model.description);
  const ModelFiles files = open_model_files(path, IoMode::read);
  const ModelDescription described = read_description(files.config, files.store);  // as inspect shows it
  source_problems(described, files.store);
  unused_tensors(described, files.store);
  num_parameters(described);
  layer_size_bytes(described, 0, ComputeType::float64);
  if (model.refusal) throw *model.refusal;
  take_spectra(model);
  if (find_problem(model, {.work = BatchWork{}})) throw source_error(model.description, model.store, model.problems);
  if (!model.description.has_forward()) return;
  if (!check_tokens(model.description, std::array<std::int64_t, 3>{0, 1, 2}).empty()) return;
  const TokenBatch batch{.token_ids = {0, 1, 2}, .row_start = {0, 3}};
  const LayerWeights weights = read_layer(model.description, model.store, 0, ComputeType::float32);
  Tensor hidden = embed(model.description, model.store, batch, ComputeType::float32).hidden;
  run_block(model.description, 0, weights, batch, hidden,
            [](std::int64_t, std::int64_t, const Tensor&, const RowScores&) {});
  apply_final_norm(model.description, model.store, hidden);
}

}  // namespace

// A script of changes to a valid model folder: the first byte chooses it, the second whether it has shards, the third
// how many changes are made before it is written.
std::string take(std::string_view bytes) {
  at::set_num_threads(1);  // matrices of 20 rows: threads would mostly wait for each other
  Script script(bytes);
  Folder folder = valid_folder(script.byte() % kNumModels);
  if (script.byte() % 2 == 1) split(folder);
  for (std::size_t changes = script.byte() % 8; changes > 0; --changes) {
    const std::size_t kind = script.byte() % 8;
    if (kind == 1 || kind == 2) change_header(folder.headers[folder.has_index ? script.below(2) : 0], script);
    if (kind == 3 && folder.has_index) change_somewhere(folder.index, script);
    if (kind >= 4) change_config(folder.config, script);
  }
  const TempFolder temporary;
  write_folder(temporary.path(), folder, script);
  try {
    use(temporary.path());
  } catch (const InputError& refused) {
    return refused.what();
  }
  return {};
}

}  // namespace spectrace::fuzz
