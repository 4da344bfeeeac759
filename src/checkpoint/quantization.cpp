#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr const char* suggestion = "Use the original checkpoint in float32, float16 or bfloat16.";

/// Tensors that only a quantizer writes, by a part of their names.
struct Mark {
  std::string_view name_part;
  std::string_view method;
};

constexpr std::array marks = {
    Mark{".quant_state.bitsandbytes__", "bitsandbytes 4-bit"},
    Mark{".quant_map", "bitsandbytes 4-bit"},
    Mark{".absmax", "bitsandbytes 4-bit"},
    Mark{".SCB", "bitsandbytes 8-bit"},
    Mark{".qweight", "GPTQ or AWQ"},
    Mark{".qzeros", "GPTQ or AWQ"},
    Mark{".g_idx", "GPTQ"},
    Mark{".weight_packed", "compressed-tensors"},
    Mark{".weight_scale", "scaled weights (fp8 or compressed-tensors)"},
    Mark{".W_q", "HQQ"},
    Mark{".codebooks", "AQLM"},
};

std::optional<std::string_view> quantizer_of(std::string_view tensor_name) {
  for (const auto& mark : marks)
    if (tensor_name.find(mark.name_part) != std::string_view::npos) return mark.method;
  return std::nullopt;
}

bool is_weight(std::string_view tensor_name) { return tensor_name == "weight" || tensor_name.ends_with(".weight"); }

[[noreturn]] void refuse(const TensorStore& store, const TensorInfo& tensor, std::string_view method) {
  throw InputError(ErrorKind::model,
                   "the checkpoint is quantized: tensor '" + tensor.name + "' in '" +
                       store.files()[static_cast<std::size_t>(tensor.file)].path.string() + "'",
                   std::string(method) + ", type " + name(tensor.type) + ", shape " + shape_text(tensor.shape) +
                       ": norms of packed numbers would look plausible and be wrong",
                   suggestion);
}

void refuse_in_config(const JsonNode& config) {
  for (const char* key : {"quantization_config", "compression_config"})
    if (const auto found = config.find(key)) {
      std::string method = "no quant_method given";
      if (found->is_object())
        if (const auto given = found->find("quant_method")) method = "quant_method " + given->json().dump();
      throw found->error("the checkpoint is quantized", method, suggestion);
    }
}

}  // namespace

void refuse_quantized(const TensorStore& store, const JsonNode& config) {
  refuse_in_config(config);
  if (const auto text = config.find("text_config"); text && text->is_object()) refuse_in_config(*text);
  for (const auto& tensor : store.tensors()) {
    if (const auto method = quantizer_of(tensor.name)) refuse(store, tensor, *method);
    if (tensor.type == StorageType::float8) refuse(store, tensor, "8-bit floats");
    if (is_weight(tensor.name) && !is_floating(tensor.type)) refuse(store, tensor, "packed integers");
  }
}

}  // namespace spectrace
