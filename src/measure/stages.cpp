#include "spectrace/measure/stages.hpp"

#include <algorithm>
#include <array>

#include "spectrace/core/error.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

constexpr auto kFirstAnalysis = static_cast<std::size_t>(Stage::first_analysis);
constexpr std::array<const char*, kFirstAnalysis> kNames = {
    "opening", "reading", "embedding", "forward", "statistics", "value spectra", "prediction", "writing", "exchange"};

}  // namespace

Stage stage_of(const Analysis& analysis) {
  const auto& all = catalogue();
  const auto place = static_cast<std::size_t>(std::find(all.begin(), all.end(), &analysis) - all.begin());
  SPECTRACE_ASSERT(place < all.size() && kFirstAnalysis + place < kNumStages);
  return static_cast<Stage>(kFirstAnalysis + place);
}

std::string name(Stage stage) {
  const auto place = static_cast<std::size_t>(stage);
  if (place < kFirstAnalysis) return kNames[place];
  const auto& all = catalogue();
  return place - kFirstAnalysis < all.size() ? all[place - kFirstAnalysis]->name() : "";
}

}  // namespace spectrace
