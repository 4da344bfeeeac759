#include "spectrace/checkpoint/torch_archive.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "file_error.hpp"
#include "spectrace/checkpoint/pickle.hpp"
#include "spectrace/checkpoint/safetensors.hpp"
#include "spectrace/checkpoint/zip_archive.hpp"
#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr std::uint64_t max_pickle_size = 64u << 20;

struct TypeGlobal {
  StorageType type;
  std::int64_t size_bytes;
};

/// torch's storage classes and dtypes. Types that cannot be read have a size too: their place is still checked.
const std::map<std::string_view, TypeGlobal>& type_globals() {
  static const std::map<std::string_view, TypeGlobal> table = {
      {"torch.DoubleStorage", {StorageType::float64, 8}},
      {"torch.FloatStorage", {StorageType::float32, 4}},
      {"torch.HalfStorage", {StorageType::float16, 2}},
      {"torch.BFloat16Storage", {StorageType::bfloat16, 2}},
      {"torch.LongStorage", {StorageType::int64, 8}},
      {"torch.IntStorage", {StorageType::int32, 4}},
      {"torch.ShortStorage", {StorageType::int16, 2}},
      {"torch.CharStorage", {StorageType::int8, 1}},
      {"torch.ByteStorage", {StorageType::uint8, 1}},
      {"torch.BoolStorage", {StorageType::boolean, 1}},
      {"torch.ComplexFloatStorage", {StorageType::other, 8}},
      {"torch.ComplexDoubleStorage", {StorageType::other, 16}},
      {"torch.UntypedStorage", {StorageType::other, 1}},
      {"torch.storage.UntypedStorage", {StorageType::other, 1}},
      {"torch.float64", {StorageType::float64, 8}},
      {"torch.float32", {StorageType::float32, 4}},
      {"torch.float16", {StorageType::float16, 2}},
      {"torch.bfloat16", {StorageType::bfloat16, 2}},
      {"torch.int64", {StorageType::int64, 8}},
      {"torch.int32", {StorageType::int32, 4}},
      {"torch.int16", {StorageType::int16, 2}},
      {"torch.int8", {StorageType::int8, 1}},
      {"torch.uint8", {StorageType::uint8, 1}},
      {"torch.bool", {StorageType::boolean, 1}},
      {"torch.uint16", {StorageType::other, 2}},
      {"torch.uint32", {StorageType::other, 4}},
      {"torch.uint64", {StorageType::other, 8}},
      {"torch.complex32", {StorageType::other, 4}},
      {"torch.complex64", {StorageType::other, 8}},
      {"torch.complex128", {StorageType::other, 16}},
      {"torch.float8_e4m3fn", {StorageType::float8_e4m3, 1}},
      {"torch.float8_e5m2", {StorageType::float8_e5m2, 1}},
      {"torch.float8_e4m3fnuz", {StorageType::float8_e4m3fnuz, 1}},
      {"torch.float8_e5m2fnuz", {StorageType::float8_e5m2fnuz, 1}},
      {"torch.float8_e8m0fnu", {StorageType::float8_e8m0, 1}},
  };
  return table;
}

constexpr std::string_view rebuild_tensor = "torch._utils._rebuild_tensor";
constexpr std::string_view rebuild_tensor_v2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view rebuild_tensor_v3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view rebuild_parameter = "torch._utils._rebuild_parameter";
constexpr std::string_view rebuild_parameter_with_state = "torch._utils._rebuild_parameter_with_state";
/// Of a tensor that has Python attributes: function, class, arguments, attributes.
constexpr std::string_view rebuild_with_attributes = "torch._tensor._rebuild_from_type_v2";
constexpr std::string_view tensor_class = "torch.Tensor";
constexpr std::string_view parameter_class = "torch.nn.parameter.Parameter";
constexpr std::string_view torch_size = "torch.Size";

bool allow_global(std::string_view name) {
  static const std::set<std::string_view> functions = {
      "collections.OrderedDict",    rebuild_tensor, rebuild_tensor_v2,       rebuild_tensor_v3, rebuild_parameter,
      rebuild_parameter_with_state, torch_size,     rebuild_with_attributes, tensor_class,      parameter_class,
  };
  return functions.contains(name) || type_globals().contains(name);
}

/// The records of a torch archive by their names, without the archive's own name in front.
class Archive {
 public:
  explicit Archive(const FileReader& file) : file_(file) {
    auto records = read_zip_directory(file);
    for (const auto& record : records) {
      const auto slash = record.name.find('/');
      if (slash == std::string::npos || record.name.substr(slash) != "/data.pkl") continue;
      if (!prefix_.empty()) throw file_error(file, "holds two archives", "'" + prefix_ + "' and '" + record.name + "'");
      prefix_ = record.name.substr(0, slash + 1);
    }
    if (prefix_.empty())
      throw file_error(file, "is a zip archive, but not one of torch.save", "it has no record 'data.pkl'");
    for (auto& record : records)
      if (record.name.starts_with(prefix_)) records_.emplace(record.name.substr(prefix_.size()), std::move(record));
  }

  const ZipRecord* find(const std::string& name) const {
    const auto found = records_.find(name);
    return found == records_.end() ? nullptr : &found->second;
  }

  std::string read(const ZipRecord& record) const {
    if (record.size_bytes > max_pickle_size)
      throw file_error(file_, "record '" + record.name + "' is too large for a list of tensors",
                       std::to_string(record.size_bytes) + " bytes");
    std::string text(record.size_bytes, '\0');
    file_.read_at(record.offset, std::as_writable_bytes(std::span(text)));
    return text;
  }

 private:
  const FileReader& file_;
  std::string prefix_;
  std::map<std::string, ZipRecord> records_;
};

/// Turns the calls that the pickle describes into TensorInfo.
class StateDictReader {
 public:
  StateDictReader(const FileReader& file, int file_index, const Archive& archive, const Pickle& pickle,
                  std::size_t pickle_size)
      : file_(file), file_index_(file_index), archive_(archive), pickle_(pickle), pickle_size_(pickle_size) {}

  std::vector<TensorInfo> read() {
    const PickleValue* dict = &pickle_.at(pickle_.root);
    if (dict->kind != PickleKind::dict) throw file_error(file_, "does not hold a dict of tensors", {}, how_to_convert);
    auto tensors = read_dict(*dict);
    // A training checkpoint: the weights are one level down, beside the optimizer's tensors.
    for (const char* key : {"state_dict", "model_state_dict", "model", "module"}) {
      if (!tensors.empty()) return tensors;
      if (const auto* nested = member(*dict, key); nested && nested->kind == PickleKind::dict)
        tensors = read_dict(*nested);
    }
    if (tensors.empty())
      throw file_error(file_, "holds no tensors", "its keys are " + keys_text(*dict), how_to_convert);
    return tensors;
  }

 private:
  static constexpr const char* how_to_convert =
      "Load it in Python and save the dict that maps names to tensors, as safetensors.";

  std::string keys_text(const PickleValue& dict) const {
    std::string text;
    for (std::size_t i = 0; i < dict.items.size() && text.size() < 200; i += 2)
      if (const auto& key = pickle_.at(dict.items[i]); key.kind == PickleKind::text)
        text += (text.empty() ? "'" : ", '") + key.text.substr(0, 60) + "'";
    return text.empty() ? "none" : text;
  }

  const PickleValue* member(const PickleValue& dict, std::string_view wanted) const {
    for (std::size_t i = 0; i < dict.items.size(); i += 2)
      if (const auto& key = pickle_.at(dict.items[i]); key.kind == PickleKind::text && key.text == wanted)
        return &pickle_.at(dict.items[i + 1]);
    return nullptr;
  }

  std::vector<TensorInfo> read_dict(const PickleValue& dict) {
    std::vector<TensorInfo> tensors;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const auto& key = pickle_.at(dict.items[i]);
      const auto& value = pickle_.at(dict.items[i + 1]);
      if (key.kind != PickleKind::text || value.kind != PickleKind::call) continue;
      if (!names.insert(key.text).second) throw file_error(file_, "tensor '" + key.text + "' is twice in the file");
      name_ = key.text;
      tensors.push_back(read_tensor(value));
    }
    return tensors;
  }

  [[noreturn]] void fail(const std::string& problem, std::string why = {}) const {
    throw file_error(file_, "tensor '" + name_ + "': " + problem, std::move(why));
  }

  const std::string& callable(const PickleValue& call) const { return pickle_.at(call.items[0]).text; }
  std::span<const int> arguments(const PickleValue& call) const { return pickle_.at(call.items[1]).items; }

  std::int64_t integer(int place, const char* what) const {
    const auto& value = pickle_.at(place);
    if (value.kind != PickleKind::integer) fail(std::string("its ") + what + " is not an integer");
    return value.integer;
  }

  /// A tuple of integers, or torch.Size of one.
  std::vector<std::int64_t> integers(int place, const char* what) {
    const PickleValue* value = &pickle_.at(place);
    if (value->kind == PickleKind::call && callable(*value) == torch_size && arguments(*value).size() == 1)
      value = &pickle_.at(arguments(*value)[0]);
    if (value->kind != PickleKind::tuple && value->kind != PickleKind::list)
      fail(std::string("its ") + what + " is not a tuple");
    if (value->items.size() > kMaxDimensions) fail(std::string("its ") + what + " has too many dimensions");
    // torch.save writes a shape for each tensor; one shape that stands for a million of them takes no bytes.
    num_dimensions_ += value->items.size();
    if (num_dimensions_ > pickle_size_) fail("has more dimensions, with those before it, than its list has bytes");
    std::vector<std::int64_t> numbers;
    for (const int item : value->items) numbers.push_back(integer(item, what));
    return numbers;
  }

  TypeGlobal type_of(int place) const {
    const auto& value = pickle_.at(place);
    const auto found = type_globals().find(value.text);
    if (value.kind != PickleKind::global || found == type_globals().end()) fail("its type is not one of torch's");
    return found->second;
  }

  struct Storage {
    TypeGlobal type;
    const ZipRecord* record;
    std::int64_t size_bytes;
  };

  /// The persistent id ("storage", class, key, device, number of elements) and its record data/<key>.
  Storage read_storage(int place) const {
    const auto& reference = pickle_.at(place);
    if (reference.kind != PickleKind::persistent) fail("its storage is not a record of the archive");
    const auto& id = pickle_.at(reference.items[0]);
    if (id.kind != PickleKind::tuple || id.items.size() < 5 || pickle_.at(id.items[0]).text != "storage" ||
        pickle_.at(id.items[2]).kind != PickleKind::text)
      fail("its storage is described in a way that torch.save does not use");
    const auto type = type_of(id.items[1]);
    const std::string record_name = "data/" + pickle_.at(id.items[2]).text;
    const std::int64_t count = integer(id.items[4], "number of elements");
    const ZipRecord* record = archive_.find(record_name);
    if (!record) fail("its data is missing", "the archive has no record '" + record_name + "'");
    std::int64_t size_bytes = 0;
    if (count < 0 || __builtin_mul_overflow(count, type.size_bytes, &size_bytes))
      fail("its storage's size is impossible");
    if (static_cast<std::uint64_t>(size_bytes) > record->size_bytes)
      fail("its data is cut short", "record '" + record->name + "': expected " + std::to_string(size_bytes) +
                                        " bytes, found " + std::to_string(record->size_bytes));
    return {type, record, size_bytes};
  }

  TensorInfo read_tensor(const PickleValue& value) {
    // Parameter(tensor, ...): some savers nest it, a hostile file would without end.
    const PickleValue* call = &value;
    for (int depth = 0; call->kind == PickleKind::call; ++depth) {
      const auto& function = callable(*call);
      const auto given = arguments(*call);
      if (function == rebuild_with_attributes && given.size() == 4) return read_with_attributes(given);
      if (auto tensor = read_rebuilt(function, given)) return *tensor;
      if ((function != rebuild_parameter && function != rebuild_parameter_with_state) || given.empty() || depth > 4)
        break;
      call = &pickle_.at(given[0]);
    }
    fail("is described in a way that torch.save does not use",
         call->kind == PickleKind::call ? "it is a call of '" + callable(*call) + "'" : "it is no tensor");
  }

  /// given: the function that makes the tensor, its class, the function's arguments, the attributes.
  TensorInfo read_with_attributes(std::span<const int> given) {
    const auto &function = pickle_.at(given[0]), &of_class = pickle_.at(given[1]), &list = pickle_.at(given[2]);
    if (of_class.kind != PickleKind::global || (of_class.text != tensor_class && of_class.text != parameter_class))
      fail("is of a class of its own", "only plain tensors are read: '" + of_class.text + "' may mean other numbers");
    if (function.kind == PickleKind::global && list.kind == PickleKind::tuple)
      if (auto tensor = read_rebuilt(function.text, list.items)) return *tensor;
    fail("is described in a way that torch.save does not use",
         "it has attributes, and is made by '" + function.text + "'");
  }

  /// Nothing if the function makes no tensor of a storage.
  std::optional<TensorInfo> read_rebuilt(std::string_view function, std::span<const int> given) {
    if (function == rebuild_tensor && given.size() == 4) return place_tensor(given, std::nullopt);
    if (function == rebuild_tensor_v2 && given.size() >= 6) {
      check_view(given, 6);
      return place_tensor(given, std::nullopt);
    }
    if (function == rebuild_tensor_v3 && given.size() >= 7) {
      check_view(given, 7);
      return place_tensor(given, type_of(given[6]));
    }
    return std::nullopt;
  }

  /// torch's last argument says whether the stored numbers are to be negated or conjugated when used.
  void check_view(std::span<const int> given, std::size_t at) const {
    if (given.size() > at && !pickle_.at(given[at]).items.empty())
      fail("is a negated or conjugated view", "only plain tensors are read");
  }

  /// given: storage, offset, shape, strides, ...
  TensorInfo place_tensor(std::span<const int> given, const std::optional<TypeGlobal>& dtype) {
    const Storage storage = read_storage(given[0]);
    const TypeGlobal type = dtype.value_or(storage.type);
    TensorInfo tensor;
    tensor.name = name_;
    tensor.file = file_index_;
    tensor.type = type.type;
    tensor.shape = integers(given[2], "shape");
    tensor.strides = integers(given[3], "strides");
    const std::int64_t first = integer(given[1], "offset");
    if (tensor.shape.size() != tensor.strides.size()) fail("its shape and its strides differ in length");
    const auto num_elements = checked_num_elements(tensor.shape);
    if (!num_elements) fail("its shape " + shape_text(tensor.shape) + " is impossible");
    // A view with strides of 0 repeats its elements without end; what it takes must follow from the file.
    if (static_cast<std::uint64_t>(*num_elements) > file_.size_bytes())
      fail("its shape " + shape_text(tensor.shape) + " has more elements than the file has bytes");
    const auto extent = checked_extent(tensor.shape, tensor.strides);
    if (!extent) fail("its strides " + shape_text(tensor.strides) + " are impossible");
    const std::int64_t available = storage.size_bytes / type.size_bytes;
    if (first < 0 || first > available || *extent > available - first)
      fail("reaches past the end of its storage",
           "shape " + shape_text(tensor.shape) + ", strides " + shape_text(tensor.strides) + " from element " +
               std::to_string(first) + ", but the storage has " + std::to_string(available));
    tensor.offset = storage.record->offset + static_cast<std::uint64_t>(first * type.size_bytes);
    tensor.size_bytes = static_cast<std::uint64_t>(*extent * type.size_bytes);
    return tensor;
  }

  const FileReader& file_;
  int file_index_;
  const Archive& archive_;
  const Pickle& pickle_;
  std::size_t pickle_size_, num_dimensions_ = 0;
  std::string name_;  ///< of the tensor being read, for messages
};

/// Before 1.6 torch.save wrote a bare pickle: protocol 2, then a magic number.
void refuse_legacy(const FileReader& file) {
  std::array<unsigned char, 2> start{};
  if (file.size_bytes() < start.size()) throw file_error(file, "is cut short", "it has less than 2 bytes");
  file.read_at(0, std::as_writable_bytes(std::span(start)));
  if (start[0] == 0x80)
    throw file_error(file, "is in torch's old format", "written by torch before 1.6, or not as a zip archive",
                     "Convert it in Python: torch.save(torch.load(file, weights_only=True), file).");
  if (start[0] != 'P' || start[1] != 'K') throw file_error(file, "is not a file of torch.save", "it is no zip archive");
}

}  // namespace

std::vector<TensorInfo> read_torch_archive(const FileReader& file, int file_index) {
  refuse_lfs_pointer(file);
  refuse_legacy(file);
  const Archive archive(file);
  if (const auto* order = archive.find("byteorder"); order && archive.read(*order) != "little")
    throw file_error(file, "was written on a big-endian machine", "its record 'byteorder' is not 'little'",
                     "Load it in Python with torch.load and save it again.");
  const std::string bytes = archive.read(*archive.find("data.pkl"));
  const Pickle pickle = read_pickle(bytes, "'" + file.path().string() + "': data.pkl", allow_global);
  return StateDictReader(file, file_index, archive, pickle, bytes.size()).read();
}

}  // namespace spectrace
