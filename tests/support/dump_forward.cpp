// dump_forward FOLDER PROMPTS.json OUT.safetensors float32|float64 [THREADS]
//
// Runs every prompt of a JSON list of lists of token ids through a checkpoint, in one batch, and writes attentions.p
// [layers, heads, n, n], boundaries.p [layers + 1, n, hidden] and final_norm.p [n, hidden] of each prompt p, in
// float64: what tests/oracle/differential.py holds against transformers. With "-" as OUT only the times are printed.
#include <ATen/ATen.h>

#include <cstdio>
#include <ctime>
#include <exception>
#include <string>

#include "spectrace/core/file.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"

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

TokenBatch read_batch(const std::string& path) {
  TokenBatch batch;
  batch.row_start.push_back(0);
  JsonNode::parse_file(path, ErrorKind::prompt).for_each([&](const JsonNode& prompt) {
    prompt.for_each([&](const JsonNode& id) { batch.token_ids.push_back(id.as_int()); });
    batch.row_start.push_back(batch.num_tokens());
  });
  return batch;
}

void dump(const std::string& folder, const std::string& prompts, const std::string& out, ComputeType type) {
  const TensorStore store = TensorStore::open(folder);
  const auto model = describe_model(JsonNode::parse_file(folder + "/config.json", ErrorKind::model), store);
  const TokenBatch batch = read_batch(prompts);
  std::vector<std::vector<Tensor>> attentions(static_cast<std::size_t>(batch.num_prompts()));
  std::vector<Tensor> boundaries;
  double block_s = 0, block_cpu_s = 0;
  Tensor hidden = embed(model, store, batch, type);
  boundaries.push_back(hidden.clone());
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    const LayerWeights weights = read_layer(model, store, layer, type);
    const Stopwatch watch;
    const std::clock_t cpu_start = std::clock();
    run_block(model, layer, weights, batch, hidden, [&](std::int64_t prompt, const Tensor& a) {
      if (out != "-") attentions[static_cast<std::size_t>(prompt)].push_back(a.to(at::kDouble, false, /*copy=*/true));
    });
    block_s += watch.elapsed_s();
    block_cpu_s += static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    boundaries.push_back(hidden.clone());
  }
  const Tensor final_norm = apply_final_norm(model, store, hidden);
  std::printf("%lld tokens, blocks %.3f s, %.3f s of processor time\n", static_cast<long long>(batch.num_tokens()),
              block_s, block_cpu_s);
  if (out == "-") return;
  std::vector<Named> tensors;
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
  }
  write_safetensors(tensors, out);
}

}  // namespace
}  // namespace spectrace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: dump_forward FOLDER PROMPTS.json OUT.safetensors|- float32|float64 [THREADS]\n");
    return 2;
  }
  try {
    spectrace::set_compute_threads(argc > 5 ? std::stoi(argv[5]) : 1);
    spectrace::dump(argv[1], argv[2], argv[3], spectrace::parse_compute_type(argv[4]));
    spectrace::set_compute_threads(1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dump_forward: %s\n", error.what());
    return 1;
  }
}
