#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <new>

#include "digest.hpp"
#include "h5.hpp"
#include "result_layout.hpp"
#include "result_reading.hpp"
#include "seal.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/store/result_file.hpp"
#include "vetting.hpp"

namespace spectrace {
namespace {

using h5::Handle;

/// Deeper than any results file; a group that links to itself would never end.
constexpr int kMostNesting = 8;

std::vector<std::pair<std::string, AttributeValue>> read_attributes(hid_t object) {
  std::vector<std::pair<std::string, AttributeValue>> attributes;
  for (const auto& name : h5::attribute_names(object)) {
    if (is_reserved_attribute(name)) continue;
    const Handle attribute(SPECTRACE_H5(H5Aopen, object, name.c_str(), H5P_DEFAULT), H5Aclose);
    const Handle type(SPECTRACE_H5(H5Aget_type, attribute.get()), H5Tclose);
    switch (h5::kind_of(type.get())) {
      case h5::Kind::text: attributes.emplace_back(name, h5::read_text_attribute(attribute.get())); break;
      case h5::Kind::integer: attributes.emplace_back(name, h5::read_integer_attribute(attribute.get())); break;
      case h5::Kind::number: attributes.emplace_back(name, h5::read_number_attribute(attribute.get())); break;
      case h5::Kind::other: throw h5::Error("the attribute '" + name + "' is neither a text nor a number");
    }
  }
  return attributes;
}

DatasetValues values_of(hid_t dataset) {
  const Handle type(SPECTRACE_H5(H5Dget_type, dataset), H5Tclose);
  switch (h5::kind_of(type.get())) {
    case h5::Kind::text: return h5::read_texts(dataset);
    case h5::Kind::integer: return h5::read_integers(dataset);
    case h5::Kind::number: return h5::read_numbers(dataset);
    case h5::Kind::other: break;
  }
  throw h5::Error("a dataset holds neither texts nor numbers");
}

std::string scale_name(hid_t scale) {
  const auto length = SPECTRACE_H5(H5DSget_scale_name, scale, nullptr, 0);
  std::string name(static_cast<std::size_t>(length) + 1, '\0');
  SPECTRACE_H5(H5DSget_scale_name, scale, name.data(), name.size());
  name.resize(static_cast<std::size_t>(length));
  return name;
}

/// Takes the scale and stops. No exception may pass through HDF5.
herr_t keep_scale_name(hid_t, unsigned, hid_t scale, void* name) {
  try {
    *static_cast<std::string*>(name) = scale_name(scale);
    return 1;
  } catch (const std::exception&) {
    return -1;
  }
}

std::vector<std::string> read_dims(hid_t dataset, const std::string& place) {
  const Handle space(SPECTRACE_H5(H5Dget_space, dataset), H5Sclose);
  const int rank = SPECTRACE_H5(H5Sget_simple_extent_ndims, space.get());
  std::vector<std::string> dims(static_cast<std::size_t>(rank));
  for (unsigned axis = 0; axis < dims.size(); ++axis) {
    SPECTRACE_H5(H5DSiterate_scales, dataset, axis, nullptr, keep_scale_name, &dims[axis]);
    if (dims[axis].empty()) throw h5::Error(place + " has no dimension scale on axis " + std::to_string(axis));
  }
  return dims;
}

/// A dataset of numbers that shall stay in the file.
bool is_large(hid_t dataset, std::size_t most_values) {
  const Handle type(SPECTRACE_H5(H5Dget_type, dataset), H5Tclose);
  return h5::kind_of(type.get()) == h5::Kind::number && h5::num_elements(dataset, sizeof(double)) > most_values;
}

Coordinate to_coordinate(DatasetValues values) {
  return std::visit([](auto& list) { return Coordinate(std::move(list)); }, values);
}

void read_dataset(hid_t object, const std::string& name, std::size_t most_values, Group& group) {
  h5::expect_values_inside(object);
  std::string units = h5::read_text_attribute(object, "units");
  std::string long_name = h5::read_text_attribute(object, "long_name");
  const bool is_scale = SPECTRACE_H5(H5DSis_scale, object) > 0;
  if (!is_scale && is_large(object, most_values)) {
    group.datasets.push_back({name, read_dims(object, group.path + "/" + name), std::move(units), std::move(long_name),
                              std::vector<double>(), /*in_rows=*/true});
    return;
  }
  DatasetValues values = values_of(object);
  if (is_scale) {
    group.dimensions.push_back({name, to_coordinate(std::move(values)), std::move(units), std::move(long_name)});
    return;
  }
  group.datasets.push_back(
      {name, read_dims(object, group.path + "/" + name), std::move(units), std::move(long_name), std::move(values)});
}

/// Appends the group and, after it, those in it.
void read_groups(hid_t object, const std::string& path, int nesting, std::size_t most_values, ResultTree& tree) {
  if (nesting > kMostNesting) throw h5::Error("its groups are nested too deeply");
  Group group;
  group.path = path;
  if (path != "/") group.attributes = read_attributes(object);
  std::vector<std::string> child_names;
  for (const auto& name : h5::member_names(object)) {
    const Handle member(SPECTRACE_H5(H5Oopen, object, name.c_str(), H5P_DEFAULT), H5Oclose);
    const auto type = H5Iget_type(member.get());
    if (type == H5I_GROUP)
      child_names.push_back(name);
    else if (type == H5I_DATASET)
      read_dataset(member.get(), name, most_values, group);
    else
      throw h5::Error("'" + name + "' is neither a group nor a dataset");
  }
  if (const std::string problem = find_inconsistency(group); !problem.empty()) throw h5::Error(problem);
  const bool holds_something = !group.attributes.empty() || !group.dimensions.empty() || !group.datasets.empty();
  // A group that only leads to others ("/prompts") is no part of the tree.
  if (holds_something || (child_names.empty() && path != "/")) tree.groups.push_back(std::move(group));
  for (const auto& name : child_names) {
    const Handle child(SPECTRACE_H5(H5Gopen2, object, name.c_str(), H5P_DEFAULT), H5Gclose);
    read_groups(child.get(), path == "/" ? "/" + name : path + "/" + name, nesting + 1, most_values, tree);
  }
}

Handle open_for_reading(const std::filesystem::path& path) {
  // No code is looked for by what a file says that it was packed with.
  SPECTRACE_H5(H5PLset_loading_state, 0u);
  const Handle access = h5::property_list(H5P_FILE_ACCESS);
  // Locks fail on many network file systems, and a file that has its final name never changes. Older HDF5 knows only
  // the environment variable HDF5_USE_FILE_LOCKING.
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
  SPECTRACE_H5(H5Pset_file_locking, access.get(), false, true);
#endif
  return {SPECTRACE_H5(H5Fopen, path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose};
}

ResultTree read_tree(const std::filesystem::path& path, std::size_t most_values) {
  const h5::Session session;
  const Handle file = open_for_reading(path);
  const Handle root(SPECTRACE_H5(H5Gopen2, file.get(), "/", H5P_DEFAULT), H5Gclose);
  if (SPECTRACE_H5(H5Aexists, root.get(), kDigestAttribute) == 0)
    throw h5::Error(std::string("it has no attribute ") + kDigestAttribute);
  ResultTree tree;
  tree.attributes = read_attributes(root.get());
  read_groups(root.get(), "/", 0, most_values, tree);
  return tree;
}

/// Runs f; what goes wrong in it is the file's fault.
template <typename F>
auto with_file_named(const std::filesystem::path& path, F&& f) {
  try {
    return f();
  } catch (const h5::Error& error) {
    throw unreadable_results(path, error.what());
  } catch (const std::bad_alloc&) {
    throw unreadable_results(path, "it says it holds more than fits in memory");
  } catch (const std::length_error&) {
    throw unreadable_results(path, "it says it holds more than fits in memory");
  }
}

/// Where the superblock says the file's end is (HDF5 File Format Specification, "Disk Format: Level 0A"); nothing for a
/// superblock that is of a version, or has a size of addresses, that no writer of results makes.
std::optional<std::uint64_t> end_of_file(std::span<const std::byte> superblock) {
  constexpr std::size_t version_at = 8;
  const auto version = static_cast<unsigned>(superblock[version_at]);
  const std::size_t offset_size_at = version < 2 ? 13 : 9, end_at = version < 2 ? 40 : 28;
  if (version > 3 || static_cast<unsigned>(superblock[offset_size_at]) != sizeof(std::uint64_t)) return std::nullopt;
  std::uint64_t end = 0;
  std::memcpy(&end, superblock.data() + end_at, sizeof end);
  return end;
}

/// Before HDF5 sees it: a regular file (FileReader's doing) that begins as HDF5's do, and is as long as it says.
void expect_whole_hdf5(const FileReader& file) {
  constexpr std::array<unsigned char, 8> signature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  std::array<std::byte, 48> begin{};
  if (file.size_bytes() < begin.size()) throw unreadable_results(file.path(), "it is too short, or cut short");
  file.read_at(0, begin);
  if (std::memcmp(begin.data(), signature.data(), signature.size()) != 0)
    throw unreadable_results(file.path(), "it is no HDF5 file");
  if (const auto end = end_of_file(begin); end && *end > file.size_bytes())
    throw unreadable_results(file.path(), "it is cut short: it has " + std::to_string(file.size_bytes()) +
                                              " bytes and should have " + std::to_string(*end));
}

std::string digest_of_rows(const std::filesystem::path& path, const Group& group, const Dataset& dataset) {
  std::uint64_t count = 1;
  for (const auto& dim : dataset.dims) count *= group.find_dimension(dim)->size();
  NumbersDigest digest(count);
  read_rows(path, group, {&dataset}, [&](const Dataset&, std::span<const double> rows) { digest.add(rows); });
  return digest.hex_digest();
}

bool is_of_other_format(const ResultTree& tree) {
  const auto* format = tree.find_attribute("Conventions");
  const auto* text = format == nullptr ? nullptr : std::get_if<std::string>(format);
  return text != nullptr && *text != kConventions;
}

/// What is whole in content may still have other bytes than were written: no results were touched, but it is no file to
/// pass on in silence.
void warn_of_other_bytes(const FileReader& file) {
  const std::string written = sealed_sha256(file.path());
  if (!written.empty() && written != sha256_of_bytes(file))
    log_warning(
        "'{}' is not byte for byte what was written, though its contents match its {}: another program rewrote it, or "
        "it "
        "is damaged where no result lies. Other programs may fail to read it; to have it made again, remove it.",
        file.path().string(), kDigestAttribute);
}

}  // namespace

InputError unreadable_results(const std::filesystem::path& path, const std::string& why) {
  return InputError(ErrorKind::io, "cannot read the results file '" + path.string() + "'", why,
                    "If it is a results file of spectrace, copy it again; or remove it, use --fresh or another output "
                    "folder: what it held is then computed again.");
}

ReadResults read_results_here(const std::filesystem::path& path, std::size_t most_values, DigestCheck check) {
  ReadResults read;
  expect_whole_hdf5(FileReader(path));
  read.tree = with_file_named(path, [&] { return read_tree(path, most_values); });
  if (check == DigestCheck::unasked || is_of_other_format(read.tree)) return read;
  const auto* digest = std::get_if<std::string>(read.tree.find_attribute(kDigestAttribute));
  read.is_whole =
      digest != nullptr && *digest == digest_tree(read.tree, [&](const Group& group, const Dataset& dataset) {
        return dataset.in_rows ? digest_of_rows(path, group, dataset) : digest_values(dataset.values);
      });
  return read;
}

/// A dataset of which `num_read` rows were read.
struct RowsReader::UnderWay {
  const Dataset* dataset;
  hsize_t num_read = 0, num_rows = 1;  // how many there are is known when the first were read

  std::vector<double> read_next(const std::filesystem::path& path, const Group& group) {
    constexpr hsize_t kValuesAtOnce = 1 << 19;
    const h5::Session session;
    const Handle file = open_for_reading(path);
    const std::string place = (group.path == "/" ? "" : group.path) + "/" + dataset->name;
    const Handle object(SPECTRACE_H5(H5Dopen2, file.get(), place.c_str(), H5P_DEFAULT), H5Dclose);
    const auto shape = h5::shape_of(object.get());
    if (shape.empty()) throw h5::Error(place + " has no rows");
    num_rows = shape.front();
    hsize_t row_size = 1;
    for (std::size_t axis = 1; axis < shape.size(); ++axis) row_size *= shape[axis];
    // Whole chunks, so that each is unpacked once.
    const hsize_t chunk = h5::rows_of_chunk(shape), most = kValuesAtOnce / std::max<hsize_t>(1, row_size);
    const hsize_t count = std::min(num_rows - num_read, std::max<hsize_t>(1, most / chunk) * chunk);
    auto values = h5::read_rows(object.get(), num_read, count);
    num_read += count;
    return values;
  }
};

RowsReader::RowsReader(std::filesystem::path path, const Group& group, const std::vector<const Dataset*>& datasets)
    : path_(std::move(path)), group_(group) {
  for (const Dataset* dataset : datasets) left_.push_back({dataset});
}

RowsReader::~RowsReader() = default;

void RowsReader::read_until(std::size_t num_rows,
                            const std::function<void(const Dataset& dataset, std::span<const double> rows)>& take) {
  while (!left_.empty()) {
    const auto next = std::min_element(left_.begin(), left_.end(),
                                       [](const UnderWay& a, const UnderWay& b) { return a.num_read < b.num_read; });
    if (next->num_read >= num_rows) return;
    const auto values = with_file_named(path_, [&] { return next->read_next(path_, group_); });
    take(*next->dataset, values);
    if (next->num_read >= next->num_rows) left_.erase(next);
  }
}

void read_rows(const std::filesystem::path& path, const Group& group, const std::vector<const Dataset*>& datasets,
               const std::function<void(const Dataset& dataset, std::span<const double> rows)>& take) {
  RowsReader(path, group, datasets).read_until(std::numeric_limits<std::size_t>::max(), take);
}

ResultTree read_result_file(const std::filesystem::path& path, WrongDigest wrong_digest, std::size_t most_values) {
  // Reasons of the system first: HDF5 tells a missing file, a folder and a cut one apart less well.
  const FileReader file(path);
  expect_whole_hdf5(file);
  const bool was_sealed = is_sealed(file);
  const bool was_vetted = !was_sealed && has_vetting();
  bool is_whole = !was_vetted || vet_in_process(file, most_values);
  // What a process of its own found need not be found again.
  const bool is_known = was_vetted || (was_sealed && wrong_digest == WrongDigest::unasked);
  ReadResults read;
  if (is_whole || wrong_digest == WrongDigest::warned) {
    read = read_results_here(path, most_values, is_known ? DigestCheck::unasked : DigestCheck::asked);
    is_whole = is_whole && read.is_whole;
  }
  if (const auto change = file.find_change())
    throw InputError(ErrorKind::io, "'" + path.string() + "' was changed while it was read", *change,
                     "Let nobody write to it, and run the same command again.");
  if (!is_whole && wrong_digest != WrongDigest::warned)
    throw InputError(ErrorKind::io, "the contents of '" + path.string() + "' do not match its " + kDigestAttribute,
                     "it was changed or damaged after it was written",
                     "Nothing is built upon it. Put the file back as it was, or remove it, or use --fresh: what it "
                     "held is then computed again.");
  if (!is_whole)
    log_warning("the contents of '{}' do not match its {}: was it changed after it was written?", path.string(),
                kDigestAttribute);
  if (was_sealed || !is_whole) return std::move(read.tree);
  warn_of_other_bytes(file);
  if (wrong_digest != WrongDigest::warned && !is_of_other_format(read.tree)) renew_seal(file);
  return std::move(read.tree);
}

}  // namespace spectrace
