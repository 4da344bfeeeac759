#include "spectrace/checkpoint/other_kinds.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "checkpoint_files.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

bool holds_checkpoint(const std::filesystem::path& folder) {
  constexpr const char* names[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                   "pytorch_model.bin.index.json"};
  return std::any_of(std::begin(names), std::end(names), [&](const char* name) { return !is_absent(folder / name); });
}

void refuse_adapter(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  if (is_absent(path)) return;
  const JsonNode config = JsonNode::parse_file(path, ErrorKind::model);
  const auto text_of = [&](const char* key, const char* otherwise) {
    const auto value = config.is_object() ? config.find(key) : std::nullopt;
    return value && value->is_string() ? value->as_string() : std::string(otherwise);
  };
  const std::string base = text_of("base_model_name_or_path", "a model that it does not name");
  throw InputError(
      ErrorKind::model,
      "'" + folder.string() + "' holds a " + text_of("peft_type", "LORA") + " adapter of " + base + ", and no model",
      "adapter_config.json and no weights of a whole model",
      "Merge it into its model first, in Python: AutoPeftModelForCausalLM.from_pretrained(folder)"
      ".merge_and_unload().save_pretrained(new_folder), with the model's own dtype.");
}

}  // namespace

void refuse_other_kinds(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error) || holds_checkpoint(folder)) return;
  refuse_adapter(folder);
  for (const char* extension : {".safetensors", ".pth"}) {
    const auto names = files_ending_in(folder, extension);
    const auto own =
        std::find_if(names.begin(), names.end(), [](const auto& name) { return name.starts_with("consolidated"); });
    if (own != names.end())
      throw InputError(
          ErrorKind::model,
          "'" + folder.string() + "' holds the weights as '" + *own + "', under their publisher's own names",
          "Mistral and Meta publish them so, with params.json; what is read here are transformers' names",
          "Download the same model's model*.safetensors and config.json, or convert it by transformers' "
          "convert_mistral_weights_to_hf.py or convert_llama_weights_to_hf.py.");
  }
  if (const auto names = files_ending_in(folder, ".gguf"); !names.empty())
    throw InputError(ErrorKind::model, "'" + folder.string() + "' holds GGUF alone: '" + names.front() + "'",
                     "llama.cpp's format, of quantized weights as a rule",
                     "Use the checkpoint that it was made from, as safetensors.");
}

}  // namespace spectrace
