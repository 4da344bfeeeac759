#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/core/json.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {

inline const char* safetensors_code(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return "F64";
    case at::kFloat: return "F32";
    case at::kHalf: return "F16";
    case at::kBFloat16: return "BF16";
    case at::kLong: return "I64";
    case at::kInt: return "I32";
    case at::kShort: return "I16";
    case at::kChar: return "I8";
    case at::kByte: return "U8";
    case at::kBool: return "BOOL";
    case at::kFloat8_e4m3fn: return "F8_E4M3";
    case at::kFloat8_e5m2: return "F8_E5M2";
    case at::kFloat8_e8m0fnu: return "F8_E8M0";
    default: throw std::invalid_argument("no safetensors dtype for this tensor");
  }
}

/// The bytes of a safetensors file: 8 bytes of length, `header`, `data`.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(std::uint64_t{header.size()} >> shift & 0xff);
  return bytes + header + data;
}

/// Writes tensors (floating numbers or integers, any strides) in the order given.
inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, given] : tensors) {
    const at::Tensor tensor = given.contiguous();
    const std::size_t begin = data.size();
    if (tensor.numel() > 0) data.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    header[name] = {{"dtype", safetensors_code(tensor.scalar_type())},
                    {"shape", std::vector<std::int64_t>(tensor.sizes().begin(), tensor.sizes().end())},
                    {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // as the format's own writer: the data starts aligned
  write_bytes(path, safetensors_bytes(text, data));
}

}  // namespace spectrace
