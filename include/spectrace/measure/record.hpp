#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// An array of numbers as it goes to disk: row-major float64.
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<double> values;

  /// An array of the shape, every slot NaN ("the slot does not exist").
  static Array filled_with_nan(std::vector<std::int64_t> shape);
};

/// The same numbers as a tensor on the host, and back: of any device and real type.
Array as_array(const Tensor& tensor);
Tensor as_tensor(const Array& array, ComputeType type);

/// What one unit of work found: named arrays and texts, or why it failed. One unit, one record, in the journal as well.
struct Record {
  std::string error;  ///< empty if all went well
  std::map<std::string, Array> arrays;
  std::map<std::string, std::vector<std::string>> texts;
};

/// A byte string that decodes to the same record, bit for bit (NaN payloads too). The same record gives the same bytes.
std::string encode_record(const Record& record);
/// @throws std::runtime_error if the bytes are not a record.
Record decode_record(std::span<const std::byte> bytes);

}  // namespace spectrace
