// dump_forward [--threads N] --out DIR FOLDER...
//
// What spectrace makes of checkpoints, for tests/oracle/differential.py to hold against transformers. Each FOLDER holds
// a checkpoint and prompts.json, a list of lists of token ids; they run in one batch, in both compute types. Writes
// DIR/<name of FOLDER>/float32.safetensors and float64.safetensors, in float64:
//   attentions.p [layers, heads, n, n], boundaries.p [layers + 1, n, hidden], final_norm.p [n, hidden] of prompt p;
//   next_token.p [2, n]: -ln p of the next token (NaN of the last), and the entropy of what is predicted;
//   lens.p [2, layers + 1]: divergence of the logit lens from the final distribution, and its entropy;
//   writes.p [layers, 4, n]: of what attention adds its norm, and that times its cosine; the same of the MLP;
//   W_Q.l, W_K.l, W_V.l, W_O.l of layer l, canonical as in LayerWeights; unembedding [vocab, hidden or embedding].
// A folder that fails leaves error.txt there instead, and the others go on.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

#include "spectrace/core/file.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/model/prediction.hpp"

namespace spectrace {
namespace {

struct Named {
  std::string name;
  Tensor tensor;  // float64, contiguous
};

void write_safetensors(const std::vector<Named>& tensors, const std::string& path) {
  Json header = Json::object();
  std::string data;
  for (const Named& named : tensors) {
    const std::size_t first = data.size();
    data.append(static_cast<const char*>(named.tensor.const_data_ptr()), named.tensor.nbytes());
    header[named.name] = {
        {"dtype", "F64"}, {"shape", named.tensor.sizes().vec()}, {"data_offsets", {first, data.size()}}};
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  write_file_atomically(path, std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data);
}

/// @throws InputError (prompt) for ids that the model cannot run.
TokenBatch read_batch(const ModelDescription& model, const std::filesystem::path& path) {
  TokenBatch batch;
  batch.row_start.push_back(0);
  JsonNode::parse_file(path, ErrorKind::prompt).for_each([&](const JsonNode& prompt) {
    std::vector<std::int64_t> ids;
    prompt.for_each([&](const JsonNode& id) { ids.push_back(id.as_int()); });
    const std::string problem = check_tokens(model, ids);
    if (!problem.empty()) throw prompt.error(problem);
    batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
    batch.row_start.push_back(batch.num_tokens());
  });
  return batch;
}

void add_weights(std::vector<Named>& tensors, const LayerWeights& weights, std::int64_t layer) {
  const LayerMatrices matrices = matrices_of(weights, attention_roles());
  for (const MatrixRole role : kAttentionRoles)
    tensors.push_back(
        {std::string(info(role).name) + "." + std::to_string(layer), matrices.at(role).to(at::kDouble).contiguous()});
}

Tensor tensor_of(const std::vector<double>& values, const RowRange& part) {
  return at::tensor(std::vector<double>(values.begin() + part.first, values.begin() + part.last()), at::kDouble);
}

/// Of all rows of the batch. What is nothing has no cosine, and no part along anything.
Tensor tensor_of(const BlockWrites& writes) {
  const RowRange all = {0, std::ssize(writes.attention_norm)};
  std::vector<Tensor> parts;
  for (const auto& [norms, cosines] :
       {std::pair(&writes.attention_norm, &writes.attention_cosine), std::pair(&writes.mlp_norm, &writes.mlp_cosine)}) {
    parts.push_back(tensor_of(*norms, all));
    parts.push_back(at::where(parts.back() == 0, parts.back(), parts.back() * tensor_of(*cosines, all)));
  }
  return at::stack(parts);
}

/// Each prompt's last row at each boundary: [prompts, boundaries, hidden].
Tensor last_tokens(const std::vector<Tensor>& boundaries, const TokenBatch& batch) {
  std::vector<Tensor> of_prompts;
  for (std::int64_t p = 0; p < batch.num_prompts(); ++p) {
    std::vector<Tensor> rows;
    for (const Tensor& boundary : boundaries) rows.push_back(boundary.select(0, batch.rows_of(p).last() - 1));
    of_prompts.push_back(at::stack(rows));
  }
  return at::stack(of_prompts);
}

std::vector<Named> run_model(const ModelDescription& model, const TensorStore& store, const TokenBatch& batch,
                             ComputeType type) {
  std::vector<Named> tensors;
  std::vector<std::vector<Tensor>> attentions(static_cast<std::size_t>(batch.num_prompts()));
  Tensor hidden = embed(model, store, batch, type).hidden;
  std::vector<Tensor> boundaries = {hidden.clone()}, writes;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    const LayerWeights weights = read_layer(model, store, layer, type);
    add_weights(tensors, weights, layer);
    BlockWrites of_layer(static_cast<std::size_t>(batch.num_tokens()));
    const auto see = [&](std::int64_t prompt, std::int64_t first_head, const Tensor& a, const RowScores&) {
      auto& of_layers = attentions[static_cast<std::size_t>(prompt)];
      const Tensor part = a.to(at::kDouble, false, /*copy=*/true);
      if (first_head == 0)
        of_layers.push_back(part);
      else
        of_layers.back() = at::cat({of_layers.back(), part});
    };
    BlockBatch through = {.tokens = &batch, .hidden = hidden, .observe = see, .writes = &of_layer};
    run_block(model, layer, weights, std::span(&through, 1));
    if (through.error) std::rethrow_exception(through.error);
    hidden = through.hidden;
    writes.push_back(tensor_of(of_layer));
    boundaries.push_back(hidden.clone());
  }
  const Tensor final_norm = apply_final_norm(model, store, hidden);
  PredictionBatch predicted = {.tokens = &batch, .normed = final_norm, .last_tokens = last_tokens(boundaries, batch)};
  predict(model, store, std::span(&predicted, 1), [](double) { return true; });
  for (std::int64_t p = 0; p < batch.num_prompts(); ++p) {
    const auto index = static_cast<std::size_t>(p);
    const std::int64_t first = batch.row_start[index], count = batch.row_start[index + 1] - first;
    const std::string suffix = "." + std::to_string(p);
    const auto rows = [&](const Tensor& x) { return x.narrow(0, first, count).to(at::kDouble); };
    std::vector<Tensor> of_prompt;
    for (const Tensor& boundary : boundaries) of_prompt.push_back(rows(boundary));
    tensors.push_back({"attentions" + suffix, at::stack(attentions[index]).contiguous()});
    tensors.push_back({"boundaries" + suffix, at::stack(of_prompt).contiguous()});
    tensors.push_back({"final_norm" + suffix, rows(final_norm).contiguous()});
    const Predictions& found = predicted.found;
    const RowRange tokens = batch.rows_of(p), lens = {p * (model.num_layers + 1), model.num_layers + 1};
    tensors.push_back({"next_token" + suffix,
                       at::stack({tensor_of(found.next_token_nll, tokens), tensor_of(found.entropy, tokens)})});
    tensors.push_back(
        {"lens" + suffix, at::stack({tensor_of(found.lens_kl, lens), tensor_of(found.lens_entropy, lens)})});
    tensors.push_back({"writes" + suffix, at::stack(writes).narrow(2, first, count).contiguous()});
  }
  const TensorInfo& unembedding = *store.find(model.embedding.unembedding.tensor);
  tensors.push_back({"unembedding", store.read(unembedding, type).to(at::kDouble).contiguous()});
  return tensors;
}

void dump(const std::filesystem::path& folder, const std::filesystem::path& out) {
  std::filesystem::create_directories(out);
  try {
    const TensorStore store = TensorStore::open(folder);
    const auto model = describe_model(JsonNode::parse_file(folder / "config.json", ErrorKind::model), store);
    const TokenBatch batch = read_batch(model, folder / "prompts.json");
    for (const ComputeType type : {ComputeType::float32, ComputeType::float64})
      write_safetensors(run_model(model, store, batch, type), out / (std::string(name(type)) + ".safetensors"));
  } catch (const std::exception& error) {
    write_file_atomically(out / "error.txt", error.what());
  }
}

}  // namespace
}  // namespace spectrace

int main(int argc, char** argv) {
  std::filesystem::path out;
  std::vector<std::filesystem::path> folders;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (argument == "--threads" && i + 1 < argc)
        spectrace::set_compute_threads(std::stoi(argv[++i]));
      else if (argument == "--out" && i + 1 < argc)
        out = argv[++i];
      else
        folders.emplace_back(argument);
    }
    if (out.empty() || folders.empty()) {
      std::fprintf(stderr, "usage: dump_forward [--threads N] --out DIR FOLDER...\n");
      return 2;
    }
    for (const auto& folder : folders) spectrace::dump(folder, out / folder.filename());
    spectrace::set_compute_threads(1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dump_forward: %s\n", error.what());
    return 1;
  }
}
