#pragma once

namespace spectrace {

/// How fast a rank is.
struct MachineProfile {
  double prompt_flops_per_s = 4e10;       ///< matrix products and statistics of the forward pass
  double spectra_flops_per_s = 1.2e10;    ///< singular values of a layer's matrices and heads
  double unembedding_flops_per_s = 2e10;  ///< of the unembedding
  double read_bytes_per_s = 1e9;          ///< a rank alone
  double file_system_bytes_per_s = 2e10;  ///< all ranks together
  double network_bytes_per_s = 1e9;       ///< from rank to rank
  double message_s = 0.002;               ///< until a message is there, however short
  double open_s = 0.2, collect_s = 0.5;   ///< a model

  /// What each of so many ranks gets when all of them read.
  double read_bytes_per_s_of(int num_ranks) const {
    const double share = file_system_bytes_per_s / num_ranks;
    return share < read_bytes_per_s ? share : read_bytes_per_s;
  }
};

}  // namespace spectrace
