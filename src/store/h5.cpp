#include "h5.hpp"

#include <algorithm>
#include <string_view>

#include "chunk_shape.hpp"

namespace spectrace::h5 {
namespace {

std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// Takes the first entry of the walk: upward, that is the innermost.
herr_t keep_description(unsigned number, const H5E_error2_t* error, void* reason) {
  if (number == 0 && error->desc != nullptr) *static_cast<std::string*>(reason) = error->desc;
  return 0;
}

/// HDF5 wraps the system's reason: "file write failed: time = ..., errno = 28, error message = 'No space left...',
/// ...".
std::string system_reason(const std::string& description) {
  constexpr std::string_view mark = "error message = '";
  const auto begin = description.find(mark);
  if (begin == std::string::npos) return description;
  const auto end = description.find('\'', begin + mark.size());
  return description.substr(begin + mark.size(), end - begin - mark.size());
}

void write_raw_attribute(hid_t object, const char* name, hid_t type, hid_t memory_type, hid_t space, const void* data) {
  const Handle list = property_list(H5P_ATTRIBUTE_CREATE);
  SPECTRACE_H5(H5Pset_char_encoding, list.get(), H5T_CSET_UTF8);
  const Handle attribute(SPECTRACE_H5(H5Acreate2, object, name, type, space, list.get(), H5P_DEFAULT), H5Aclose);
  SPECTRACE_H5(H5Awrite, attribute.get(), memory_type, data);
}

Handle scalar_space() { return {SPECTRACE_H5(H5Screate, H5S_SCALAR), H5Sclose}; }

std::vector<const char*> pointers_to(const std::vector<std::string>& values) {
  std::vector<const char*> pointers;
  pointers.reserve(values.size());
  for (const auto& value : values) pointers.push_back(value.c_str());
  return pointers;
}

Handle write_raw_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape, hid_t type,
                         hid_t memory_type, const void* data, bool may_compress) {
  const Handle list = property_list(H5P_DATASET_CREATE);
  SPECTRACE_H5(H5Pset_obj_track_times, list.get(), false);
  SPECTRACE_H5(H5Pset_attr_creation_order, list.get(), H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const auto chunk = may_compress ? chunk_shape(shape) : std::vector<hsize_t>{};
  if (!chunk.empty()) {
    SPECTRACE_H5(H5Pset_chunk, list.get(), static_cast<int>(chunk.size()), chunk.data());
    SPECTRACE_H5(H5Pset_shuffle, list.get());
    SPECTRACE_H5(H5Pset_deflate, list.get(), 4);
    SPECTRACE_H5(H5Pset_fletcher32, list.get());
  }
  const Handle space =
      shape.empty()
          ? scalar_space()
          : Handle(SPECTRACE_H5(H5Screate_simple, static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
  Handle dataset(SPECTRACE_H5(H5Dcreate2, group, name.c_str(), type, space.get(), H5P_DEFAULT, list.get(), H5P_DEFAULT),
                 H5Dclose);
  if (data != nullptr && std::find(shape.begin(), shape.end(), 0) == shape.end())
    SPECTRACE_H5(H5Dwrite, dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
  return dataset;
}

herr_t keep_attribute_name(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

/// The names of a group's members so far, and whether all are members, not links to something else.
struct Members {
  std::vector<std::string> names;
  bool all_are_hard = true;
};

herr_t keep_link_name(hid_t, const char* name, const H5L_info_t* info, void* members) {
  auto& found = *static_cast<Members*>(members);
  found.names.emplace_back(name);
  found.all_are_hard = found.all_are_hard && info->type == H5L_TYPE_HARD;
  return 0;
}

void expect_scalar(hid_t attribute) {
  const Handle space(SPECTRACE_H5(H5Aget_space, attribute), H5Sclose);
  if (SPECTRACE_H5(H5Sget_simple_extent_npoints, space.get()) != 1) throw Error("an attribute is no single value");
}

void expect_variable_text(hid_t type) {
  if (kind_of(type) != Kind::text || SPECTRACE_H5(H5Tis_variable_str, type) == 0)
    throw Error("a text is not of variable length");
}

template <typename T>
std::vector<T> read_values(hid_t dataset, hid_t memory_type) {
  std::vector<T> values(num_elements(dataset, sizeof(T)));
  if (!values.empty()) SPECTRACE_H5(H5Dread, dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  return values;
}

}  // namespace

void detail::fail(const char* call) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_description, &reason);
  throw Error(reason.empty() ? std::string(call) + " failed" : system_reason(reason));
}

Session::Session() : lock_(library_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() { H5Eset_auto2(H5E_DEFAULT, print_, print_data_); }

void expect_values_inside(hid_t dataset) {
  const Handle list(SPECTRACE_H5(H5Dget_create_plist, dataset), H5Pclose);
  if (SPECTRACE_H5(H5Pget_layout, list.get()) == H5D_VIRTUAL || SPECTRACE_H5(H5Pget_external_count, list.get()) != 0)
    throw Error("a dataset's values lie in other files");
}

std::size_t num_elements(hid_t dataset, std::size_t element_bytes) {
  const Handle space(SPECTRACE_H5(H5Dget_space, dataset), H5Sclose);
  const auto count = static_cast<hsize_t>(SPECTRACE_H5(H5Sget_simple_extent_npoints, space.get()));
  // deflate packs at most 1032 bytes into one (zlib's documentation).
  constexpr hsize_t kMostCompression = 1032;
  const hsize_t stored_bytes = H5Dget_storage_size(dataset);
  if (count / kMostCompression > stored_bytes / element_bytes + 1 || (count > 0 && stored_bytes == 0))
    throw Error("a dataset says it has " + std::to_string(count) + " elements and holds " +
                std::to_string(stored_bytes) + " bytes");
  return count;
}

Handle property_list(hid_t list_class) { return {SPECTRACE_H5(H5Pcreate, list_class), H5Pclose}; }

Handle text_type() {
  Handle type(SPECTRACE_H5(H5Tcopy, H5T_C_S1), H5Tclose);
  SPECTRACE_H5(H5Tset_size, type.get(), H5T_VARIABLE);
  SPECTRACE_H5(H5Tset_cset, type.get(), H5T_CSET_UTF8);
  return type;
}

void write_attribute(hid_t object, const char* name, const std::string& value) {
  const Handle type = text_type();
  const char* text = value.c_str();
  write_raw_attribute(object, name, type.get(), type.get(), scalar_space().get(), &text);
}

void write_attribute(hid_t object, const char* name, const std::vector<std::string>& values) {
  const Handle type = text_type();
  const hsize_t size = values.size();
  const Handle space(SPECTRACE_H5(H5Screate_simple, 1, &size, nullptr), H5Sclose);
  write_raw_attribute(object, name, type.get(), type.get(), space.get(), pointers_to(values).data());
}

void write_attribute(hid_t object, const char* name, std::int64_t value) {
  write_raw_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, scalar_space().get(), &value);
}

void write_attribute(hid_t object, const char* name, double value) {
  write_raw_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, scalar_space().get(), &value);
}

Handle create_numbers(hid_t group, const std::string& name, const std::vector<hsize_t>& shape) {
  return write_raw_dataset(group, name, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, nullptr, true);
}

hsize_t rows_of_chunk(const std::vector<hsize_t>& shape) {
  const auto chunk = chunk_shape(shape);
  return chunk.empty() ? std::max<hsize_t>(1, shape.front()) : chunk.front();
}

std::vector<hsize_t> shape_of(hid_t dataset) {
  const Handle space(SPECTRACE_H5(H5Dget_space, dataset), H5Sclose);
  std::vector<hsize_t> shape(static_cast<std::size_t>(SPECTRACE_H5(H5Sget_simple_extent_ndims, space.get())));
  if (!shape.empty()) SPECTRACE_H5(H5Sget_simple_extent_dims, space.get(), shape.data(), nullptr);
  return shape;
}

namespace {

/// Rows [first, first + count) in the file, and as many in memory.
std::pair<Handle, Handle> spaces_of_rows(hid_t dataset, hsize_t first, hsize_t count) {
  Handle space(SPECTRACE_H5(H5Dget_space, dataset), H5Sclose);
  std::vector<hsize_t> extent = shape_of(dataset), start(extent.size(), 0);
  start.front() = first;
  extent.front() = count;
  SPECTRACE_H5(H5Sselect_hyperslab, space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr);
  Handle memory(SPECTRACE_H5(H5Screate_simple, static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose);
  return {std::move(space), std::move(memory)};
}

}  // namespace

void write_rows(hid_t dataset, hsize_t first, const std::vector<hsize_t>& shape, std::span<const double> values) {
  if (values.empty()) return;
  hsize_t row = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) row *= shape[axis];
  const auto [space, memory] = spaces_of_rows(dataset, first, values.size() / row);
  SPECTRACE_H5(H5Dwrite, dataset, H5T_NATIVE_DOUBLE, memory.get(), space.get(), H5P_DEFAULT, values.data());
}

std::vector<double> read_rows(hid_t dataset, hsize_t first, hsize_t count) {
  const auto [space, memory] = spaces_of_rows(dataset, first, count);
  std::vector<double> values(static_cast<std::size_t>(SPECTRACE_H5(H5Sget_select_npoints, space.get())));
  if (!values.empty())
    SPECTRACE_H5(H5Dread, dataset, H5T_NATIVE_DOUBLE, memory.get(), space.get(), H5P_DEFAULT, values.data());
  return values;
}

Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<double>& values) {
  return write_raw_dataset(group, name, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.data(), true);
}

Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<std::int64_t>& values) {
  return write_raw_dataset(group, name, shape, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data(), true);
}

Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<std::string>& values) {
  // Filters see references to texts only, never the texts: nothing to gain.
  const Handle type = text_type();
  return write_raw_dataset(group, name, shape, type.get(), type.get(), pointers_to(values).data(), false);
}

void set_reproducible(hid_t group_or_file_list) {
  constexpr unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
  SPECTRACE_H5(H5Pset_link_creation_order, group_or_file_list, order);
  SPECTRACE_H5(H5Pset_attr_creation_order, group_or_file_list, order);
  SPECTRACE_H5(H5Pset_obj_track_times, group_or_file_list, false);
}

std::vector<std::string> attribute_names(hid_t object) {
  std::vector<std::string> names;
  SPECTRACE_H5(H5Aiterate2, object, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, keep_attribute_name, &names);
  return names;
}

std::vector<std::string> member_names(hid_t group) {
  Members members;
  SPECTRACE_H5(H5Literate, group, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, keep_link_name, &members);
  if (!members.all_are_hard) throw Error("a group has a link that leads elsewhere");
  return std::move(members.names);
}

Kind kind_of(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_FLOAT: return Kind::number;
    case H5T_INTEGER: return Kind::integer;
    case H5T_STRING: return Kind::text;
    default: return Kind::other;
  }
}

std::string read_text_attribute(hid_t attribute) {
  expect_scalar(attribute);
  expect_variable_text(Handle(SPECTRACE_H5(H5Aget_type, attribute), H5Tclose).get());
  const Handle type = text_type();
  char* text = nullptr;
  SPECTRACE_H5(H5Aread, attribute, type.get(), &text);
  std::string value = text == nullptr ? "" : text;  // an empty text comes back as null
  H5free_memory(text);
  return value;
}

std::int64_t read_integer_attribute(hid_t attribute) {
  expect_scalar(attribute);
  std::int64_t value = 0;
  SPECTRACE_H5(H5Aread, attribute, H5T_NATIVE_INT64, &value);
  return value;
}

double read_number_attribute(hid_t attribute) {
  expect_scalar(attribute);
  double value = 0;
  SPECTRACE_H5(H5Aread, attribute, H5T_NATIVE_DOUBLE, &value);
  return value;
}

std::string read_text_attribute(hid_t object, const char* name) {
  const Handle attribute(SPECTRACE_H5(H5Aopen, object, name, H5P_DEFAULT), H5Aclose);
  return read_text_attribute(attribute.get());
}

std::vector<double> read_numbers(hid_t dataset) { return read_values<double>(dataset, H5T_NATIVE_DOUBLE); }

std::vector<std::int64_t> read_integers(hid_t dataset) { return read_values<std::int64_t>(dataset, H5T_NATIVE_INT64); }

std::vector<std::string> read_texts(hid_t dataset) {
  expect_variable_text(Handle(SPECTRACE_H5(H5Dget_type, dataset), H5Tclose).get());
  const Handle type = text_type();
  const auto pointers = read_values<char*>(dataset, type.get());
  std::vector<std::string> values;
  values.reserve(pointers.size());
  for (char* text : pointers) {
    values.emplace_back(text == nullptr ? "" : text);
    H5free_memory(text);
  }
  return values;
}

}  // namespace spectrace::h5
