#include "quantization.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr const char* use_original = "Use the original checkpoint in float32, float16 or bfloat16.";

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
                   use_original);
}

/// Methods whose models quantize weights when they run: what is stored is not what they compute with.
constexpr std::array on_the_fly = {"bitnet", "fp_quant"};

/// Why this tensor is none of plain numbers; nothing if it is.
std::optional<std::string> why_quantized(const TensorInfo& tensor) {
  if (const auto method = quantizer_of(tensor.name)) return std::string(*method);
  if (tensor.type == StorageType::float8_e8m0 || tensor.type == StorageType::float8_e4m3fnuz ||
      tensor.type == StorageType::float8_e5m2fnuz)
    return "8-bit floats";
  if (is_weight(tensor.name) && !is_floating(tensor.type)) return "packed integers";
  return std::nullopt;
}

/// Causal masks, position ids, counters.
bool is_buffer_of_integers(const TensorInfo& tensor) {
  return tensor.type == StorageType::int64 || tensor.type == StorageType::boolean ||
         (tensor.type == StorageType::uint8 && tensor.shape.size() == 4);
}

/// "float8_e4m3 times …"
std::string decoding_of(const TensorInfo& tensor) {
  const BlockScales& scales = *tensor.scales;
  if (tensor.type == StorageType::mxfp4) return "mxfp4, multiplied out (exact) and transposed";
  const bool is_one = scales.grid_rows == 1 && scales.grid_cols == 1;
  std::string block = " for each block of " + std::to_string(scales.block_rows) + " x ";
  block += std::to_string(scales.block_cols);
  if (scales.block_rows == 1 && scales.grid_cols == 1) block = " for each row";
  return std::string(name(tensor.type)) + " times a " + name(scales.type) + " scale" + (is_one ? "" : block) +
         (tensor.exceeds_float32() ? " (exact in float64, rounded once in float32)" : " (exact)");
}

}  // namespace

std::optional<JsonNode> find_quantization(const JsonNode& config) {
  if (!config.is_object()) return std::nullopt;
  for (const char* key : {"quantization_config", "compression_config"})
    if (auto found = config.find(key)) return found;
  const auto text = config.find("text_config");
  return text ? find_quantization(*text) : std::nullopt;
}

std::string quant_method(const JsonNode& quantization) {
  if (!quantization.is_object()) return {};
  const auto method = quantization.find("quant_method");
  return method && method->is_string() ? method->as_string() : std::string();
}

std::string method_text(const JsonNode& quantization) {
  const std::string method = quant_method(quantization);
  return method.empty() ? "no quant_method given" : "quant_method " + Json(method).dump();
}

bool is_stale(const JsonNode& quantization, const std::vector<TensorInfo>& tensors) {
  const std::string method = quant_method(quantization);
  if (std::find(on_the_fly.begin(), on_the_fly.end(), method) != on_the_fly.end()) return false;
  return std::all_of(tensors.begin(), tensors.end(), [](const TensorInfo& tensor) {
    return !why_quantized(tensor) && (is_plain_floating(tensor.type) || is_buffer_of_integers(tensor));
  });
}

void refuse_quantized(const TensorStore& store, const JsonNode& config) {
  const auto& tensors = store.tensors();
  const bool is_undone = std::any_of(tensors.begin(), tensors.end(), [](const auto& tensor) { return tensor.scales; });
  const auto quantization = find_quantization(config);
  if (quantization && !is_undone && !is_stale(*quantization, tensors))
    throw quantization->error("the checkpoint is quantized", method_text(*quantization), use_original);
  for (const auto& tensor : tensors)
    if (const auto why = why_quantized(tensor)) refuse(store, tensor, *why);
}

std::string decoding_text(const TensorStore& store) {
  std::map<std::string, std::size_t> counts;
  for (const auto& tensor : store.tensors())
    if (tensor.scales) ++counts[decoding_of(tensor)];
  std::string text;
  for (const auto& [decoding, count] : counts)
    text +=
        (text.empty() ? "" : "; ") + std::to_string(count) + (count == 1 ? " tensor is " : " tensors are ") + decoding;
  return text;
}

}  // namespace spectrace
