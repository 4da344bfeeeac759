#include "spectrace/plan/machine_profile.hpp"

#include <gtest/gtest.h>

#include <set>

#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

std::string key_of(const AnalysisChoice& analyses) {
  Job job;
  job.analyses = analyses;
  return rates_key(ModelDescription(), job, 2);
}

// Rates are of what was timed: with another analysis, of weights too, it was something else.
TEST(RatesKey, every_analysis_and_its_settings_are_in_it) {
  std::set<std::string> keys = {key_of({})};
  for (const std::string& name : analysis_names()) keys.insert(key_of(AnalysisChoice::of({name})));
  EXPECT_EQ(keys.size(), catalogue().size() + 1);
  Chosen sheaf = *AnalysisChoice::of({"sheaf"}).find("sheaf");
  sheaf.settings["graph_eigenvalues"] = true;
  EXPECT_FALSE(keys.contains(key_of(AnalysisChoice({sheaf}))));
}

}  // namespace
}  // namespace spectrace
