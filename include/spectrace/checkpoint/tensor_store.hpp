#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
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

/// How bytes come from disk. `automatic`: read on network and parallel file systems (NFS, Lustre, GPFS, FUSE, overlay),
/// mmap on local ones.
enum class IoMode { automatic, mmap, read };
IoMode parse_io_mode(const std::string& text);

struct CheckpointFile {
  std::filesystem::path path;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since the epoch
};

/// The tensors of one checkpoint folder: safetensors (single, or sharded by an index), else pytorch_model.bin (single
/// or sharded). Opening reads headers only; data is read when asked for and not kept. Safe to use from several threads
/// at once.
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

  /// The whole tensor, converted (exactly, where the target is wider). @throws InputError (model, or io when the disk
  /// fails) naming tensor and file; also if a value is not finite: the message says how many, and where the first is.
  Tensor read(const TensorInfo& tensor, ComputeType type) const;
  /// Rows [first, first + out.size(0)) along the first dimension into `out`.
  /// @pre out is contiguous, float32 or float64, [any, shape[1:]...], and the rows exist.
  void read_rows(const TensorInfo& tensor, std::int64_t first, Tensor out) const;
  /// Chosen rows, in the order given (embedding look-up): [rows.size(), shape[1:]...]. @pre every row exists.
  Tensor gather_rows(const TensorInfo& tensor, std::span<const std::int64_t> rows, ComputeType type) const;

  /// Bytes read from disk or touched by mmap so far.
  std::uint64_t bytes_read() const { return bytes_read_->load(); }

 private:
  /// @throws InputError if the tensor's type cannot be read.
  RegionSource source_of(const TensorInfo& tensor) const;

  std::filesystem::path folder_;
  std::string format_;
  std::vector<CheckpointFile> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::shared_ptr<const FileReader>> readers_;
  bool use_mmap_ = false;
  std::shared_ptr<std::atomic<std::uint64_t>> bytes_read_ = std::make_shared<std::atomic<std::uint64_t>>(0);
};

/// @throws InputError (model) with the reason if the checkpoint is quantized: config.json's quantization_config, packed
/// integer or fp8 weights, bitsandbytes, GPTQ or AWQ tensors. Norms of packed bytes would look plausible and be wrong.
void refuse_quantized(const TensorStore& store, const JsonNode& config);

/// SHA-256 over names, sizes and all bytes of the checkpoint's files, by parallel_for in fixed segments (XXH3 of each
/// segment, SHA-256 over those). The same for any number of threads. One read of the checkpoint.
std::string digest_weights(const TensorStore& store);

}  // namespace spectrace
