#pragma once

#include <string>
#include <vector>

#include "spectrace/plan/job.hpp"

namespace spectrace {

/// The format that docs/file-format.md describes.
inline constexpr const char* kConventions = "spectrace-2";

/// What a dataset of the results holds. The one place where names, dimensions, units and meanings stand: the writer,
/// the statistics and docs/file-format.md are made from it.
struct DatasetSpec {
  std::string name;
  std::vector<std::string> dims;
  std::string units;
  std::string long_name;
};

/// A quantity that every prompt has, with the analysis that it belongs to.
struct PromptQuantity {
  DatasetSpec dataset;  ///< dims start with prompt
  Analysis analysis;
  bool has_statistics = true;
  bool is_stored = true;  ///< per prompt; else it follows from another one, and only its statistics are stored
  bool is_large = false;  ///< per prompt only where the job asks for it
};

/// Whether the results hold the quantity of every prompt.
bool is_kept(const PromptQuantity& quantity, const KeepChoice& keep);

const std::vector<DatasetSpec>& checkpoint_schema();          // /checkpoint
const std::vector<DatasetSpec>& weights_schema();             // /weights
const std::vector<DatasetSpec>& heads_schema();               // /heads
const std::vector<DatasetSpec>& unembedding_schema();         // /unembedding
const std::vector<PromptQuantity>& prompt_schema();           // /prompts/<set>
const std::vector<DatasetSpec>& statistics_scalars_schema();  // scalars of /prompts/<set>/statistics

/// Names along the dimension `statistic`.
const std::vector<std::string>& statistic_names();

/// Units and meaning of a dimension ("layer", "matrix", …).
DatasetSpec dimension_spec(const std::string& name);

/// The tables of docs/file-format.md, in Markdown.
std::string schema_as_markdown();

}  // namespace spectrace
