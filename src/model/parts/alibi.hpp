#pragma once

#include <cstdint>
#include <vector>

namespace spectrace {

/// ALiBi's slope of each head for any number of heads (Press et al. 2021, arXiv:2108.12409, and its reference code):
/// powers of 2^(-8/n) for the power of two n below, then every other one of the next power of two. In float32, as the
/// models were trained.
std::vector<double> alibi_slopes(std::int64_t num_heads);

/// The same heads' powers of 2^(-bias_max/n), rounded as MPT's code does (MosaicML's llm-foundry).
std::vector<double> alibi_slopes(std::int64_t num_heads, std::int64_t bias_max);

}  // namespace spectrace
