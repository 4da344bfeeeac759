#include "set_numbers.hpp"

#include "layer_spectra.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/measure/stages.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {

Record numbers_of_set(const Chosen& chosen, const Circumstances& of, const std::string& set, std::int64_t limit_bytes,
                      const EachBatch& each_batch) {
  const StageTimer timer(stage_of(*chosen.analysis));
  const std::string what = "the " + chosen.name() + " of prompt set '" + set + "'";
  Record numbers;
  std::exception_ptr unreadable;  // a record that is gone is no failure of the numbers
  auto error = error_of(what, [&] {
    const auto join = chosen.of_prompts()->join(of, limit_bytes);
    do {
      try {
        each_batch([&](const Record& record) { join->add(record); });
      } catch (const InputError&) {
        unreadable = std::current_exception();
        return;
      }
    } while (join->needs_another_pass());
    numbers = join->finish();
  });
  if (unreadable) std::rethrow_exception(unreadable);
  if (error) return failed_record(*error);
  count_flops(stage_of(*chosen.analysis), chosen.of_prompts()->join_flops(of));
  return numbers;
}

}  // namespace spectrace
