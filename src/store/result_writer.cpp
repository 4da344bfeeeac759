#include <map>
#include <set>
#include <string_view>

#include "h5.hpp"
#include "memory_file.hpp"
#include "result_layout.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/store/result_file.hpp"
#include "storable_text.hpp"

// The file is made in memory (all that it holds lies there anyway, and its image is compressed) and written by
// core/file, which knows what to do when the disk is full.

namespace spectrace {
namespace {

using h5::Handle;

void write_attributes(hid_t object, const std::vector<std::pair<std::string, AttributeValue>>& attributes) {
  for (const auto& [name, value] : attributes) {
    if (name == kDigestAttribute) continue;
    if (is_reserved_attribute(name)) throw std::logic_error("the attribute '" + name + "' is made by the writer");
    const char* c_name = name.c_str();
    if (const auto* text = std::get_if<std::string>(&value))
      h5::write_attribute(object, c_name, storable_text(*text));
    else if (const auto* integer = std::get_if<std::int64_t>(&value))
      h5::write_attribute(object, c_name, *integer);
    else
      h5::write_attribute(object, c_name, std::get<double>(value));
  }
}

Handle write_values(hid_t group, const std::string& name, const std::vector<hsize_t>& shape,
                    const DatasetValues& values) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&values)) {
    std::vector<std::string> stored;
    for (const auto& text : *texts) stored.push_back(storable_text(text));
    return h5::write_dataset(group, name, shape, stored);
  }
  if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&values))
    return h5::write_dataset(group, name, shape, *integers);
  return h5::write_dataset(group, name, shape, std::get<std::vector<double>>(values));
}

DatasetValues to_values(const Coordinate& coordinate) {
  return std::visit([](const auto& values) { return DatasetValues(values); }, coordinate);
}

void describe(hid_t dataset, const std::string& units, const std::string& long_name) {
  h5::write_attribute(dataset, "units", storable_text(units));
  h5::write_attribute(dataset, "long_name", storable_text(long_name));
}

/// What a viewer draws first in a group; null if there is nothing to draw.
const Dataset* find_signal(const Group& group) {
  for (const auto& dataset : group.datasets) {
    const auto* numbers = std::get_if<std::vector<double>>(&dataset.values);
    if (numbers != nullptr && !numbers->empty() && !dataset.dims.empty()) return &dataset;
  }
  return nullptr;
}

/// NeXus: what to draw over which axes. An axis of names is ".", viewers want numbers.
void write_plot_hints(hid_t object, const Group& group) {
  const Dataset* signal = find_signal(group);
  if (signal == nullptr) return;
  std::vector<std::string> axes;
  for (const auto& name : signal->dims) {
    const Dimension* dimension = group.find_dimension(name);
    const bool has_numbers = !std::holds_alternative<std::vector<std::string>>(dimension->values);
    axes.push_back(has_numbers ? name : ".");
  }
  h5::write_attribute(object, "NX_class", std::string("NXdata"));
  h5::write_attribute(object, "signal", signal->name);
  h5::write_attribute(object, "axes", axes);
}

/// NeXus: the group that a viewer shows first.
void write_default_plot(hid_t root, const ResultTree& tree) {
  for (const auto& group : tree.groups) {
    if (find_signal(group) == nullptr) continue;
    if (group.path == "/") return;  // root is what is drawn
    h5::write_attribute(root, "NX_class", std::string("NXroot"));
    h5::write_attribute(root, "default", group.path.substr(1));
    return;
  }
}

std::vector<hsize_t> shape_of(const Group& group, const Dataset& dataset) {
  std::vector<hsize_t> shape;
  for (const auto& name : dataset.dims) shape.push_back(group.find_dimension(name)->size());
  return shape;
}

void write_group(hid_t object, const Group& group) {
  write_attributes(object, group.attributes);
  write_plot_hints(object, group);
  std::map<std::string, Handle> scales;
  for (const auto& dimension : group.dimensions) {
    Handle scale = write_values(object, dimension.name, {dimension.size()}, to_values(dimension.values));
    SPECTRACE_H5(H5DSset_scale, scale.get(), dimension.name.c_str());
    describe(scale.get(), dimension.units, dimension.long_name);
    scales.emplace(dimension.name, std::move(scale));
  }
  for (const auto& dataset : group.datasets) {
    const Handle written = write_values(object, dataset.name, shape_of(group, dataset), dataset.values);
    describe(written.get(), dataset.units, dataset.long_name);
    for (unsigned axis = 0; axis < dataset.dims.size(); ++axis)
      SPECTRACE_H5(H5DSattach_scale, written.get(), scales.at(dataset.dims[axis]).get(), axis);
  }
}

/// Makes the groups of a path that are not there yet, each with its own properties (HDF5's own making of missing
/// parents would record times).
class GroupMaker {
 public:
  explicit GroupMaker(hid_t file) : file_(file), list_(h5::property_list(H5P_GROUP_CREATE)) {
    h5::set_reproducible(list_.get());
  }

  Handle make(const std::string& path) {
    if (path == "/") return open(path);
    std::string parent, name;
    for (std::size_t begin = 1; begin <= path.size();) {
      const std::size_t end = std::min(path.find('/', begin), path.size());
      name = path.substr(begin, end - begin);
      if (name.empty() || name == "." || name == ".." || name.find('\0') != std::string::npos)
        throw InputError(ErrorKind::usage, "the name '" + name + "' in '" + path + "' cannot stand in a results file",
                         "a name has at least one letter and is neither '.' nor '..'");
      const std::string whole = path.substr(0, end);
      if (made_.insert(whole).second) create(whole);
      begin = end + 1;
    }
    return open(path);
  }

 private:
  Handle open(const std::string& path) { return {SPECTRACE_H5(H5Gopen2, file_, path.c_str(), H5P_DEFAULT), H5Gclose}; }
  void create(const std::string& path) {
    const Handle links = h5::property_list(H5P_LINK_CREATE);
    SPECTRACE_H5(H5Pset_char_encoding, links.get(), H5T_CSET_UTF8);
    const Handle made(SPECTRACE_H5(H5Gcreate2, file_, path.c_str(), links.get(), list_.get(), H5P_DEFAULT), H5Gclose);
  }

  hid_t file_;
  Handle list_;
  std::set<std::string> made_;
};

void write_tree(hid_t file, const ResultTree& tree) {
  GroupMaker groups(file);
  {
    const Handle root = groups.make("/");
    write_attributes(root.get(), tree.attributes);
    h5::write_attribute(root.get(), kDigestAttribute, digest_tree(tree));
    write_default_plot(root.get(), tree);
  }
  for (const auto& group : tree.groups) write_group(groups.make(group.path).get(), group);
}

}  // namespace

void write_result_file(const std::filesystem::path& path, const ResultTree& tree) {
  for (const auto& group : tree.groups)
    if (const std::string problem = find_inconsistency(group); !problem.empty()) throw std::logic_error(problem);
  const h5::Session session;
  try {
    h5::MemoryFile file;
    write_tree(file.get(), tree);
    write_file_atomically(path, file.close());
  } catch (const h5::Error& error) {
    throw InputError(ErrorKind::io, "cannot make the results file '" + path.string() + "'", error.what());
  }
}

}  // namespace spectrace
