#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"

namespace spectrace::testing {

inline std::filesystem::path case_folder(const std::string& name) {
  return std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model" / name;
}

inline JsonNode read_config(const std::filesystem::path& folder) {
  return JsonNode::parse_file(folder / "config.json", ErrorKind::model);
}

/// A checkpoint, opened and described.
struct Model {
  explicit Model(const std::filesystem::path& folder)
      : store(TensorStore::open(folder)), description(describe_model(read_config(folder), store)) {}
  TensorStore store;
  ModelDescription description;
};

inline TokenBatch make_batch(const std::vector<std::vector<std::int64_t>>& prompts) {
  TokenBatch batch;
  batch.row_start.push_back(0);
  for (const auto& prompt : prompts) {
    batch.token_ids.insert(batch.token_ids.end(), prompt.begin(), prompt.end());
    batch.row_start.push_back(static_cast<std::int64_t>(batch.token_ids.size()));
  }
  return batch;
}

/// Everything a forward pass yields: [layer][prompt] attentions, and hidden states of the whole batch at each boundary.
struct ForwardResult {
  std::vector<std::vector<Tensor>> attentions;  // [H, n, n] each
  std::vector<Tensor> boundaries;               // [layers + 1] of [num_tokens, hidden]
  Tensor final_norm;                            // [num_tokens, hidden]
};

/// The next heads of a prompt, of which `seen` has those before.
inline void add_heads(const Tensor& a, std::int64_t first_head, Tensor& seen) {
  ASSERT_EQ(seen.defined() ? seen.size(0) : 0, first_head) << "heads come in their order";
  seen = seen.defined() ? at::cat({seen, a}) : a.clone();
}

inline ForwardResult run_forward(const Model& model, const TokenBatch& batch, ComputeType type) {
  ForwardResult result;
  Tensor hidden = embed(model.description, model.store, batch, type).hidden;
  result.boundaries.push_back(hidden.clone());
  for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer) {
    const LayerWeights weights = read_layer(model.description, model.store, layer, type);
    auto& seen = result.attentions.emplace_back(static_cast<std::size_t>(batch.num_prompts()));
    run_block(model.description, layer, weights, batch, hidden,
              [&](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores&) {
                add_heads(a, first_head, seen[static_cast<std::size_t>(prompt)]);
              });
    result.boundaries.push_back(hidden.clone());
  }
  result.final_norm = apply_final_norm(model.description, model.store, hidden);
  return result;
}

/// Largest difference over the largest expected value; infinite where shapes differ or a difference is not a number.
inline double relative_error(const Tensor& found, const Tensor& expected) {
  if (found.sizes() != expected.sizes()) return std::numeric_limits<double>::infinity();
  const double largest = expected.to(at::kDouble).abs().max().item<double>();
  const double worst = (found.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  return std::isnan(worst) ? std::numeric_limits<double>::infinity() : worst / largest;
}

/// A copy of a case's checkpoint in a folder of its own, changed: config.json as JSON, model.safetensors by its header.
class ChangedCase {
 public:
  using Change = std::function<void(Json&)>;

  ChangedCase(
      const std::string& name, const Change& change_config, const Change& change_header = [](Json&) {}) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("spectrace-" + std::string(test->name()) + "-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    Json config = read_config(case_folder(name)).json();
    change_config(config);
    write_file_atomically(folder_ / "config.json", config.dump());

    const std::string bytes = read_text_file(case_folder(name) / "model.safetensors");
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, bytes.data(), sizeof header_size);
    Json header = Json::parse(bytes.substr(8, header_size));
    change_header(header);
    const std::string text = header.dump();
    header_size = text.size();
    std::string size_bytes(8, '\0');
    std::memcpy(size_bytes.data(), &header_size, sizeof header_size);
    const std::uint64_t data_start = 8 + old_size(bytes);
    write_file_atomically(folder_ / "model.safetensors", size_bytes + text + bytes.substr(data_start));
  }
  ~ChangedCase() { std::filesystem::remove_all(folder_); }
  ChangedCase(const ChangedCase&) = delete;
  ChangedCase& operator=(const ChangedCase&) = delete;

  const std::filesystem::path& folder() const { return folder_; }

  /// The error of describing it; empty if there is none.
  std::string error() const {
    try {
      const Model model(folder_);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::model);
      return error.what();
    }
    return {};
  }

 private:
  static std::uint64_t old_size(const std::string& bytes) {
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    return size;
  }
  std::filesystem::path folder_;
};

inline void rename_key(Json& object, const std::string& from, const std::string& to) {
  object[to] = object.at(from);
  object.erase(from);
}

}  // namespace spectrace::testing
