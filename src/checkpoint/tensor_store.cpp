#include "spectrace/checkpoint/tensor_store.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "checkpoint_files.hpp"
#include "row_cache.hpp"
#include "scaled_weights.hpp"
#include "spectrace/checkpoint/element_conversion.hpp"
#include "spectrace/checkpoint/region_reader.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/tensor_memory.hpp"

namespace spectrace {
namespace {

/// File systems on this machine's own disks or memory.
bool is_local(const FileReader& file) {
  constexpr long xfs = 0x58465342, btrfs = 0x9123683e, zfs = 0x2fc12fc1, f2fs = 0xf2f52010;
  struct statfs status {};
  if (::fstatfs(file.descriptor(), &status) != 0) return false;
  const auto magic = static_cast<long>(status.f_type);
  return magic == EXT4_SUPER_MAGIC || magic == TMPFS_MAGIC || magic == xfs || magic == btrfs || magic == zfs ||
         magic == f2fs;
}

CheckpointFile describe(const FileReader& file) {
  const FileStatus& status = file.status();
  return {.path = file.path(),
          .size_bytes = status.size_bytes,
          .modified_ns = status.modified_ns,
          .changed_ns = status.changed_ns,
          .inode = status.inode};
}

/// Runs task with `out`'s data as float* or double*.
template <typename Task>
void with_data(const Tensor& out, const Task& task) {
  if (out.scalar_type() == at::kDouble) return task(out.mutable_data_ptr<double>());
  SPECTRACE_ASSERT(out.scalar_type() == at::kFloat);
  task(out.mutable_data_ptr<float>());
}

/// The same, of the types that are stored too.
template <typename Task>
void with_data_as_stored(const Tensor& out, const Task& task) {
  if (out.scalar_type() == at::kBFloat16) return task(out.mutable_data_ptr<at::BFloat16>());
  if (out.scalar_type() == at::kHalf) return task(out.mutable_data_ptr<at::Half>());
  with_data(out, task);
}

template <typename To>
constexpr at::ScalarType scalar_type_of() {
  return c10::CppTypeToScalarType<To>::value;
}

/// Of a tensor that is read: the type that is asked for, or the one that is stored where it holds less and stays.
at::ScalarType type_to_read(const TensorInfo& tensor, ComputeType type, Widening widening) {
  if (widening == Widening::later) {
    if (tensor.type == StorageType::bfloat16) return at::kBFloat16;
    if (tensor.type == StorageType::float16) return at::kHalf;
    if (tensor.type == StorageType::float32) return at::kFloat;
  }
  return scalar_type(type);
}

/// "[12, 3]": the place in the tensor of element `position` of the rows from `first_row` on.
std::string place_text(const TensorInfo& tensor, std::int64_t position) {
  std::vector<std::int64_t> index(tensor.shape.size());
  for (std::size_t d = index.size(); d-- > 0; position /= tensor.shape[d]) index[d] = position % tensor.shape[d];
  return shape_text(index);
}

std::int64_t row_elements(const TensorInfo& tensor) {
  std::int64_t count = 1;
  for (std::size_t d = 1; d < tensor.shape.size(); ++d) count *= tensor.shape[d];
  return count;
}

/// `non_finite` of the `count` values read are not finite. Row i of them is row row_of(i) of the tensor.
template <typename To, typename RowOf>
[[noreturn]] void fail_non_finite(const TensorInfo& tensor, const RegionSource& source, const To* values,
                                  std::int64_t count, std::int64_t non_finite, const RowOf& row_of) {
  const auto* const bad =
      std::find_if(values, values + count, [](To value) { return count_non_finite(&value, 1) > 0; });
  const std::int64_t position = bad - values, per_row = row_elements(tensor);
  const std::string place = place_text(tensor, row_of(position / per_row) * per_row + position % per_row);
  std::string why = std::to_string(non_finite) + " of " + std::to_string(count) + " values read; the first is " +
                    (*bad != *bad   ? "NaN"
                     : *bad > To{0} ? "inf"
                                    : "-inf") +
                    " at " + place;
  if (tensor.type == StorageType::float64 && sizeof(To) == sizeof(float))
    why += "; or it is too large for float32: try --dtype float64";
  throw InputError(ErrorKind::model,
                   "'" + source.file.path().string() + "': tensor '" + tensor.name + "' has values that are not finite",
                   why, "The weights are damaged, or the training diverged.");
}

Tensor allocate(const TensorInfo& tensor, const std::vector<std::int64_t>& shape, at::ScalarType type) {
  try {
    Tensor out = at::empty(shape, at::TensorOptions().dtype(type));
    use_large_pages(out.mutable_data_ptr(), out.nbytes());
    return out;
  } catch (const c10::Error&) {
    throw InputError(ErrorKind::model,
                     "tensor '" + tensor.name + "' of shape " + shape_text(shape) + " does not fit into memory");
  }
}

}  // namespace

IoMode parse_io_mode(const std::string& text) {
  if (text == "auto") return IoMode::automatic;
  if (text == "mmap") return IoMode::mmap;
  if (text == "read") return IoMode::read;
  throw InputError(ErrorKind::usage, "unknown way to read '" + text + "'", "allowed: auto, mmap, read");
}

TensorStore TensorStore::open(const std::filesystem::path& folder, IoMode io) {
  auto files = open_checkpoint_files(folder);
  join_scales(folder, files);
  TensorStore store;
  store.folder_ = folder;
  store.format_ = std::move(files.format);
  store.tensors_ = std::move(files.tensors);
  store.readers_ = std::move(files.readers);
  store.warnings_ = std::move(files.warnings);
  for (const auto& reader : store.readers_) store.files_.push_back(describe(*reader));
  store.digests_ = std::make_shared<TensorDigests>(store.tensors_);
  store.rows_ = std::make_shared<RowCache>();
  store.use_mmap_ = io == IoMode::mmap;
  store.is_local_ = is_local(*store.readers_.front());
  return store;
}

const TensorInfo* TensorStore::find(std::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorInfo& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

RegionSource TensorStore::source_of(const TensorInfo& tensor) const {
  const FileReader* const scales_file =
      tensor.scales ? readers_[static_cast<std::size_t>(tensor.scales->file)].get() : nullptr;
  return RegionSource{.file = *readers_[static_cast<std::size_t>(tensor.file)],
                      .use_mmap = use_mmap_,
                      .bytes_read = *bytes_read_,
                      .scales_file = scales_file};
}

void TensorStore::expect_floating(const TensorInfo& tensor) const {
  if (!is_floating(tensor.type))
    throw InputError(ErrorKind::model,
                     "'" + source_of(tensor).file.path().string() + "': tensor '" + tensor.name + "' is of type " +
                         name(tensor.type),
                     "only floating numbers can be computed with", "Use the checkpoint in its original precision.");
}

/// read_region on all threads, a segment a task. What is not contiguous is gathered first, a slab of segments at a
/// time: tasks by themselves would read the same windows of the file.
template <typename To>
std::int64_t TensorStore::read_segments(const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows,
                                        To* out) const {
  const RegionSource source = source_of(tensor);
  const std::int64_t per_row = row_elements(tensor), end = first + num_rows, height = segment_rows(tensor);
  if (num_rows == 0 || per_row == 0) return 0;
  const bool in_order = tensor.is_contiguous();
  const std::int64_t row_bytes = per_row * element_size_bytes(tensor.type);
  const std::int64_t last_row = tensor.shape.empty() ? 1 : tensor.shape[0];
  const std::int64_t end_segment = (end - 1) / height + 1;
  const std::int64_t slab = in_order ? end_segment : segments_per_slab(tensor);
  std::atomic<std::int64_t> non_finite = 0;
  for (std::int64_t begin = first / height; begin < end_segment; begin += slab) {
    const std::int64_t stop = std::min(begin + slab, end_segment);
    const std::int64_t slab_row = std::max(first, begin * height);
    std::unique_ptr<std::byte[]> gathered;
    if (!in_order) gathered = gather_region(source, tensor, slab_row, std::min(end, stop * height) - slab_row);
    parallel_for(stop - begin, [&](std::int64_t task) {
      const std::int64_t segment = begin + task;
      const std::int64_t from = std::max(first, segment * height), to = std::min(end, segment * height + height);
      const bool is_whole = from == segment * height && (to == from + height || to == last_row);
      Xxh3 hash;
      Xxh3* const sink = is_whole ? &hash : nullptr;
      To* const target = out + (from - first) * per_row;
      if (gathered) {
        const std::byte* bytes = gathered.get() + (from - slab_row) * row_bytes;
        non_finite += convert_region(tensor.type, bytes, (to - from) * per_row, target, sink);
      } else {
        non_finite += read_region(source, tensor, from, to - from, target, sink);
      }
      if (!is_whole) return;
      note_segment(tensor, segment, hash.value());
      keep_expected_rows(index_of(tensor), from, to - from, per_row, target);
    });
  }
  return non_finite;
}

void TensorStore::expect_rows(const TensorInfo& tensor, std::vector<std::int64_t> rows, ComputeType type) const {
  SPECTRACE_ASSERT(tensor.shape.size() == 2);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  rows_->expect(index_of(tensor), {std::move(rows), scalar_type(type)});
}

template <typename To>
void TensorStore::keep_expected_rows(std::size_t tensor, std::int64_t first, std::int64_t num_rows,
                                     std::int64_t num_columns, const To* values) const {
  const auto expected = rows_->expected(tensor);
  if (!expected) return;
  const auto& rows = expected->rows;
  for (auto row = std::lower_bound(rows.begin(), rows.end(), first); row != rows.end() && *row < first + num_rows;
       ++row) {
    const To* const begin = values + (*row - first) * num_columns;
    // One that is not finite is looked up by itself: its error names it.
    if (count_non_finite(begin, num_columns) > 0) continue;
    const Tensor one = at::empty({num_columns}, scalar_type_of<To>());
    std::copy_n(begin, num_columns, one.mutable_data_ptr<To>());
    rows_->add(tensor, *row, one.to(expected->type));
  }
}

template <typename To>
void TensorStore::read_segments_of_rows(const TensorInfo& tensor, std::span<const std::int64_t> wanted) const {
  const RegionSource source = source_of(tensor);
  const std::size_t index = index_of(tensor);
  const std::int64_t height = segment_rows(tensor), num_columns = row_elements(tensor);
  std::vector<std::int64_t> segments;
  for (const std::int64_t segment : digests_->unseen(index)) {
    const auto row = std::lower_bound(wanted.begin(), wanted.end(), segment * height);
    if (row != wanted.end() && *row < (segment + 1) * height) segments.push_back(segment);
  }
  parallel_for(static_cast<std::int64_t>(segments.size()), [&](std::int64_t task) {
    const std::int64_t segment = segments[static_cast<std::size_t>(task)], first = segment * height;
    const std::int64_t num_rows = std::min(height, tensor.shape[0] - first);
    const auto values = std::make_unique_for_overwrite<To[]>(static_cast<std::size_t>(num_rows * num_columns));
    Xxh3 hash;
    read_region(source, tensor, first, num_rows, values.get(), &hash);
    note_segment(tensor, segment, hash.value());
    keep_expected_rows(index, first, num_rows, num_columns, values.get());
  });
}

Tensor TensorStore::read(const TensorInfo& tensor, ComputeType type, Widening widening) const {
  expect_floating(tensor);
  Tensor out = allocate(tensor, tensor.shape, type_to_read(tensor, type, widening));
  with_data_as_stored(out, [&](auto* values) {
    const std::int64_t num_rows = tensor.shape.empty() ? 1 : tensor.shape[0];
    if (const auto non_finite = read_segments(tensor, 0, num_rows, values))
      fail_non_finite(tensor, source_of(tensor), values, out.numel(), non_finite, [](std::int64_t row) { return row; });
  });
  return out;
}

void TensorStore::read_rows(const TensorInfo& tensor, std::int64_t first, Tensor out) const {
  SPECTRACE_ASSERT(out.is_contiguous() && out.dim() > 0 && out.dim() == static_cast<std::int64_t>(tensor.shape.size()));
  SPECTRACE_ASSERT(std::equal(tensor.shape.begin() + 1, tensor.shape.end(), out.sizes().begin() + 1));
  expect_floating(tensor);
  with_data(out, [&](auto* values) {
    if (const auto non_finite = read_segments(tensor, first, out.size(0), values))
      fail_non_finite(tensor, source_of(tensor), values, out.numel(), non_finite,
                      [&](std::int64_t row) { return first + row; });
  });
}

Tensor TensorStore::gather_rows(const TensorInfo& tensor, std::span<const std::int64_t> rows, ComputeType type,
                                std::map<std::int64_t, std::string>& bad_rows) const {
  SPECTRACE_ASSERT(!tensor.shape.empty());
  expect_floating(tensor);
  RegionSource source = source_of(tensor);
  source.use_mmap = false;  // a row is a few kilobytes: less than a mapping costs
  std::vector<std::int64_t> wanted(rows.begin(), rows.end());
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  auto shape = tensor.shape;
  shape[0] = static_cast<std::int64_t>(wanted.size());
  const Tensor found = allocate(tensor, shape, scalar_type(type));
  const std::int64_t per_row = row_elements(tensor);
  const std::size_t index = index_of(tensor);
  if (rows_->expected(index) && tensor.is_contiguous())
    with_data(found,
              [&](auto* values) { read_segments_of_rows<std::remove_pointer_t<decltype(values)>>(tensor, wanted); });
  std::vector<bool> is_there(wanted.size(), false);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (const auto row = rows_->find(index, wanted[i], scalar_type(type))) {
      found[static_cast<std::int64_t>(i)].copy_(*row);
      is_there[i] = true;
    }
  with_data(found, [&](auto* values) {
    for (std::size_t i = 0, n = 1; i < wanted.size(); i += n) {
      n = 1;
      if (is_there[i]) continue;
      while (i + n < wanted.size() && !is_there[i + n] && wanted[i + n] == wanted[i] + static_cast<std::int64_t>(n))
        ++n;
      auto* const first = values + static_cast<std::int64_t>(i) * per_row;
      if (read_region(source, tensor, wanted[i], static_cast<std::int64_t>(n), first) == 0) continue;
      for (std::size_t row = i; row < i + n; ++row) {
        auto* const begin = values + static_cast<std::int64_t>(row) * per_row;
        const auto bad = std::count_if(begin, begin + per_row, [](auto value) { return !std::isfinite(value); });
        if (bad == 0) continue;
        try {
          fail_non_finite(tensor, source, begin, per_row, bad, [&](std::int64_t) { return wanted[row]; });
        } catch (const InputError& error) {
          bad_rows[wanted[row]] = error.what();
        }
        std::fill(begin, begin + per_row, 0);
      }
    }
  });
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!is_there[i] && !bad_rows.contains(wanted[i]))
      rows_->add(index, wanted[i], found[static_cast<std::int64_t>(i)]);
  std::vector<std::int64_t> places;
  places.reserve(rows.size());
  for (const std::int64_t row : rows)
    places.push_back(std::lower_bound(wanted.begin(), wanted.end(), row) - wanted.begin());
  return found.index_select(0, at::tensor(places));
}

void TensorStore::read_ahead(const TensorInfo& tensor, const std::atomic<bool>& stop) const {
  const FileReader& file = *readers_[static_cast<std::size_t>(tensor.file)];
  constexpr std::uint64_t part_bytes = 8u << 20;
  std::unique_ptr<std::byte[]> scratch;
  for (std::uint64_t done = 0; done < tensor.size_bytes && !stop.load(); done += part_bytes) {
    const std::uint64_t size = std::min(part_bytes, tensor.size_bytes - done);
    const auto offset = static_cast<off_t>(tensor.offset + done);
    if (is_local_) {
      if (::posix_fadvise(file.descriptor(), offset, static_cast<off_t>(size), POSIX_FADV_WILLNEED) != 0) return;
      continue;
    }
    // Network file systems take such advice badly or not at all; a read they understand.
    if (!scratch) scratch = std::make_unique_for_overwrite<std::byte[]>(part_bytes);
    if (::pread(file.descriptor(), scratch.get(), size, offset) <= 0) return;
  }
}

}  // namespace spectrace
