#include "spectrace/measure/record.hpp"

#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <type_traits>

#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/device.hpp"

// The layout, every number little-endian:
//   "SPCREC" version(u16)  error(text)
//   number of arrays(u64)  { name(text)  rank(u64)  shape(i64 each)  values(f64 each) }
//   number of texts(u64)   { name(text)  count(u64)  text each }
// where text is its length(u64) and its bytes. Names ascend, so one record has one encoding.

namespace spectrace {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");
static_assert(std::numeric_limits<double>::is_iec559);

constexpr std::string_view kMagic = "SPCREC";
constexpr std::uint16_t kVersion = 1;

/// Slots of an array of the shape. @throws std::runtime_error if a dimension is negative or the product does not fit.
std::uint64_t num_slots(const std::vector<std::int64_t>& shape) {
  // Judged without the zeros first: their place must not decide whether the rest overflows.
  std::uint64_t product = 1;
  bool is_empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) throw std::runtime_error("an array has the negative size " + std::to_string(size));
    if (size == 0) {
      is_empty = true;
      continue;
    }
    constexpr std::uint64_t limit = std::numeric_limits<std::uint64_t>::max() / sizeof(double);
    if (product > limit / static_cast<std::uint64_t>(size)) throw std::runtime_error("an array's size overflows");
    product *= static_cast<std::uint64_t>(size);
  }
  return is_empty ? 0 : product;
}

class Encoder {
 public:
  /// @param num_values of arrays that will come: hidden states are megabytes, and a string that grows copies them
  /// twice.
  explicit Encoder(std::size_t num_values) { bytes_.reserve(num_values * sizeof(double) + 4096); }
  template <typename T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_raw(std::string_view text) { bytes_.append(text); }
  void put_text(std::string_view text) {
    put<std::uint64_t>(text.size());
    put_raw(text);
  }
  template <typename T>
  void put_all(const std::vector<T>& values) {
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Takes bytes from the front; every length is held against what is left before anything is allocated.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::span<const std::byte> take(std::uint64_t size_bytes) {
    if (size_bytes > rest_.size())
      throw std::runtime_error("a record asks for " + std::to_string(size_bytes) + " bytes where " +
                               std::to_string(rest_.size()) + " are left");
    const auto taken = rest_.first(size_bytes);
    rest_ = rest_.subspan(size_bytes);
    return taken;
  }
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string get_text() { return get_raw(get<std::uint64_t>()); }
  std::string get_raw(std::uint64_t size_bytes) {
    const auto bytes = take(size_bytes);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  template <typename T>
  std::vector<T> get_all(std::uint64_t count) {
    const auto bytes = take(checked_size_bytes(count, sizeof(T)));
    std::vector<T> values(count);
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  /// A count of things of which each takes at least `least_bytes`.
  std::uint64_t get_count(std::size_t least_bytes) {
    const auto count = get<std::uint64_t>();
    if (checked_size_bytes(count, least_bytes) > rest_.size())
      throw std::runtime_error("a record's count of " + std::to_string(count) + " goes past its end");
    return count;
  }
  bool is_at_end() const { return rest_.empty(); }

 private:
  static std::uint64_t checked_size_bytes(std::uint64_t count, std::size_t item_bytes) {
    if (count > std::numeric_limits<std::uint64_t>::max() / item_bytes)
      throw std::runtime_error("a record's count of " + std::to_string(count) + " overflows");
    return count * item_bytes;
  }
  std::span<const std::byte> rest_;
};

/// @throws std::runtime_error unless the name comes after all names of the map: anything else was not encoded by us.
template <typename Map>
void expect_ascending(const Map& map, const std::string& name) {
  if (!map.empty() && map.rbegin()->first >= name)
    throw std::runtime_error("a record's names are out of order at '" + name + "'");
}

Array decode_array(Decoder& decoder) {
  Array array;
  array.shape = decoder.get_all<std::int64_t>(decoder.get_count(sizeof(std::int64_t)));
  array.values = decoder.get_all<double>(num_slots(array.shape));
  return array;
}

}  // namespace

Array Array::filled_with_nan(std::vector<std::int64_t> shape) {
  const auto size = num_slots(shape);
  return {std::move(shape), std::vector<double>(size, kNaN)};
}

Array as_array(const Tensor& tensor) {
  const Tensor numbers = Device::to_host(tensor).to(at::kDouble).contiguous();
  const auto* const first = numbers.const_data_ptr<double>();
  return {numbers.sizes().vec(), {first, first + numbers.numel()}};
}

Tensor as_tensor(const Array& array, ComputeType type) {
  const Tensor numbers = at::empty(array.shape, scalar_type(type));
  numbers.copy_(at::from_blob(const_cast<double*>(array.values.data()), array.shape, at::kDouble));
  return numbers;
}

std::string encode_record(const Record& record) {
  std::size_t num_values = 0;
  for (const auto& [name, array] : record.arrays) num_values += array.values.size();
  Encoder encoder(num_values);
  encoder.put_raw(kMagic);
  encoder.put(kVersion);
  encoder.put_text(record.error);
  encoder.put<std::uint64_t>(record.arrays.size());
  for (const auto& [name, array] : record.arrays) {
    if (num_slots(array.shape) != array.values.size())
      throw std::logic_error("array '" + name + "' of a record has " + std::to_string(array.values.size()) +
                             " values, its shape " + std::to_string(num_slots(array.shape)));
    encoder.put_text(name);
    encoder.put<std::uint64_t>(array.shape.size());
    encoder.put_all(array.shape);
    encoder.put_all(array.values);
  }
  encoder.put<std::uint64_t>(record.texts.size());
  for (const auto& [name, texts] : record.texts) {
    encoder.put_text(name);
    encoder.put<std::uint64_t>(texts.size());
    for (const auto& text : texts) encoder.put_text(text);
  }
  return encoder.take();
}

Record decode_record(std::span<const std::byte> bytes) {
  Decoder decoder(bytes);
  if (decoder.get_raw(kMagic.size()) != kMagic) throw std::runtime_error("these bytes are no record");
  if (const auto version = decoder.get<std::uint16_t>(); version != kVersion)
    throw std::runtime_error("a record of version " + std::to_string(version) + ", this program reads version " +
                             std::to_string(kVersion));
  Record record;
  record.error = decoder.get_text();
  // The least an entry takes: the length of its name and its rank, or its count.
  constexpr std::size_t least_bytes = 2 * sizeof(std::uint64_t);
  for (auto left = decoder.get_count(least_bytes); left > 0; --left) {
    std::string name = decoder.get_text();
    expect_ascending(record.arrays, name);
    record.arrays.emplace(std::move(name), decode_array(decoder));
  }
  for (auto left = decoder.get_count(least_bytes); left > 0; --left) {
    std::string name = decoder.get_text();
    expect_ascending(record.texts, name);
    std::vector<std::string> texts(decoder.get_count(sizeof(std::uint64_t)));
    for (auto& text : texts) text = decoder.get_text();
    record.texts.emplace(std::move(name), std::move(texts));
  }
  if (!decoder.is_at_end()) throw std::runtime_error("a record has bytes after its end");
  return record;
}

}  // namespace spectrace
