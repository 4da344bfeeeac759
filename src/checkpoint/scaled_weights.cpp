#include "scaled_weights.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "quantization.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

constexpr const char* original_or_again =
    "Use the checkpoint in its original precision, or download it again with its own config.json.";

bool is_8_bit_float(StorageType type) { return type == StorageType::float8_e4m3 || type == StorageType::float8_e5m2; }

bool can_be_scale(StorageType type) {
  return type == StorageType::float32 || type == StorageType::bfloat16 || type == StorageType::float16 ||
         type == StorageType::float8_e8m0;
}

std::string described(const TensorInfo& tensor) { return name(tensor.type) + (" " + shape_text(tensor.shape)); }

std::int64_t blocks_of(std::int64_t size, std::int64_t block) { return size / block + (size % block != 0); }

/// "a.b.": what the names of a weight "a.b.weight" and of what belongs to it begin with; "a.b_" of "a.b".
std::string stem_of(const std::string& weight) {
  return weight.ends_with(".weight") ? weight.substr(0, weight.size() - 6) : weight + "_";
}

/// The entries of a checkpoint, in which some take the place of others.
class Joining {
 public:
  explicit Joining(CheckpointFiles& files) : files_(files) {}

  const TensorInfo* find(const std::string& name) const {
    const auto found = first_from(name);
    return found != files_.tensors.end() && found->name == name ? &*found : nullptr;
  }

  /// A tensor that the name says to be a scale of this weight; null if there is none.
  const TensorInfo* find_any_scale(const TensorInfo& weight) const {
    const std::string stem = stem_of(weight.name);
    for (auto it = first_from(stem); it != files_.tensors.end() && it->name.starts_with(stem); ++it)
      if (it->name != weight.name && it->name.find("scale", stem.size()) != std::string::npos) return &*it;
    return nullptr;
  }

  InputError error(const TensorInfo& tensor, const std::string& problem, std::string why) const {
    const auto& file = *files_.readers[static_cast<std::size_t>(tensor.file)];
    return InputError(ErrorKind::model, "'" + file.path().string() + "': tensor '" + tensor.name + "' " + problem,
                      std::move(why), original_or_again);
  }

  const std::vector<TensorInfo>& tensors() const { return files_.tensors; }
  void scale(const TensorInfo& weight, BlockScales scales) {
    used_.insert(scales.name);
    files_.tensors[static_cast<std::size_t>(&weight - files_.tensors.data())].scales =
        std::make_shared<const BlockScales>(std::move(scales));
  }
  void add(TensorInfo tensor) { added_.push_back(std::move(tensor)); }
  void take(const std::string& name) { used_.insert(name); }
  bool is_taken(const std::string& name) const { return used_.contains(name); }

  void finish() {
    auto& all = files_.tensors;
    std::erase_if(all, [&](const TensorInfo& tensor) { return used_.contains(tensor.name); });
    all.insert(all.end(), added_.begin(), added_.end());
    std::sort(all.begin(), all.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }

 private:
  std::vector<TensorInfo>::const_iterator first_from(const std::string& name) const {
    const auto& all = files_.tensors;
    return std::lower_bound(all.begin(), all.end(), name,
                            [](const TensorInfo& tensor, const std::string& n) { return tensor.name < n; });
  }

  CheckpointFiles& files_;
  std::set<std::string> used_;
  std::vector<TensorInfo> added_;
};

/// How the scales of float8 weights are named and cut.
struct Float8Layout {
  std::string suffix;
  enum class Cut { blocks, rows, whole } cut = Cut::whole;
  std::array<std::int64_t, 2> block = {0, 0};  ///< of blocks
};

Float8Layout read_float8_layout(const JsonNode& quantization, const std::string& method) {
  if (method == "fbgemm_fp8") return {.suffix = "_scale", .cut = Float8Layout::Cut::rows};
  if (const auto format = quantization.find("fmt"); format && format->as_string() != "e4m3")
    throw format->error("the weights' 8-bit floats are \"" + format->as_string() + "\"", "only e4m3 is known here",
                        original_or_again);
  Float8Layout layout{.suffix = "_scale_inv"};
  const auto block = quantization.find("weight_block_size");
  if (!block) return layout;
  if (!block->is_array() || block->size() != 2) throw block->error("is not [rows, columns]");
  layout.cut = Float8Layout::Cut::blocks;
  for (std::size_t d = 0; d < 2; ++d) {
    layout.block[d] = block->element(d).as_int();
    if (layout.block[d] < 1) throw block->element(d).error("expected at least 1");
  }
  return layout;
}

/// The block size, bounded by the matrix: one block of more rows than there are is one of all rows.
std::array<std::int64_t, 2> block_of(const Float8Layout& layout, const TensorInfo& weight) {
  const std::int64_t rows = std::max<std::int64_t>(1, weight.shape[weight.shape.size() - 2]);
  const std::int64_t columns = std::max<std::int64_t>(1, weight.shape.back());
  switch (layout.cut) {
    case Float8Layout::Cut::blocks: return layout.block;
    case Float8Layout::Cut::rows: return {1, columns};
    case Float8Layout::Cut::whole: break;
  }
  return {rows, columns};
}

void join_float8_weight(Joining& joining, const Float8Layout& layout, const TensorInfo& weight) {
  if (weight.type != StorageType::float8_e4m3)
    throw joining.error(weight, "is " + described(weight), "config.json says that the weights are e4m3");
  const TensorInfo* const scale = joining.find(weight.name + layout.suffix);
  if (scale == nullptr) {
    const TensorInfo* const other = joining.find_any_scale(weight);
    throw joining.error(weight, "is float8_e4m3 without its scales",
                        "config.json says that they are in '" + weight.name + layout.suffix + "', which is absent" +
                            (other == nullptr ? "" : "; '" + other->name + "' is another kind of scale"));
  }
  if (weight.shape.size() < 2 || !weight.is_contiguous() || !scale->is_contiguous())
    throw joining.error(weight, "is " + described(weight) + " with scales",
                        "only matrices, row by row, are known to have scales");
  const auto block = block_of(layout, weight);
  auto grid = weight.shape;
  for (std::size_t d = 0; d < 2; ++d) {
    auto& size = grid[grid.size() - 2 + d];
    size = blocks_of(size, block[d]);
  }
  const bool is_one = layout.cut == Float8Layout::Cut::whole && weight.shape.size() == 2 && scale->num_elements() == 1;
  if (!can_be_scale(scale->type) || (scale->shape != grid && !is_one))
    throw joining.error(*scale, "is " + described(*scale),
                        "expected floating numbers of shape " + shape_text(grid) + ": one for each block of " +
                            shape_text(block) + " of '" + weight.name + "' " + shape_text(weight.shape));
  joining.scale(weight, {.name = scale->name,
                         .type = scale->type,
                         .block_rows = block[0],
                         .block_cols = block[1],
                         .grid_rows = grid[grid.size() - 2],
                         .grid_cols = grid.back(),
                         .file = scale->file,
                         .offset = scale->offset});
  for (const char* of_activations : {"activation_scale", "input_scale", "input_scale_ub"})
    joining.take(stem_of(weight.name) + of_activations);
}

void join_float8(Joining& joining, const Float8Layout& layout) {
  for (const TensorInfo& tensor : joining.tensors())
    if (is_8_bit_float(tensor.type)) join_float8_weight(joining, layout, tensor);
  for (const TensorInfo& tensor : joining.tensors())
    if (tensor.name.ends_with(layout.suffix) && !joining.is_taken(tensor.name)) {
      const TensorInfo* const of = joining.find(tensor.name.substr(0, tensor.name.size() - layout.suffix.size()));
      if (of == nullptr && layout.suffix != "_scale_inv") continue;  // a name that others may have too
      throw joining.error(tensor, "is a scale, and there are no 8-bit floats that it scales",
                          of == nullptr ? "the weight is absent" : "'" + of->name + "' is " + described(*of));
    }
}

void join_mxfp4_weight(Joining& joining, const TensorInfo& blocks) {
  constexpr std::string_view suffix = "_blocks";
  constexpr std::int64_t block_bytes = 16;
  const std::string name = blocks.name.substr(0, blocks.name.size() - suffix.size());
  const TensorInfo* const scales = joining.find(name + "_scales");
  if (scales == nullptr)
    throw joining.error(blocks, "is without its scales",
                        "config.json says mxfp4: they would be in '" + name + "_scales', which is absent");
  if (joining.find(name) != nullptr)
    throw joining.error(blocks, "stands for '" + name + "'", "there is a tensor of that name as well");
  const bool is_known = blocks.type == StorageType::uint8 && blocks.shape.size() == 4 && blocks.is_contiguous() &&
                        blocks.shape.back() == block_bytes;
  if (!is_known)
    throw joining.error(blocks, "is " + described(blocks), "expected uint8 [experts, rows, blocks, 16] of mxfp4");
  const std::vector<std::int64_t> grid(blocks.shape.begin(), blocks.shape.end() - 1);
  if (scales->type != StorageType::uint8 || scales->shape != grid || !scales->is_contiguous())
    throw joining.error(*scales, "is " + described(*scales),
                        "expected uint8 " + shape_text(grid) + ": one for each block of '" + blocks.name + "'");
  TensorInfo tensor = blocks;
  tensor.name = name;
  tensor.type = StorageType::mxfp4;
  tensor.shape = {grid[0], grid[2] * block_bytes * 2, grid[1]};
  tensor.strides = row_major_strides(tensor.shape);
  tensor.scales = std::make_shared<const BlockScales>(BlockScales{.name = scales->name,
                                                                  .type = StorageType::float8_e8m0,
                                                                  .block_rows = block_bytes * 2,
                                                                  .block_cols = 1,
                                                                  .grid_rows = grid[2],
                                                                  .grid_cols = grid[1],
                                                                  .file = scales->file,
                                                                  .offset = scales->offset});
  joining.take(blocks.name);
  joining.take(scales->name);
  joining.add(std::move(tensor));
}

void join_mxfp4(Joining& joining) {
  for (const TensorInfo& tensor : joining.tensors())
    if (tensor.name.ends_with("_blocks")) join_mxfp4_weight(joining, tensor);
  for (const TensorInfo& tensor : joining.tensors())
    if (tensor.name.ends_with("_scales") && !joining.is_taken(tensor.name))
      throw joining.error(tensor, "is without its blocks", "config.json says mxfp4: a '…_blocks' belongs to it");
}

/// 8-bit floats are numbers like others only where nothing says that they are to be multiplied.
void expect_no_scales(const Joining& joining) {
  for (const TensorInfo& tensor : joining.tensors())
    if (is_8_bit_float(tensor.type))
      if (const TensorInfo* const scale = joining.find_any_scale(tensor))
        throw joining.error(tensor, "is " + described(tensor) + ", and '" + scale->name + "' seems to be its scale",
                            "config.json has no quantization_config that says how the two belong together (known: fp8, "
                            "fbgemm_fp8, mxfp4)");
}

}  // namespace

void join_scales(const std::filesystem::path& folder, CheckpointFiles& files) {
  Joining joining(files);
  const auto path = folder / "config.json";
  std::optional<JsonNode> quantization;
  if (!is_absent(path)) quantization = find_quantization(JsonNode::parse_file(path, ErrorKind::model));
  const std::string method = quantization ? quant_method(*quantization) : "";
  if (method == "fp8" || method == "fbgemm_fp8") {
    join_float8(joining, read_float8_layout(*quantization, method));
  } else if (method == "mxfp4") {
    join_mxfp4(joining);
  }
  if (method != "fp8" && method != "fbgemm_fp8") expect_no_scales(joining);
  joining.finish();
  if (quantization && is_stale(*quantization, files.tensors))
    files.warnings.push_back("config.json's quantization_config (" + method_text(*quantization) +
                             ") is not followed: all weights are stored as plain floating numbers");
}

}  // namespace spectrace
