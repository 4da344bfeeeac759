#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

struct RegionSource;
class TensorDigests;
class RowCache;

/// How bytes come from disk. `automatic` reads: what is hashed and what is converted are then the same bytes whatever
/// becomes of the file meanwhile, large reads are 8 to 50 times faster than page faults on network file systems (NFS,
/// Lustre, GPFS), and on local ones faster too, since every mapping is torn down again.
enum class IoMode { automatic, mmap, read };
IoMode parse_io_mode(const std::string& text);

/// Whether what is stored in less than the type that is asked for is widened when it is read, or stays as it is for
/// another to widen it: it is exact wherever it is done.
enum class Widening { here, later };

/// As it was when it was opened.
struct CheckpointFile {
  std::filesystem::path path;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since the epoch
  std::int64_t changed_ns = 0;   ///< since the epoch (ctime)
  std::uint64_t inode = 0;
};

/// The tensors of one checkpoint folder: safetensors (single, or sharded by an index), else pytorch_model.bin (single
/// or sharded). A weight that a publisher stored as 8- or 4-bit floats with scales (config.json's quantization_config:
/// fp8, fbgemm_fp8, mxfp4) is one tensor, under its plain name and with the shape that it would have if it were stored
/// plainly: values come multiplied, digests are over both. Opening reads headers only; data is read when asked for and
/// not kept. Safe to use from several threads at once. What is read is what is identified: reading takes the hash of
/// the very bytes that it converts (TensorDigests), so that no second pass over the files is needed.
class TensorStore {
 public:
  /// Opens every file. @throws InputError (model) naming the file and tensor: missing shard, file cut short (sizes are
  /// held against the header), overlapping or out-of-range offsets, unknown opcode or global in a .bin, ...
  static TensorStore open(const std::filesystem::path& folder, IoMode io = IoMode::automatic);

  const std::filesystem::path& folder() const { return folder_; }
  /// "safetensors" or "pytorch"
  const std::string& format() const { return format_; }
  /// Sorted by name.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<CheckpointFile>& files() const { return files_; }
  const TensorInfo* find(std::string_view name) const;
  /// What is read otherwise than one could expect of the files: to be told to whoever named the checkpoint.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// The whole tensor, converted (exactly, where the target is wider; what has scales as read_region says). @throws
  /// InputError (model) naming the file where it has become shorter or its disk fails, and the tensor where a value is
  /// not finite: the message says how many, and where the first is; also if a part was read before and had other bytes
  /// then.
  Tensor read(const TensorInfo& tensor, ComputeType type, Widening widening = Widening::here) const;
  /// Rows [first, first + out.size(0)) along the first dimension into `out`. Of these the digest sees the segments that
  /// lie within: blocks should be a multiple of segment_rows(tensor). Throws as read does.
  /// @pre out is contiguous, float32 or float64, [any, shape[1:]...], and the rows exist.
  void read_rows(const TensorInfo& tensor, std::int64_t first, Tensor out) const;
  /// Chosen rows, in the order given (embedding look-up): [rows.size(), shape[1:]...]; each is read once, however often
  /// it is chosen, and some MiB of them are kept for the next call. The digest sees nothing of them, unless they were
  /// expected. Rows with values that are not finite come as zeros and are named in `bad_rows`, by their number in the
  /// tensor, with the error's text; the others are what they are.
  /// @pre every row exists.
  Tensor gather_rows(const TensorInfo& tensor, std::span<const std::int64_t> rows, ComputeType type,
                     std::map<std::int64_t, std::string>& bad_rows) const;

  /// Says which rows gather_rows will be asked for, and in which type. From then on, whatever reads them whole segments
  /// at a time keeps them, some MiB of them; and gather_rows reads the segments that no digest has seen yet whole,
  /// since the digest needs their bytes anyway. So the tensor is read once for both.
  /// @pre the tensor is a matrix, and every row exists.
  void expect_rows(const TensorInfo& tensor, std::vector<std::int64_t> rows, ComputeType type) const;

  /// Brings the tensor's bytes from the disk into the host's cache, until `stop`. A hint: nothing is reported, nothing
  /// is counted.
  void read_ahead(const TensorInfo& tensor, const std::atomic<bool>& stop) const;

  /// What the tensor's bytes are: 32 hexadecimal digits over type, shape and the elements' bytes in row-major order.
  /// The same for any number of threads, way of reading, file layout and strides; the name is no part of it. Nothing as
  /// long as a part of the tensor has not been read.
  std::optional<std::string> digest(const TensorInfo& tensor) const;
  /// The same; reads what has not been read yet, without converting it. Of every type. @throws InputError as read does.
  std::string read_digest(const TensorInfo& tensor) const;
  /// The hashes of the segments [first, last) of a tensor (TensorDigests): of a part that one of several readers had.
  /// Reads what has not been read yet. Throws as read_digest does.
  std::vector<std::uint64_t> read_segment_hashes(const TensorInfo& tensor, std::int64_t first, std::int64_t last) const;

  /// 64 hexadecimal digits over what the system said of the files when they were opened: for each in order its name
  /// (not its folder), size, mtime, ctime and inode. Says nothing of the content; the same as long as nobody touches
  /// the files, on every host that shares them.
  std::string fingerprint() const;
  /// Expects the files, by the open descriptors and at their paths, to be what they were when they were opened.
  /// @throws InputError (model) naming the file and what has changed.
  void expect_unchanged() const;

  /// Bytes read from disk or touched by mmap so far.
  std::uint64_t bytes_read() const { return bytes_read_->load(); }

 private:
  RegionSource source_of(const TensorInfo& tensor) const;
  /// @throws InputError if the tensor's type cannot be computed with.
  void expect_floating(const TensorInfo& tensor) const;
  /// Its index in tensors().
  std::size_t index_of(const TensorInfo& tensor) const;
  /// Notes a segment's hash. @throws InputError (model) if the segment was read before and had another one.
  void note_segment(const TensorInfo& tensor, std::int64_t segment, std::uint64_t hash) const;
  /// Reads these segments, in order, and notes their hashes.
  void hash_segments(const TensorInfo& tensor, const std::vector<std::int64_t>& segments) const;
  /// Keeps those of the rows that are expected to be looked up. values: [num_rows, columns].
  template <typename To>
  void keep_expected_rows(std::size_t tensor, std::int64_t first, std::int64_t num_rows, std::int64_t num_columns,
                          const To* values) const;
  /// Reads the unseen segments that hold rows which are wanted and not kept. @pre rows of the tensor are expected.
  template <typename To>
  void read_segments_of_rows(const TensorInfo& tensor, std::span<const std::int64_t> wanted) const;
  template <typename To>
  std::int64_t read_segments(const TensorInfo& tensor, std::int64_t first, std::int64_t num_rows, To* out) const;

  std::filesystem::path folder_;
  std::string format_;
  std::vector<CheckpointFile> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::shared_ptr<const FileReader>> readers_;
  std::vector<std::string> warnings_;
  bool use_mmap_ = false, is_local_ = false;
  std::shared_ptr<TensorDigests> digests_;
  std::shared_ptr<RowCache> rows_;
  std::shared_ptr<std::atomic<std::uint64_t>> bytes_read_ = std::make_shared<std::atomic<std::uint64_t>>(0);
};

/// @throws InputError (model) with the reason if the checkpoint is quantized in a way that is not undone here: by
/// config.json's quantization_config, packed integers, or tensors that only a quantizer writes. Norms of packed bytes
/// would look plausible and be wrong. A quantization_config beside plain floating numbers alone is none.
void refuse_quantized(const TensorStore& store, const JsonNode& config);

/// How the numbers of tensors with scales come about: "252 tensors are float8_e4m3 times …"; empty if there are none.
std::string decoding_text(const TensorStore& store);

/// SHA-256 over every tensor's name and digest; reads what has not been read yet.
std::string digest_weights(const TensorStore& store);

}  // namespace spectrace
