#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "spectrace/store/result_tree.hpp"

namespace spectrace::test {

/// A tree with everything that a results file may hold, small: every kind of value, missing slots, empty dimensions,
/// nested groups, texts that are empty, long or not ASCII. Every number tells its place.
inline ResultTree sample_tree() {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  ResultTree tree;
  tree.attributes = {{"Conventions", std::string("spectrace-2")},
                     {"job", std::string("{\"name\": \"Prüfung\"}")},
                     {"num_layers", std::int64_t{3}},
                     {"rope_theta", 10000.5},
                     {"error", std::string()},
                     {"status", std::string("ok")}};

  Group weights;
  weights.path = "/weights";
  weights.dimensions = {{"layer", std::vector<std::int64_t>{0, 1, 2}, "1", "Block"},
                        {"matrix", std::vector<std::string>{"W_Q", "W_K", "W_V", "W_O"}, "1", "Weight matrix"},
                        {"index", std::vector<std::int64_t>{0, 1, 2, 3, 4}, "1", "Place, descending"}};
  std::vector<double> spectra;
  for (int i = 0; i < 3 * 4 * 5; ++i) spectra.push_back(i % 7 == 3 ? nan : 100.0 / (i + 1));
  weights.datasets = {{"singular_values", {"layer", "matrix", "index"}, "1", "Singular values", spectra}};
  std::vector<std::int64_t> counts;
  for (int i = 0; i < 3 * 4; ++i) counts.push_back(5 - i % 2);
  weights.datasets.push_back({"num_singular_values", {"layer", "matrix"}, "1", "Number of singular values", counts});
  weights.attributes = {{"gram_route", std::int64_t{1}}};
  tree.groups.push_back(weights);

  // Many of a kind: beyond what HDF5 keeps in a group's or object's header.
  for (int i = 0; i < 40; ++i) tree.attributes.emplace_back("number_" + std::to_string(i), std::int64_t{i} << 40);
  Group heads;
  heads.path = "/heads";
  heads.dimensions = {{"layer", std::vector<std::int64_t>{0, 1, 2}, "1", "Block"}};
  for (int i = 0; i < 60; ++i)
    heads.datasets.push_back({"quantity_" + std::to_string(i),
                              {"layer"},
                              "1",
                              "A quantity",
                              std::vector<double>{i + 0.25, i + 0.5, i + 0.75}});
  tree.groups.push_back(heads);

  Group unembedding;
  unembedding.path = "/unembedding";
  std::vector<std::int64_t> tokens;
  std::vector<double> norms;
  for (int i = 0; i < 90'000; ++i) {
    tokens.push_back(i);
    norms.push_back(std::sqrt(static_cast<double>(i)));
  }
  unembedding.dimensions = {{"token", tokens, "1", "Token id"}};
  unembedding.datasets = {{"row_norm", {"token"}, "1", "Norm of the row", norms},
                          {"spectral_norm", {}, "1", "Largest singular value", std::vector<double>{12.5}}};
  tree.groups.push_back(unembedding);

  Group prompts;
  prompts.path = "/prompts/Sätze";
  prompts.dimensions = {{"prompt", std::vector<std::int64_t>{0, 1}, "1", "Prompt"},
                        {"beta", std::vector<double>{1e-3, 1.0, 1e3}, "1", "Inverse temperature"},
                        {"token", std::vector<std::int64_t>{}, "1", "Place among all prompts' tokens"}};
  prompts.datasets = {
      {"prompt_id", {"prompt"}, "1", "Name of the prompt", std::vector<std::string>{"première", ""}},
      {"token_ids", {"token"}, "1", "Token ids", std::vector<std::int64_t>{}},
      {"free_energy", {"prompt", "beta"}, "1", "Free energy", std::vector<double>{1, 2, 3, 4, nan, -0.0}}};
  tree.groups.push_back(prompts);

  Group statistics;
  statistics.path = "/prompts/Sätze/statistics";
  statistics.dimensions = {{"statistic", std::vector<std::string>{"count", "mean"}, "1", "Statistic"},
                           {"beta", std::vector<double>{1e-3, 1.0, 1e3}, "1", "Inverse temperature"}};
  statistics.datasets = {
      {"free_energy", {"statistic", "beta"}, "1", "Free energy", std::vector<double>{2, 1, 2, 2.5, 2, 3}},
      {"l_star_trace", {}, "1", "Transition", std::vector<std::int64_t>{2}}};
  tree.groups.push_back(statistics);
  return tree;
}

/// A tree in which nothing could be computed.
inline ResultTree failed_tree() {
  ResultTree tree;
  tree.attributes = {{"Conventions", std::string("spectrace-2")},
                     {"status", std::string("failed")},
                     {"error", std::string("tensor 'wte.weight' is absent")}};
  return tree;
}

}  // namespace spectrace::test
