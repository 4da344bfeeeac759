#include "spectrace/sweep/totals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/numerics/product_rate.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "spectrace/sweep/num_threads.hpp"

namespace spectrace {
namespace {

constexpr double kWorthMeasuring_s = 5;  // shorter runs are not accounted for: the measurement would show in them

/// Of a rank that shares its host as it did during the run.
struct PeakRates {
  double float32_gflops = 0, float64_gflops = 0;  ///< per second; 0: nobody could measure them
};

/// Mean of the ranks, all of which multiply matrices at once. Collective.
PeakRates measure_peaks(int num_threads, Communicator& communicator) {
  std::array<std::int64_t, 3> sums = {};  // float32, float64, ranks
  try {
    start_compute_threads(num_threads);  // the threads that computed have ended
    sums = {static_cast<std::int64_t>(product_rate(ComputeType::float32) / 1e6),
            static_cast<std::int64_t>(product_rate(ComputeType::float64) / 1e6), 1};
    set_compute_threads(1);
  } catch (const std::exception& error) {
    // The run had its threads and its memory, and is done; that they cannot be had again is no failure of it.
    log_debug("the peak was not measured: {}", error.what());
  }
  communicator.all_reduce_sum(sums);
  const auto mean = [&](std::int64_t sum) {
    return sums[2] == 0 ? 0.0 : static_cast<double>(sum) / 1e3 / static_cast<double>(sums[2]);
  };
  return {.float32_gflops = mean(sums[0]), .float64_gflops = mean(sums[1])};
}

/// What the stages took, of all ranks: seconds, flops and bytes read. Collective.
StageTimes sum_of_stages(Communicator& communicator) {
  StageTimes all = stage_times();
  std::vector<std::int64_t> sums;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    sums.push_back(static_cast<std::int64_t>(all.seconds[i] * 1e6));
    sums.push_back(static_cast<std::int64_t>(all.flops[i] / 1e6));
    sums.push_back(static_cast<std::int64_t>(all.bytes[i]));
  }
  communicator.all_reduce_sum(sums);
  for (std::size_t i = 0; i < kNumStages; ++i) {
    all.seconds[i] = static_cast<double>(sums[3 * i]) / 1e6;
    all.flops[i] = static_cast<double>(sums[3 * i + 1]) * 1e6;
    all.bytes[i] = static_cast<std::uint64_t>(sums[3 * i + 2]);
  }
  return all;
}

void log_stage(const std::string& what, double seconds, double all_s, double flops = 0, double bytes = 0,
               double peak = 0) {
  const double rate = seconds > 0 ? flops / 1e9 / seconds : 0;
  log_info("{:<18} {:5.1f} % {:9.2f} {:>9} {:>8} {:>11}", what, 100 * seconds / all_s, seconds,
           flops > 0 ? fmt::format("{:.1f}", rate) : "",
           flops > 0 && peak > 0 ? fmt::format("{:.0f} %", 100 * rate / peak) : "",
           bytes > 0 ? fmt::format("{:.2f}", bytes / (1 << 30)) : "");
}

/// A line for each stage that took time.
void log_stage_table(const StageTimes& stages, const PeakRates& peaks, double busy_s, double all_s) {
  log_info("of the ranks' time  share   seconds   Gflop/s  of peak    GiB read");
  double seen_s = 0;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    if (stages.seconds[i] <= 0) continue;
    const auto stage = static_cast<Stage>(i);
    const bool is_forward = stage == Stage::forward || stage == Stage::embedding;
    seen_s += stages.seconds[i];
    log_stage(name(stage), stages.seconds[i], all_s, stages.flops[i], static_cast<double>(stages.bytes[i]),
              is_forward ? peaks.float32_gflops : peaks.float64_gflops);
  }
  const double other_s = std::max(0.0, busy_s - seen_s);
  log_stage("other work", other_s, all_s);
  log_stage("waiting", std::max(0.0, all_s - seen_s - other_s), all_s);
  if (peaks.float32_gflops > 0)
    log_info("peak: products of matrices, {:.1f} Gflop/s in float32, {:.1f} in float64, a rank", peaks.float32_gflops,
             peaks.float64_gflops);
}

}  // namespace

void log_totals(const RunContext& context, const Expectation& expected, double elapsed_s, Communicator& communicator) {
  std::int64_t sums[] = {static_cast<std::int64_t>(context.busy_s.load() * 1e3),
                         static_cast<std::int64_t>(context.flops_done.load() / 1e6),
                         static_cast<std::int64_t>(context.bytes_read.load())};
  double most[] = {static_cast<double>(peak_memory_bytes()), elapsed_s};
  communicator.all_reduce_sum(sums);
  communicator.all_reduce_max(most);
  const double busy_s = static_cast<double>(sums[0]) * 1e-3, peak_bytes = most[0], gib = 1 << 30;
  if (most[1] >= kWorthMeasuring_s) {  // as all ranks see it
    const StageTimes stages = sum_of_stages(communicator);
    const PeakRates peaks = measure_peaks(context.num_threads, communicator);
    if (communicator.is_root()) log_stage_table(stages, peaks, busy_s, elapsed_s * communicator.size());
  }
  if (!communicator.is_root()) return;
  log_info(
      "{:.1f} s, {:.0f} % of the ranks' time at work, {:.3g} Gflop/s a rank, {:.2f} GiB read, peak memory of a rank "
      "{:.2f} GiB",
      elapsed_s, std::min(100.0, 100 * busy_s / (elapsed_s * communicator.size())),
      busy_s > 0 ? static_cast<double>(sums[1]) * 1e-3 / busy_s : 0.0, static_cast<double>(sums[2]) / gib,
      peak_bytes / gib);
  // Below that there is nothing to learn from it.
  if (expected.busy_s <= 0 || busy_s < 1) return;
  log_info(
      "expected were {:.1f} s of work, it took {:.1f} ({:+.0f} %); {:.2f} GiB, it took {:.2f} ({:+.0f} %){}",
      expected.busy_s, busy_s, 100 * (busy_s / expected.busy_s - 1), expected.peak_bytes / gib, peak_bytes / gib,
      100 * (peak_bytes / expected.peak_bytes - 1),
      expected.is_calibrated ? "" : "; times are of typical cores, spectrace plan --calibrate measures this machine");
}

}  // namespace spectrace
