#pragma once

#include <filesystem>

#include "checkpoint_files.hpp"

namespace spectrace {

/// Joins weights and their scales into one entry, by the name that the weight would have if it were stored plainly, and
/// with the shape that it would have then, as the folder's config.json says:
/// - "fp8" (DeepSeek-V3): w of float8_e4m3 and w_scale_inv, one scale for each weight_block_size, or one in all;
/// - "fbgemm_fp8": w of float8_e4m3 and w_scale, one scale for each row;
/// - "mxfp4" (gpt-oss): w_blocks [E, N, K/32, 16] and w_scales [E, N, K/32], both uint8, as w of [E, K, N].
/// Scales of activations, which say nothing of the weights, lose their entries too. Of any other method nothing is
/// joined. @throws InputError (model) naming file and tensor where a weight or a scale lacks the other, or does not
/// fit it.
void join_scales(const std::filesystem::path& folder, CheckpointFiles& files);

}  // namespace spectrace
