#include "spectrace/checkpoint/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "file_error.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian, and are read as they are");

constexpr std::uint64_t length_size = 8;
constexpr std::uint64_t max_header_size = 100'000'000;  // the format's own limit

struct TypeCode {
  std::string_view code;
  StorageType type;
  std::int64_t size_bits;
};

constexpr TypeCode type_codes[] = {
    {"F64", StorageType::float64, 64},
    {"F32", StorageType::float32, 32},
    {"F16", StorageType::float16, 16},
    {"BF16", StorageType::bfloat16, 16},
    {"I64", StorageType::int64, 64},
    {"I32", StorageType::int32, 32},
    {"I16", StorageType::int16, 16},
    {"I8", StorageType::int8, 8},
    {"U8", StorageType::uint8, 8},
    {"BOOL", StorageType::boolean, 8},
    {"F8_E4M3", StorageType::float8_e4m3, 8},
    {"F8_E5M2", StorageType::float8_e5m2, 8},
    {"F8_E8M0", StorageType::float8_e8m0, 8},
    {"F8_E4M3FNUZ", StorageType::float8_e4m3fnuz, 8},
    {"F8_E5M2FNUZ", StorageType::float8_e5m2fnuz, 8},
    {"U16", StorageType::other, 16},
    {"U32", StorageType::other, 32},
    {"U64", StorageType::other, 64},
    {"C64", StorageType::other, 64},
    {"F4", StorageType::other, 4},
    {"F6_E2M3", StorageType::other, 6},
    {"F6_E3M2", StorageType::other, 6},
};

std::string read_header_text(const FileReader& file) {
  if (file.size_bytes() < length_size)
    throw file_error(file, "is cut short",
                     "a safetensors file has at least 8 bytes, this one has " + std::to_string(file.size_bytes()));
  std::uint64_t header_size = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&header_size, 1)));
  if (header_size > max_header_size)
    throw file_error(file, "is not a safetensors file",
                     "its first 8 bytes say that the header has " + std::to_string(header_size) +
                         " bytes, more than the format's limit of " + std::to_string(max_header_size));
  if (header_size > file.size_bytes() - length_size)
    throw file_error(file, "is cut short within its header",
                     "expected at least " + std::to_string(length_size + header_size) + " bytes, found " +
                         std::to_string(file.size_bytes()));
  std::string text(header_size, '\0');
  file.read_at(length_size, std::as_writable_bytes(std::span(text)));
  if (text.empty() || text.front() != '{')
    throw file_error(file, "is not a safetensors file", "its header does not start with '{'");
  return text;
}

/// Reads one member of the header; `data_start` is where offset 0 lies in the file.
class EntryReader {
 public:
  EntryReader(const FileReader& file, int file_index, std::uint64_t data_start)
      : file_(file), file_index_(file_index), data_start_(data_start) {}

  TensorInfo read(const std::string& name, const Json& entry) const {
    if (!entry.is_object()) throw error(name, "its entry in the header is not an object");
    TensorInfo tensor;
    tensor.name = name;
    tensor.file = file_index_;
    const TypeCode& code = type_of(name, member(name, entry, "dtype"));
    tensor.type = code.type;
    tensor.shape = integers(name, member(name, entry, "shape"), "shape");
    const auto offsets = integers(name, member(name, entry, "data_offsets"), "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1])
      throw error(name, "its data_offsets are not [begin, end]", shape_text(offsets));
    tensor.offset = data_start_ + static_cast<std::uint64_t>(offsets[0]);
    tensor.size_bytes = static_cast<std::uint64_t>(offsets[1] - offsets[0]);

    const auto num_elements = checked_num_elements(tensor.shape);
    if (!num_elements) throw error(name, "its shape " + shape_text(tensor.shape) + " is impossible");
    const std::int64_t size_bits = *num_elements * code.size_bits;  // fits: see checked_num_elements
    if (size_bits % 8 != 0 || static_cast<std::uint64_t>(size_bits / 8) != tensor.size_bytes)
      throw error(name, "its data has " + std::to_string(tensor.size_bytes) + " bytes",
                  "shape " + shape_text(tensor.shape) + " of " + std::string(code.code) + " takes " +
                      std::to_string(size_bits / 8));
    tensor.strides = row_major_strides(tensor.shape);
    return tensor;
  }

 private:
  InputError error(const std::string& name, const std::string& problem, std::string why = {}) const {
    return file_error(file_, "tensor '" + name + "': " + problem, std::move(why));
  }

  const Json& member(const std::string& name, const Json& entry, const char* key) const {
    const auto it = entry.find(key);
    if (it == entry.end()) throw error(name, std::string("its entry in the header has no '") + key + "'");
    return *it;
  }

  const TypeCode& type_of(const std::string& name, const Json& value) const {
    const std::string code = value.is_string() ? value.get<std::string>() : value.dump();
    for (const auto& known : type_codes)
      if (known.code == code) return known;
    throw error(name, "its dtype '" + code + "' is unknown");
  }

  std::vector<std::int64_t> integers(const std::string& name, const Json& value, const char* key) const {
    if (!value.is_array()) throw error(name, std::string("its '") + key + "' is not a list");
    std::vector<std::int64_t> numbers;
    for (const auto& number : value) {
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
        throw error(name, std::string("its '") + key + "' has " + number.dump() + ", expected a count");
      numbers.push_back(number.get<std::int64_t>());
    }
    return numbers;
  }

  const FileReader& file_;
  int file_index_;
  std::uint64_t data_start_;
};

/// @pre sorted by offset
void check_layout(const FileReader& file, const std::vector<TensorInfo>& tensors, std::uint64_t data_start) {
  std::uint64_t end = data_start;
  const TensorInfo* cut = nullptr;
  for (const auto& tensor : tensors) {
    const std::string where = "tensor '" + tensor.name + "': its data starts at byte " + std::to_string(tensor.offset);
    if (tensor.offset < end)
      throw file_error(file, where, "the tensor before it ends at byte " + std::to_string(end) + ": they overlap");
    if (tensor.offset > end)
      throw file_error(file, where,
                       "bytes " + std::to_string(end) + " to " + std::to_string(tensor.offset) +
                           " belong to no tensor: the header is damaged");
    end += tensor.size_bytes;
    if (!cut && end > file.size_bytes()) cut = &tensor;
  }
  const std::string sizes = "expected " + std::to_string(end) + " bytes, found " + std::to_string(file.size_bytes());
  if (cut) throw file_error(file, "is cut short within tensor '" + cut->name + "'", sizes);
  if (end < file.size_bytes()) throw file_error(file, "has bytes after the last tensor", sizes);
}

/// Names that stand for another tensor of the file: safetensors' save_model stores what is shared once, and notes the
/// other names as metadata {name: name that is stored}.
std::vector<TensorInfo> aliases(const Json& header, const std::vector<TensorInfo>& tensors) {
  std::vector<TensorInfo> found;
  const auto metadata = header.find("__metadata__");
  if (metadata == header.end() || !metadata->is_object()) return found;
  std::map<std::string_view, const TensorInfo*> by_name;
  for (const auto& tensor : tensors) by_name.emplace(tensor.name, &tensor);
  for (const auto& [name, stored] : metadata->items()) {
    if (!stored.is_string() || by_name.contains(name)) continue;
    const auto of = by_name.find(stored.get_ref<const std::string&>());
    if (of == by_name.end()) continue;
    found.push_back(*of->second);
    found.back().name = name;
  }
  return found;
}

}  // namespace

void refuse_lfs_pointer(const FileReader& file) {
  constexpr std::string_view start = "version https://git-lfs";
  std::string text(start.size(), '\0');
  if (file.size_bytes() > 1024 || file.size_bytes() < start.size()) return;
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  if (text == start)
    throw file_error(file, "is a Git LFS pointer, not the weights", "the large files were not fetched",
                     "Run 'git lfs pull' in the model's folder.");
}

std::vector<TensorInfo> read_safetensors_header(const FileReader& file, int file_index) {
  refuse_lfs_pointer(file);
  const std::string text = read_header_text(file);
  const std::uint64_t data_start = length_size + text.size();
  const std::string document = "'" + file.path().string() + "': the safetensors header";
  const JsonNode header = JsonNode::parse_text(text, document, ErrorKind::model, DuplicateKeys::refused);
  const EntryReader entries(file, file_index, data_start);
  std::vector<TensorInfo> tensors;
  for (const auto& [name, entry] : header.json().items())
    if (name != "__metadata__") tensors.push_back(entries.read(name, entry));
  // Empty tensors share their offset with the next one: they have to come first.
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
  });
  check_layout(file, tensors, data_start);
  auto shared = aliases(header.json(), tensors);
  std::move(shared.begin(), shared.end(), std::back_inserter(tensors));
  return tensors;
}

}  // namespace spectrace
