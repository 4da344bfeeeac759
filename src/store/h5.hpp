#pragma once

#include <hdf5.h>
#include <hdf5_hl.h>

#include <cstdint>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// The thin layer over HDF5's C interface: identifiers that close, errors that carry HDF5's innermost reason, texts and
// numbers in the few types that a results file has.

namespace spectrace::h5 {

/// A call of HDF5 failed. what() is the innermost reason; result_file turns it into an InputError with the file's name.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {
/// @throws Error with the innermost reason of HDF5's error stack.
[[noreturn]] void fail(const char* call);
}  // namespace detail

/// Passes on what a call returned. @throws Error if it is negative.
template <typename T>
T checked(T result, const char* call) {
  if (result < 0) detail::fail(call);
  return result;
}

/// The one way to call HDF5: SPECTRACE_H5(H5Fflush, file, H5F_SCOPE_LOCAL).
#define SPECTRACE_H5(function, ...) ::spectrace::h5::checked(function(__VA_ARGS__), #function)

/// An HDF5 identifier, closed at the end of its life.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  hid_t get() const { return id_; }
  /// Closes now. @throws Error, for what only shows when all is written out.
  void close_checked() { checked(close_(std::exchange(id_, H5I_INVALID_HID)), "closing"); }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

/// Held while HDF5 is in use: its libraries are mostly built without thread safety, and print every error by default.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

Handle property_list(hid_t list_class);
/// Variable-length UTF-8, the one text type of a results file.
Handle text_type();

void write_attribute(hid_t object, const char* name, const std::string& value);
void write_attribute(hid_t object, const char* name, const std::vector<std::string>& values);
void write_attribute(hid_t object, const char* name, std::int64_t value);
void write_attribute(hid_t object, const char* name, double value);

/// Creates and fills a dataset; `shape` is empty for a scalar. Large numbers go to checksummed, compressed chunks.
/// @pre values has the product of the shape many elements.
Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<double>& values);
Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<std::int64_t>& values);
Handle write_dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                     const std::vector<std::string>& values);

/// The same without values: they come in rows along the first dimension.
Handle create_numbers(hid_t group, const std::string& name, const std::vector<hsize_t>& shape);
/// Rows of a dataset that its chunks hold together: writing them at once touches each chunk once.
hsize_t rows_of_chunk(const std::vector<hsize_t>& shape);
void write_rows(hid_t dataset, hsize_t first, const std::vector<hsize_t>& shape, std::span<const double> values);
std::vector<double> read_rows(hid_t dataset, hsize_t first, hsize_t count);
std::vector<hsize_t> shape_of(hid_t dataset);

/// Creation properties of groups and files: creation order tracked, times off.
void set_reproducible(hid_t group_or_file_list);

/// Names of an object's attributes and of a group's members, in the order they were made. @throws Error for a link that
/// leads elsewhere (a soft or external one).
std::vector<std::string> attribute_names(hid_t object);
std::vector<std::string> member_names(hid_t group);

/// A dataset's values can lie in other files, of any name: not so in a results file. @throws Error.
void expect_values_inside(hid_t dataset);

/// Elements of a dataset, held against the bytes that the file has for them. @throws Error if it cannot hold as many as
/// it says.
std::size_t num_elements(hid_t dataset, std::size_t element_bytes);

/// What a dataset or attribute holds.
enum class Kind { number, integer, text, other };
Kind kind_of(hid_t type);

std::string read_text_attribute(hid_t attribute);
std::int64_t read_integer_attribute(hid_t attribute);
double read_number_attribute(hid_t attribute);
/// The attribute's text. @throws Error if there is no such attribute.
std::string read_text_attribute(hid_t object, const char* name);

/// All elements, row-major. @throws Error if the file cannot hold as many as it says.
std::vector<double> read_numbers(hid_t dataset);
std::vector<std::int64_t> read_integers(hid_t dataset);
std::vector<std::string> read_texts(hid_t dataset);

}  // namespace spectrace::h5
