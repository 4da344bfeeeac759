#include "spectrace/measure/stored_matrix.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "spectrace/core/error.hpp"
#include "spectrace/core/names.hpp"
#include "spectrace/core/text.hpp"
#include "spectrace/model/adapter.hpp"

namespace spectrace {
namespace {

const std::string* find_fit(const std::string& name, const std::vector<std::string>& patterns) {
  const auto found = std::find_if(patterns.begin(), patterns.end(),
                                  [&](const std::string& pattern) { return fits_pattern(name, pattern); });
  return found == patterns.end() ? nullptr : &*found;
}

bool is_stack(const TensorInfo& tensor, const TensorChoice& choice) {
  return tensor.shape.size() == 3 && find_fit(tensor.name, choice.convolutions) == nullptr;
}

/// The first of its matrices, with the tensor's name.
StoredMatrix matrix_of(const TensorInfo& tensor, const TensorChoice& choice) {
  StoredMatrix matrix{tensor.name, tensor.name, tensor.type, tensor.exceeds_float32()};
  if (is_stack(tensor, choice)) {
    matrix.rows = tensor.shape[1];
    matrix.columns = tensor.shape[2];
    matrix.slice = 0;
  } else {
    matrix.rows = tensor.shape[0];
    matrix.columns = tensor.num_elements() / tensor.shape[0];
  }
  return matrix;
}

/// What a damaged or hostile checkpoint may at most make us list: three times the experts of the largest models.
constexpr std::int64_t kMostMatrices = std::int64_t{1} << 17;

void expect_room(const StoredMatrices& found, const TensorInfo& tensor, std::int64_t count) {
  if (std::cmp_less_equal(found.matrices.size() + static_cast<std::size_t>(count), kMostMatrices)) return;
  throw InputError(ErrorKind::model, "the checkpoint holds more than " + std::to_string(kMostMatrices) + " matrices",
                   "'" + tensor.name + "' would bring another " + std::to_string(count),
                   "Take fewer ('include', 'exclude'); a stack may be a convolution ('convolutions').");
}

/// Why the tensor is left out; empty if it is not.
std::string find_reason(const TensorInfo& tensor, const TensorChoice& choice) {
  if (!is_floating(tensor.type)) return std::string("type ") + name(tensor.type) + ", which holds no floating numbers";
  if (tensor.shape.size() < 2) return number_of(tensor.shape.size(), "dimension") + ": no matrix";
  if (tensor.num_elements() == 0) return "no elements";
  if (is_buffer(tensor)) return "a mask or a table that no model learns";
  if (find_fit(tensor.name, choice.include) == nullptr) return "fits no pattern of 'include'";
  if (const auto* pattern = find_fit(tensor.name, choice.exclude)) return "excluded by '" + *pattern + "'";
  if (const auto elements = matrix_of(tensor, choice).num_elements();
      choice.max_elements > 0 && elements > choice.max_elements)
    return number_of(elements, "element") + ", more than max_elements";
  return "";
}

}  // namespace

StoredMatrices stored_matrices(const std::vector<TensorInfo>& tensors, const TensorChoice& choice) {
  std::vector<const TensorInfo*> in_order;
  for (const TensorInfo& tensor : tensors) in_order.push_back(&tensor);
  std::sort(in_order.begin(), in_order.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return comes_before(a->name, b->name); });
  StoredMatrices found;
  for (const TensorInfo* tensor : in_order) {
    if (std::string why = find_reason(*tensor, choice); !why.empty()) {
      found.left_out.push_back({tensor->name, std::move(why)});
      continue;
    }
    StoredMatrix matrix = matrix_of(*tensor, choice);
    expect_room(found, *tensor, matrix.slice ? tensor->shape[0] : 1);
    if (!matrix.slice) {
      found.matrices.push_back(std::move(matrix));
      continue;
    }
    for (std::int64_t slice = 0; slice < tensor->shape[0]; ++slice) {
      matrix.slice = slice;
      matrix.name = tensor->name + "[" + std::to_string(slice) + "]";
      found.matrices.push_back(matrix);
    }
  }
  std::set<std::string_view> names;
  for (const StoredMatrix& matrix : found.matrices)
    if (!names.insert(matrix.name).second)
      throw InputError(ErrorKind::model, "two matrices of the checkpoint would be called '" + matrix.name + "'",
                       "one is a tensor of that name, the other one of a stack", "Exclude one of them ('exclude').");
  return found;
}

}  // namespace spectrace
