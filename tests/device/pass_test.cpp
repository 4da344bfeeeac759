// A rank's pass over a model on the guarded device: the records of the CPU, bit for bit but for what is summed there.
#include "spectrace/work/pass.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "guarded_device.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

using testing::guarded_device;

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kLongest = 12;

/// Summed on the device, and what follows from them.
const std::set<std::string> kSummedThere = {"row_entropy",
                                            "flat_entropy",
                                            "row_entropy_mean_attention",
                                            "flat_entropy_mean_attention",
                                            "last_token_norm",
                                            "mean_token_norm",
                                            "gain",
                                            "final_norm_last_token",
                                            "final_norm_mean_token",
                                            "last_gain_after_norm",
                                            "boundary_cosine",
                                            "attention_write_norm",
                                            "attention_write_cosine",
                                            "mlp_write_norm",
                                            "mlp_write_cosine",
                                            "next_token_nll",
                                            "perplexity",
                                            "prediction_entropy",
                                            "lens_kl",
                                            "lens_entropy"};

class DevicePass : public ::testing::Test {
 protected:
  using Records = std::map<std::size_t, Record>;

  DevicePass()
      : model_(open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama",
                                 IoMode::automatic)) {
    PlanOptions plan_options;
    plan_options.tokens_per_batch = 16;
    PreparedSet set{"s", {}};
    for (std::int64_t p = 0; p < 5; ++p) {
      PreparedPrompt prompt{std::to_string(p), {}, ""};
      for (std::int64_t i = 0; i < kLongest - 2 * p; ++i) prompt.token_ids.push_back((3 * i + 5 * p) % 40);
      set.prompts.push_back(std::move(prompt));
    }
    plan_ = plan_model(model_.description, analyses_, planned({set}, analyses_), plan_options);
    options_.layers = {0, model_.description.num_layers};
    for (std::size_t i = 0; i < plan_.units.size(); ++i) all_.push_back(i);
    for (std::size_t i = 0; i < plan_.units.size(); ++i)
      if (plan_.units[i].of_batch() != nullptr) batches_.push_back(i);
  }

  /// The eigenvalues of token graphs among their quantities, on a short grid.
  static AnalysisChoice all_analyses() {
    const Json section = {{"beta", {{"from", 0.1}, {"to", 10}, {"count", 3}}}, {"graph_eigenvalues", true}};
    std::vector<Chosen> all;
    for (const Analysis* analysis : catalogue()) {
      std::optional<JsonNode> of_job;
      if (analysis->info().section_schema.is_object()) of_job = JsonNode::of(section, "job", ErrorKind::usage);
      all.push_back({analysis, analysis->complete(of_job)});
    }
    return AnalysisChoice(std::move(all));
  }

  static PassEvents events_into(Records& records) {
    PassEvents events;
    events.on_done = [&records](std::size_t unit, Record record) { records[unit] = std::move(record); };
    events.on_progress = [](double) {};
    events.stop_requested = [] { return false; };
    events.on_state = [](std::size_t, BatchState) {};
    events.find_state = [](std::size_t) { return std::nullopt; };
    return events;
  }

  Records run(const Device& device, ComputeType type) {
    Records records;
    LayerStream stream(model_, type, Slicing::correct, device);
    EXPECT_TRUE(run_pass(stream, plan_, all_, options_, events_into(records)));
    return records;
  }

  /// Sums in another order, of up to so many terms; a gain is a quotient of two, entropies end in a logarithm.
  double tolerance() const {
    const std::int64_t terms = std::max(kLongest * kLongest, model_.description.hidden_size);
    return static_cast<double>(terms + 8) * kEps * (1 + 2 * std::log(static_cast<double>(terms)));
  }

  void expect_equal(const Records& host, const Records& there) const {
    ASSERT_EQ(host.size(), there.size());
    for (const auto& [unit, record] : host) {
      const Record& other = there.at(unit);
      EXPECT_EQ(other.error, record.error);
      EXPECT_EQ(other.texts, record.texts);
      ASSERT_EQ(other.arrays.size(), record.arrays.size());
      for (const auto& [name, array] : record.arrays) {
        const Array& found = other.arrays.at(name);
        ASSERT_EQ(found.shape, array.shape) << name;
        const bool is_near = plan_.units[unit].of_batch() != nullptr && kSummedThere.contains(name);
        for (std::size_t i = 0; i < array.values.size(); ++i) {
          const double a = array.values[i], b = found.values[i];
          if (is_near && std::isfinite(a))
            EXPECT_NEAR(b, a, tolerance() * std::max(1.0, std::abs(a))) << name << "[" << i << "]";
          else
            EXPECT_EQ(std::bit_cast<std::uint64_t>(a), std::bit_cast<std::uint64_t>(b)) << name << "[" << i << "]";
        }
      }
    }
  }

  OpenModel model_;
  const AnalysisChoice analyses_ = all_analyses();
  ModelPlan plan_;
  PassOptions options_;
  std::vector<std::size_t> all_, batches_;
  TokenBatch batch_;
};

TEST_F(DevicePass, records_are_the_cpus_in_float32) {
  const Records host = run(Device::cpu(), ComputeType::float32);
  EXPECT_EQ(host.size(), plan_.units.size());
  for (const auto& [unit, record] : host) EXPECT_EQ(record.error, "") << plan_.units[unit].key;
  expect_equal(host, run(guarded_device(), ComputeType::float32));
}

TEST_F(DevicePass, records_are_the_cpus_in_float64) {
  expect_equal(run(Device::cpu(), ComputeType::float64), run(guarded_device(), ComputeType::float64));
}

TEST_F(DevicePass, layers_that_stay_give_the_same) {
  Records once, twice;
  LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
  stream.may_keep(std::int64_t{1} << 30);
  options_.layers_stay = true;
  options_.hidden_bytes_limit = 1;  // a round for each batch
  ASSERT_TRUE(run_pass(stream, plan_, all_, options_, events_into(once)));
  EXPECT_TRUE(stream.is_loaded(0));
  ASSERT_TRUE(run_pass(stream, plan_, all_, options_, events_into(twice)));
  for (const Records* records : {&once, &twice}) expect_equal(run(Device::cpu(), ComputeType::float32), *records);
}

// The next layer is read, brought and its spectra taken while this one is worked on, and not once more when it is asked
// for.
TEST_F(DevicePass, the_next_layer_comes_meanwhile) {
  const LayerNeeds needs{true, {}, attention_roles(), true};
  LayerStream direct(model_, ComputeType::float32, Slicing::correct, guarded_device());
  const std::uint64_t bytes_before = model_.store.bytes_read();
  const LoadedLayer& wanted = direct.load(1, needs);
  const std::uint64_t bytes = model_.store.bytes_read() - bytes_before;
  ASSERT_GT(bytes, 0u);

  LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
  stream.load(0, needs);
  const std::uint64_t bytes_of_first = model_.store.bytes_read();
  stream.read_ahead(1, needs);
  stream.release(0);
  const LoadedLayer& loaded = stream.load(1, needs);
  EXPECT_EQ(model_.store.bytes_read() - bytes_of_first, bytes);
  ASSERT_TRUE(loaded.weights && wanted.weights);
  EXPECT_TRUE(
      at::equal(Device::to_host(loaded.weights->mlp_down.weight), Device::to_host(wanted.weights->mlp_down.weight)));
  ASSERT_EQ(loaded.values.size(), wanted.values.size());
  for (std::size_t head = 0; head < wanted.values.size(); ++head)
    EXPECT_EQ(loaded.values[head].singular_values, wanted.values[head].singular_values);
  // One that was not asked for is let go.
  stream.read_ahead(0, needs);
  stream.load(1, needs);
  EXPECT_FALSE(stream.is_loaded(0));
}

// What uses the layer may still be under way when it is released: else the guarded device ends the process.
TEST_F(DevicePass, a_layer_goes_only_when_its_stream_is_done) {
  for (const bool by_release : {true, false}) {
    LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
    const LoadedLayer& loaded = stream.load(0, {.weights = true});
    ASSERT_TRUE(loaded.weights);
    const Tensor sum = loaded.weights->mlp_down.weight.sum();
    if (by_release) stream.release(0);
    EXPECT_EQ(stream.is_loaded(0), !by_release);
  }
}

// Spectra beside the forward pass, on more threads than one.
TEST_F(DevicePass, spectra_beside_the_forward_pass_cost_no_bit) {
  const Records host = run(Device::cpu(), ComputeType::float32);
  for (const int threads : {1, 4}) {
    set_compute_threads(threads);
    expect_equal(host, run(guarded_device(), ComputeType::float32));
  }
  set_compute_threads(1);
}

// It needs no layer, and the host nothing else to do.
TEST_F(DevicePass, the_unembedding_is_done_beside_the_forward_pass) {
  const auto order = [&](const Device& device) {
    std::vector<std::size_t> units;
    Records records;
    PassEvents events = events_into(records);
    double flops = 0, expected = 0;
    events.on_progress = [&](double done) { flops += done; };
    events.on_done = [&](std::size_t unit, const Record& record) {
      EXPECT_EQ(record.error, "");
      units.push_back(unit);
    };
    LayerStream stream(model_, ComputeType::float32, Slicing::correct, device);
    EXPECT_TRUE(run_pass(stream, plan_, all_, options_, events));
    for (const Unit& unit : plan_.units) expected += unit.flops;
    EXPECT_NEAR(flops, expected, 1e-9 * expected);
    EXPECT_EQ(units.size(), plan_.units.size());
    const auto is_of_rows = [&](std::size_t unit) { return plan_.units[unit].of_rows() != nullptr; };
    return std::find_if(units.begin(), units.end(), is_of_rows) - units.begin();
  };
  const auto num_units = std::ssize(plan_.units);
  const auto of_tensors = std::count_if(plan_.units.begin(), plan_.units.end(),
                                        [](const Unit& unit) { return unit.of_tensor() != nullptr; });
  EXPECT_EQ(order(Device::cpu()), num_units - 1 - of_tensors) << "stored matrices come last";
  const auto of_first_layer = std::count_if(plan_.units.begin(), plan_.units.end(), [](const Unit& unit) {
    return unit.of_layer() != nullptr && unit.of_layer()->layer == 0;
  });
  EXPECT_LE(order(guarded_device()), of_first_layer);
}

// Left at a stop, and done by who comes next.
TEST_F(DevicePass, a_stop_leaves_the_unembedding_beside) {
  Records records;
  PassEvents events = events_into(records);
  std::atomic<int> num_asked = 0;
  events.stop_requested = [&] { return ++num_asked > 1; };  // once in the first layer, then beside
  LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
  EXPECT_FALSE(run_pass(stream, plan_, all_, options_, events));
  for (const auto& [unit, record] : records) EXPECT_EQ(plan_.units[unit].of_rows(), nullptr);
}

// Stopped after every layer and gone on with by another pass: on the device, and on the host with what the device left.
TEST_F(DevicePass, a_stop_and_going_on_cost_no_bit) {
  const Records whole = run(guarded_device(), ComputeType::float32);
  Records records;
  std::map<std::size_t, BatchState> states;
  int num_passes = 0;
  for (bool is_done = false; !is_done; ++num_passes) {
    ASSERT_LT(num_passes, 10);
    LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
    PassEvents events = events_into(records);
    std::map<std::size_t, BatchState> left;
    bool has_worked = false;  // on a layer
    events.on_progress = [&](double) { has_worked = true; };
    events.stop_requested = [&] { return has_worked; };
    events.on_state = [&](std::size_t unit, BatchState state) { left[unit] = std::move(state); };
    events.find_state = [&](std::size_t unit) -> std::optional<BatchState> {
      const auto found = states.find(unit);
      return found == states.end() ? std::nullopt : std::optional(found->second);
    };
    is_done = run_pass(stream, plan_, batches_, options_, events);
    for (auto& [unit, state] : left) states[unit] = std::move(state);
    if (records.size() == batches_.size()) break;
  }
  EXPECT_GT(num_passes, 0);
  ASSERT_GT(batches_.size(), 1u);
  ASSERT_EQ(records.size(), batches_.size());
  for (const auto& [unit, record] : records) EXPECT_EQ(encode_record(record), encode_record(whole.at(unit)));
}

// Two stages: what the first one sends is what the second goes on from.
TEST_F(DevicePass, stages_cost_no_bit) {
  const Records whole = run(guarded_device(), ComputeType::float32);
  Records records;
  std::vector<PassEvents::Arrival> on_the_way;
  options_.num_stages = 2;
  const std::int64_t middle = model_.description.num_layers / 2;
  ASSERT_GE(middle, 1);
  for (int stage = 0; stage < 2; ++stage) {
    options_.stage = stage;
    options_.layers = stage == 0 ? LayerRange{0, middle} : LayerRange{middle, model_.description.num_layers};
    LayerStream stream(model_, ComputeType::float32, Slicing::correct, guarded_device());
    PassEvents events = events_into(records);
    events.send = [&](std::size_t unit, BatchState state) {
      // As it goes over the link.
      const std::string bytes = encode_record(state.record);
      on_the_way.push_back({unit, {state.next_layer, decode_record(std::as_bytes(std::span(bytes)))}});
      return true;
    };
    events.receive = [&](bool) -> std::optional<PassEvents::Arrival> {
      if (on_the_way.empty()) return std::nullopt;
      auto arrival = std::move(on_the_way.front());
      on_the_way.erase(on_the_way.begin());
      return arrival;
    };
    ASSERT_TRUE(run_pass(stream, plan_, batches_, options_, events));
  }
  ASSERT_EQ(records.size(), batches_.size());
  for (const auto& [unit, record] : records) EXPECT_EQ(encode_record(record), encode_record(whole.at(unit)));
}

// A layer whose weights overflow float32 on the way: the prompts fail by the same words as on the CPU.
TEST_F(DevicePass, what_is_not_finite_fails_as_on_the_cpu) {
  const auto failed = [&](const Device& device) {
    PromptMeasurement measurement(model_.description, batch_, analyses_.of_prompts());
    batch_ = batch_of(plan_, *plan_.units[batches_.at(2)].of_batch());
    Tensor hidden = at::ones({batch_.num_tokens(), model_.description.hidden_size}, at::kFloat);
    hidden[0][1] = std::numeric_limits<float>::quiet_NaN();
    measurement.see_boundary(1, device.bring(hidden));
    Tensor a = at::full({model_.description.num_heads, 4, 4}, 0.25, at::kFloat);
    a[1][2][0] = std::numeric_limits<float>::infinity();
    if (batch_.num_prompts() > 1) measurement.see_attention(0, 1, 0, device.bring(a), {});
    return measurement.so_far().texts.at("prompt_errors");
  };
  batch_ = batch_of(plan_, *plan_.units[batches_.at(2)].of_batch());
  const auto host = failed(Device::cpu()), there = failed(guarded_device());
  EXPECT_EQ(host, there);
  EXPECT_NE(there.at(0).find("after block 0"), std::string::npos) << there.at(0);
}

}  // namespace
}  // namespace spectrace
