#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string_view>

#include "digest.hpp"
#include "h5.hpp"
#include "image_file.hpp"
#include "result_layout.hpp"
#include "seal.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/store/result_file.hpp"
#include "storable_text.hpp"

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
    if (!std::holds_alternative<std::vector<double>>(dataset.values) || dataset.dims.empty()) continue;
    bool is_empty = false;
    for (const auto& name : dataset.dims) is_empty |= group.find_dimension(name)->size() == 0;
    if (!is_empty) return &dataset;
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

std::vector<hsize_t> sizes_along(const Group& group, const Dataset& dataset) {
  std::vector<hsize_t> shape;
  for (const auto& name : dataset.dims) shape.push_back(group.find_dimension(name)->size());
  return shape;
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

/// A dataset whose rows are being written.
struct OpenRows {
  std::string name;
  Handle dataset;
  std::vector<hsize_t> shape;
  hsize_t row_size = 1, chunk_rows = 1, num_given = 0, num_written = 0;
  std::vector<double> waiting;  // rows that are not written yet
  NumbersDigest digest;

  bool is_finished() const { return num_written == shape.front(); }
  hsize_t end_of_next_chunk() const { return std::min(num_written + chunk_rows, shape.front()); }
};

}  // namespace

struct ResultFileWriter::State {
  explicit State(const std::filesystem::path& final_path)
      : path(final_path), temporary(final_path.string() + ".part" + std::to_string(::getpid())) {
    image = std::make_unique<h5::ImageFile>(temporary);
    groups = std::make_unique<GroupMaker>(image->get());
  }

  void add_group(const Group& group);
  /// Writes the chunks that can be: in the order of the rows that they end with, so that the file's bytes do not know
  /// in which portions the rows came.
  void write_chunks(std::vector<OpenRows>& group);

  std::filesystem::path path, temporary;
  std::unique_ptr<h5::ImageFile> image;
  std::unique_ptr<GroupMaker> groups;
  std::map<std::string, std::vector<OpenRows>> rows;  // by group
  std::map<std::string, std::string> digests;         // of values, by place
  ResultTree outline;                                 // all but the values of datasets
  bool committed = false;
};

namespace {

std::string place_of(const Group& group, const std::string& dataset) { return group.path + "/" + dataset; }

/// Runs f; what HDF5 says, or the system where it was to blame, becomes an error of the file.
template <typename F>
void while_writing(const std::filesystem::path& path, const h5::ImageFile* image, F&& f) {
  const h5::Session session;
  std::string reason;
  try {
    f();
  } catch (const h5::Error& error) {
    reason = error.what();
  }
  if (image != nullptr && !image->system_error().empty()) reason = image->system_error();
  if (!reason.empty()) throw InputError(ErrorKind::io, "cannot make the results file '" + path.string() + "'", reason);
}

}  // namespace

void ResultFileWriter::State::add_group(const Group& group) {
  const Handle object = groups->make(group.path);
  if (group.path != "/") write_attributes(object.get(), group.attributes);
  write_plot_hints(object.get(), group);
  std::map<std::string, Handle> scales;
  for (const auto& dimension : group.dimensions) {
    Handle scale = write_values(object.get(), dimension.name, {dimension.size()}, to_values(dimension.values));
    SPECTRACE_H5(H5DSset_scale, scale.get(), dimension.name.c_str());
    describe(scale.get(), dimension.units, dimension.long_name);
    scales.emplace(dimension.name, std::move(scale));
  }
  for (const auto& dataset : group.datasets) {
    const auto shape = sizes_along(group, dataset);
    Handle written = dataset.in_rows ? h5::create_numbers(object.get(), dataset.name, shape)
                                     : write_values(object.get(), dataset.name, shape, dataset.values);
    describe(written.get(), dataset.units, dataset.long_name);
    for (unsigned axis = 0; axis < dataset.dims.size(); ++axis)
      SPECTRACE_H5(H5DSattach_scale, written.get(), scales.at(dataset.dims[axis]).get(), axis);
    if (!dataset.in_rows) {
      digests[place_of(group, dataset.name)] = digest_values(dataset.values);
      continue;
    }
    hsize_t size = 1;
    for (const hsize_t extent : shape) size *= extent;
    OpenRows open{dataset.name, std::move(written), shape, 1, h5::rows_of_chunk(shape), 0, 0, {}, NumbersDigest(size)};
    for (std::size_t axis = 1; axis < shape.size(); ++axis) open.row_size *= shape[axis];
    if (open.row_size == 0) open.num_given = open.num_written = shape.front();  // rows of nothing
    rows[group.path].push_back(std::move(open));
  }
  Group& described = outline.groups.emplace_back();
  described.path = group.path;
  described.attributes = group.attributes;
  described.dimensions = group.dimensions;
  for (const auto& dataset : group.datasets)
    described.datasets.push_back({dataset.name, dataset.dims, dataset.units, dataset.long_name, {}, /*in_rows=*/true});
}

void ResultFileWriter::State::write_chunks(std::vector<OpenRows>& group) {
  for (bool any = false;; any = true) {
    OpenRows* next = nullptr;
    hsize_t all_given = static_cast<hsize_t>(-1);
    for (auto& open : group) {
      all_given = std::min(all_given, open.num_given);
      if (!open.is_finished() && (next == nullptr || open.end_of_next_chunk() < next->end_of_next_chunk()))
        next = &open;
    }
    if (next == nullptr || next->end_of_next_chunk() > all_given) {
      if (any) image->release_memory();
      return;
    }
    const auto size = static_cast<std::ptrdiff_t>((next->end_of_next_chunk() - next->num_written) * next->row_size);
    const auto end = next->waiting.begin() + size;
    h5::write_rows(next->dataset.get(), next->num_written, next->shape, std::span(next->waiting.begin(), end));
    next->num_written = next->end_of_next_chunk();
    next->waiting.erase(next->waiting.begin(), end);
  }
}

ResultFileWriter::ResultFileWriter(const std::filesystem::path& path) {
  while_writing(path, nullptr, [&] { state_ = std::make_unique<State>(path); });
}

ResultFileWriter::~ResultFileWriter() {
  const h5::Session session;
  const std::filesystem::path temporary = state_->committed ? "" : state_->temporary;
  state_->rows.clear();
  state_.reset();
  if (!temporary.empty()) ::unlink(temporary.c_str());
}

void ResultFileWriter::add_group(const Group& group) {
  if (const std::string problem = find_inconsistency(group); !problem.empty()) throw std::logic_error(problem);
  while_writing(state_->path, state_->image.get(), [&] { state_->add_group(group); });
}

void ResultFileWriter::write_rows(const std::string& group, const std::string& dataset,
                                  std::span<const double> values) {
  auto& all = state_->rows.at(group);
  const auto open =
      std::find_if(all.begin(), all.end(), [&](const OpenRows& candidate) { return candidate.name == dataset; });
  if (open == all.end()) throw std::logic_error(group + "/" + dataset + " is not written in rows");
  open->digest.add(values);
  if (open->row_size == 0) return;
  open->waiting.insert(open->waiting.end(), values.begin(), values.end());
  open->num_given += values.size() / open->row_size;
  while_writing(state_->path, state_->image.get(), [&] { state_->write_chunks(all); });
}

void ResultFileWriter::commit(const std::vector<std::pair<std::string, AttributeValue>>& attributes) {
  State& state = *state_;
  while_writing(state.path, state.image.get(), [&] {
    for (auto& [group, all] : state.rows)
      for (auto& open : all) {
        if (!open.is_finished() || !open.waiting.empty())
          throw std::logic_error(group + "/" + open.name + " has too few rows, or too many");
        state.digests[group + "/" + open.name] = open.digest.hex_digest();
      }
    // HDF5 writes what it has kept of a dataset when that is closed.
    while (!state.rows.empty()) {
      state.rows.erase(std::prev(state.rows.end()));
      state.image->release_memory();
    }
    state.outline.attributes = attributes;
    const std::string digest = digest_tree(state.outline, [&](const Group& group, const Dataset& dataset) {
      return state.digests.at(place_of(group, dataset.name));
    });
    {
      const Handle root = state.groups->make("/");
      write_attributes(root.get(), attributes);
      h5::write_attribute(root.get(), kDigestAttribute, digest);
      // NeXus: the group that a viewer shows first.
      for (const auto& group : state.outline.groups) {
        const Dataset* signal = find_signal(group);
        if (signal == nullptr) continue;
        if (group.path == "/") break;  // root is what is drawn
        h5::write_attribute(root.get(), "NX_class", std::string("NXroot"));
        h5::write_attribute(root.get(), "default", group.path.substr(1));
        break;
      }
    }
    state.groups.reset();
    state.image->close();
  });
  commit_file(state.temporary, state.path);
  state.committed = true;
  write_seal(state.path);
}

void write_result_file(const std::filesystem::path& path, const ResultTree& tree) {
  for (const auto& group : tree.groups)
    if (const std::string problem = find_inconsistency(group); !problem.empty()) throw std::logic_error(problem);
  ResultFileWriter writer(path);
  for (const auto& group : tree.groups) writer.add_group(group);
  writer.commit(tree.attributes);
}

}  // namespace spectrace
