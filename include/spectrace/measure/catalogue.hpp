#pragma once

#include <string>
#include <vector>

#include "spectrace/measure/analysis.hpp"

namespace spectrace {

/// Every analysis that there is, by place: the files of src/measure/analyses, which the build finds. Checked when it is
/// made (expect_unique).
const std::vector<const Analysis*>& catalogue();
/// @throws InternalError naming what two analyses have: a name, a place, a dataset, a column of the summary.
void expect_unique(const std::vector<const Analysis*>& analyses);
/// Null if there is none.
const Analysis* find_analysis(const std::string& name);
std::vector<std::string> analysis_names();
/// Those that the model cannot have: names, each with the reason.
Json impossible_analyses(const ModelDescription& model);

/// Dimensions that results have whatever is measured.
const std::vector<DimensionInfo>& common_dimensions();
/// Of any group. @pre there is one of the name.
const DimensionInfo& dimension_info(const std::string& name);

/// Of these names, those that are nearest to a misspelt one; none if none is near.
std::vector<std::string> nearest_names(const std::string& misspelt, const std::vector<std::string>& names);
/// "Did you mean 'trace'?"; empty if no name is near.
std::string did_you_mean(const std::string& misspelt, const std::vector<std::string>& names);
/// "no analysis is called 'sheav'": with the nearest names, or all.
InputError unknown_name(const std::string& kind, const std::string& misspelt, const std::vector<std::string>& names);

}  // namespace spectrace
