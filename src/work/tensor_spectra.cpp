#include "tensor_spectra.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "layer_spectra.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {
namespace {

/// Of small matrices so many go together that they take about a second of a core for each thread: a round of threads
/// ends with waiting.
constexpr double kFlopsOfThread = 2e10;

/// Leaves a matrix in the middle because of a stop. No std::exception: nobody takes it for the unit's failure.
struct LeaveMatrix {};

const TensorWork& work_of(const Unit& unit) { return *unit.of_tensor(); }

bool is_in_rows(const Unit& unit) { return comes_in_rows(work_of(unit).matrix); }

std::int64_t bytes_of(const Unit& unit) { return stored_spectrum_bytes(work_of(unit).matrix); }

}  // namespace

bool TensorSpectra::run(std::vector<std::size_t>& units) {
  std::erase_if(units, [&](std::size_t unit) {
    const auto lack = events_.find_refusal(unit);
    if (lack) report(unit, failed_record(*lack), plan_.units[unit].flops);
    return lack.has_value();
  });
  while (!units.empty()) {
    if (events_.stop_requested()) return false;
    if (const std::size_t count = window(units); count > 0) {
      if (!run_window(units, count)) return false;
    } else {
      if (!run_in_rows(units.front())) return false;
      units.erase(units.begin());
    }
  }
  return !events_.stop_requested();
}

/// How many of the first units go side by side; 0: the first one comes in rows.
std::size_t TensorSpectra::window(const std::vector<std::size_t>& units) const {
  const auto threads = static_cast<std::size_t>(num_threads());
  std::vector<std::int64_t> largest;  // of those that may be under work at once, descending
  double flops = 0;
  std::size_t count = 0;
  for (; count < units.size(); ++count) {
    const Unit& unit = plan_.units[units[count]];
    if (is_in_rows(unit)) break;
    if (count >= threads && flops > kFlopsOfThread * static_cast<double>(threads)) break;
    largest.insert(std::upper_bound(largest.begin(), largest.end(), bytes_of(unit), std::greater<>()), bytes_of(unit));
    largest.resize(std::min(largest.size(), threads));
    const std::int64_t bytes = std::accumulate(largest.begin(), largest.end(), std::int64_t{0});
    if (count > 0 && bytes > bytes_limit_) break;
    flops += unit.flops;
  }
  return count;
}

bool TensorSpectra::run_window(std::vector<std::size_t>& units, std::size_t count) {
  std::vector<std::optional<Record>> records(count);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  // The largest ones first: the others fill the gaps.
  const auto flops = [&](std::size_t i) { return plan_.units[units[i]].flops; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return flops(a) > flops(b); });
  {
    const StageTimer timer(stage_of(*work_of(plan_.units[units.front()]).analysis));
    parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t task) {
      if (events_.stop_requested()) return;
      const std::size_t i = order[static_cast<std::size_t>(task)];
      records[i] = record_of(plan_.units[units[i]], {});
    });
    // Alone it may find the memory that it lacked beside others.
    for (std::size_t i = 0; i < count; ++i)
      if (count > 1 && records[i] && !records[i]->error.empty()) records[i] = record_of(plan_.units[units[i]], {});
  }
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < count; ++i) {
    if (!records[i]) {
      left.push_back(units[i]);
      continue;
    }
    report(units[i], std::move(*records[i]), flops(i));
  }
  units.erase(units.begin(), units.begin() + static_cast<std::ptrdiff_t>(count));
  units.insert(units.begin(), left.begin(), left.end());
  return left.empty();
}

void TensorSpectra::report(std::size_t unit, Record record, double flops) const {
  events_.on_done(unit, std::move(record));
  events_.on_progress(flops);
}

bool TensorSpectra::run_in_rows(std::size_t index) {
  const Unit& unit = plan_.units[index];
  const StageTimer timer(stage_of(*work_of(unit).analysis));
  double told = 0;
  try {
    Record record = record_of(unit, [&](double share) {
      if (events_.stop_requested()) throw LeaveMatrix{};
      told += share * unit.flops;
      events_.on_progress(share * unit.flops);
    });
    report(index, std::move(record), unit.flops - told);
    return true;
  } catch (const LeaveMatrix&) {
    return false;
  }
}

Record TensorSpectra::record_of(const Unit& unit, const std::function<void(double share)>& on_progress) const {
  const TensorWork& work = work_of(unit);
  const Stage stage = stage_of(*work.analysis);
  Record record;
  auto error = error_of("tensor '" + shown_text(work.matrix.name) + "'", [&] {
    record = stored_spectrum(model_.store, work.matrix, on_progress);
    count_bytes(stage, static_cast<std::uint64_t>(work.matrix.size_bytes()));
    count_flops(stage, unit.flops);
  });
  return error ? failed_record(std::move(*error)) : std::move(record);
}

}  // namespace spectrace
