#pragma once

namespace spectrace::text {

/// The double that Rust's serde_json makes of the shortest decimal form of `value`: all digits as one integer, divided
/// by a power of ten, which is off by a unit in the last place for every fourth score of a Unigram model. Segmentations
/// of equal score (rows of dashes) are decided by just that, so PyPI tokenizers' ids need it.
double as_serde_json_reads(double value);

}  // namespace spectrace::text
