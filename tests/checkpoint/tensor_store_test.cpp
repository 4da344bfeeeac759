#include "spectrace/checkpoint/tensor_store.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <thread>

#include "expect_input_error.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Element i is (first + 3 i) mod 509, exact in every type but for bfloat16's 8 bits: mod 127 there.
at::Tensor numbered(std::vector<std::int64_t> shape, at::ScalarType type, std::int64_t first = 0) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  const at::Tensor i = at::arange(count, at::kLong);
  return at::remainder(i * 3 + first, type == at::kBFloat16 ? 127 : 509).to(type).reshape(shape);
}

class TensorStoreTest : public testing::Test {
 protected:
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  TensorStore open(IoMode io = IoMode::automatic) const { return TensorStore::open(folder_.path(), io); }

  void write_index(const std::string& name, const Json& weight_map) const {
    write_bytes(file(name), Json{{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}}.dump());
  }

  void expect_open_refused(std::initializer_list<std::string> parts) const {
    expect_input_error(ErrorKind::model, parts, [&] { open(); });
  }

  TempFolder folder_;
};

TEST_F(TensorStoreTest, reads_every_type_in_both_ways) {
  const std::vector<std::pair<std::string, at::Tensor>> given = {
      {"d", numbered({5, 3}, at::kDouble, 1)}, {"f", numbered({7, 2, 3}, at::kFloat, 2)},
      {"h", numbered({11}, at::kHalf, 3)},     {"b", numbered({3, 5}, at::kBFloat16, 4)},
      {"none", numbered({0, 4}, at::kFloat)},  {"scalar", numbered({}, at::kHalf, 5)}};
  write_safetensors(file("model.safetensors"), given);
  for (const auto io : {IoMode::mmap, IoMode::read, IoMode::automatic}) {
    const auto store = open(io);
    EXPECT_EQ(store.format(), "safetensors");
    for (const auto& [name, tensor] : given)
      for (const auto type : {ComputeType::float32, ComputeType::float64}) {
        const at::Tensor got = store.read(*store.find(name), type);
        EXPECT_EQ(got.scalar_type(), scalar_type(type));
        EXPECT_TRUE(at::equal(got, tensor.to(scalar_type(type)))) << name;
        // What holds less stays as it is; what holds more is converted.
        const at::Tensor stored = store.read(*store.find(name), type, Widening::later);
        const bool is_wider = tensor.scalar_type() == at::kDouble;
        EXPECT_EQ(stored.scalar_type(), is_wider ? scalar_type(type) : tensor.scalar_type());
        EXPECT_TRUE(at::equal(stored.to(scalar_type(type)), got)) << name;
      }
    EXPECT_EQ(store.find("absent"), nullptr);
    EXPECT_EQ(store.find("zzz"), nullptr);
  }
}

TEST_F(TensorStoreTest, reads_across_chunks) {
  // 4 MiB + 3 rows of 2-byte elements; the chunk's end is inside a row.
  const std::int64_t cols = 1021, rows = (4 << 20) / 2 / cols + 4;
  for (const auto type : {at::kBFloat16, at::kFloat}) {
    const at::Tensor given = numbered({rows, cols}, type);
    write_safetensors(file("model.safetensors"), {{"pad", numbered({1}, at::kHalf)}, {"w", given}});
    for (const auto io : {IoMode::mmap, IoMode::read}) {
      const auto store = open(io);
      EXPECT_TRUE(at::equal(store.read(*store.find("w"), ComputeType::float64), given.to(at::kDouble)));
      EXPECT_TRUE(at::equal(store.read(*store.find("w"), ComputeType::float32), given.to(at::kFloat)));
      EXPECT_EQ(store.bytes_read(), 2 * store.find("w")->size_bytes);
    }
  }
}

TEST_F(TensorStoreTest, rows_and_gathered_rows) {
  const at::Tensor given = numbered({13, 3, 5}, at::kHalf);
  write_safetensors(file("model.safetensors"), {{"w", given}});
  const auto store = open();
  const auto& tensor = *store.find("w");
  for (const std::int64_t first : {0, 4, 10}) {
    at::Tensor out = at::empty({3, 3, 5}, at::kFloat);
    store.read_rows(tensor, first, out);
    EXPECT_TRUE(at::equal(out, given.narrow(0, first, 3).to(at::kFloat))) << first;
  }
  const std::vector<std::int64_t> rows = {12, 0, 1, 2, 2, 1, 7, 8, 12};
  const at::Tensor index = at::tensor(at::ArrayRef<std::int64_t>(rows), at::kLong);
  std::map<std::int64_t, std::string> bad;
  EXPECT_TRUE(at::equal(store.gather_rows(tensor, rows, ComputeType::float64, bad),
                        given.index_select(0, index).to(at::kDouble)));
  EXPECT_EQ(store.gather_rows(tensor, {}, ComputeType::float64, bad).size(0), 0);
  EXPECT_TRUE(bad.empty());
}

// Several segments of some rows each: what is looked up now, later, and the digest come from one reading.
TEST_F(TensorStoreTest, expected_rows_cost_no_second_reading) {
  const std::int64_t num_columns = 1 << 17;  // two rows a segment of float32
  for (const auto stored : {at::kFloat, at::kDouble, at::kHalf}) {
    at::Tensor given = at::rand({9, num_columns}, at::kDouble).to(stored);
    given[4][7] = std::numeric_limits<double>::infinity();
    write_safetensors(file("model.safetensors"), {{"w", given}});
    for (const auto io : {IoMode::mmap, IoMode::read}) {
      for (const auto type : {ComputeType::float32, ComputeType::float64}) {
        const auto store = open(io);
        const auto& tensor = *store.find("w");
        store.expect_rows(tensor, {8, 0, 1, 6, 6}, type);
        std::map<std::int64_t, std::string> bad;
        const auto expect_rows = [&](const std::vector<std::int64_t>& rows) {
          const at::Tensor index = at::tensor(at::ArrayRef<std::int64_t>(rows), at::kLong);
          EXPECT_TRUE(at::equal(store.gather_rows(tensor, rows, type, bad),
                                given.index_select(0, index).to(scalar_type(type))));
        };
        expect_rows({6, 0});
        EXPECT_LT(store.bytes_read(), tensor.size_bytes);
        expect_rows({1, 8, 0, 6});
        EXPECT_TRUE(bad.empty());
        const std::string digest = store.read_digest(tensor);
        EXPECT_EQ(store.bytes_read(), tensor.size_bytes) << given.dtype() << " as " << name(type);
        EXPECT_EQ(digest, open(io).read_digest(tensor));
        // One that nobody expected, and one that is not finite.
        expect_rows({3});
        EXPECT_GT(store.bytes_read(), tensor.size_bytes);
        store.gather_rows(tensor, std::vector<std::int64_t>{4}, type, bad);
        EXPECT_EQ(bad.count(4), 1u);
      }
    }
  }
}

// As the unembedding of a tied model is read: rows for the look-ups come with it.
TEST_F(TensorStoreTest, expected_rows_come_with_any_reading_of_whole_segments) {
  const at::Tensor given = at::rand({9, 1 << 17}, at::kFloat);
  write_safetensors(file("model.safetensors"), {{"w", given}});
  const auto store = open();
  const auto& tensor = *store.find("w");
  store.expect_rows(tensor, {7, 2}, ComputeType::float64);
  at::Tensor block = at::empty({9, 1 << 17}, at::kFloat);
  store.read_rows(tensor, 0, block);
  std::map<std::int64_t, std::string> bad;
  const at::Tensor found = store.gather_rows(tensor, std::vector<std::int64_t>{2, 7}, ComputeType::float64, bad);
  EXPECT_EQ(store.bytes_read(), tensor.size_bytes);
  EXPECT_TRUE(at::equal(found, given.index_select(0, at::tensor({2, 7}, at::kLong)).to(at::kDouble)));
}

TEST_F(TensorStoreTest, names_the_first_value_that_is_not_finite) {
  at::Tensor given = numbered({6, 4}, at::kFloat);
  given[3][2] = std::numeric_limits<float>::quiet_NaN();
  given[5][1] = -std::numeric_limits<float>::infinity();
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    write_safetensors(file("model.safetensors"), {{"layers.3.w", given.to(type)}});
    for (const auto io : {IoMode::mmap, IoMode::read}) {
      const auto store = open(io);
      const auto& tensor = *store.find("layers.3.w");
      const std::string path = file("model.safetensors").string();
      expect_input_error(ErrorKind::model, {path, "'layers.3.w'", "2 of 24 values", "NaN at [3, 2]"},
                         [&] { store.read(tensor, ComputeType::float32); });
      expect_input_error(ErrorKind::model, {path, "'layers.3.w'", "2 of 24 values", "NaN at [3, 2]"},
                         [&] { open(io).read(tensor, ComputeType::float64, Widening::later); });
      at::Tensor out = at::empty({2, 4}, at::kDouble);
      expect_input_error(ErrorKind::model, {path, "'layers.3.w'", "1 of 8 values", "-inf at [5, 1]"},
                         [&] { store.read_rows(tensor, 4, out); });
      store.read_rows(tensor, 1, out);
      const std::vector<std::int64_t> rows = {0, 5, 4, 3, 5};
      std::map<std::int64_t, std::string> bad;
      const at::Tensor found = store.gather_rows(tensor, rows, ComputeType::float32, bad);
      ASSERT_EQ(bad.size(), 2u);
      for (const std::string part : {path.c_str(), "'layers.3.w'", "1 of 4 values", "-inf at [5, 1]"})
        EXPECT_NE(bad.at(5).find(part), std::string::npos) << bad.at(5);
      EXPECT_NE(bad.at(3).find("NaN at [3, 2]"), std::string::npos) << bad.at(3);
      EXPECT_TRUE(at::equal(found[2], given.to(type)[4].to(at::kFloat)));
      EXPECT_EQ(found[1].abs().sum().item<float>() + found[3].abs().sum().item<float>(), 0);
    }
  }
}

TEST_F(TensorStoreTest, float64_too_large_for_float32) {
  at::Tensor given = numbered({4}, at::kDouble);
  given[2] = 1e39;
  write_safetensors(file("model.safetensors"), {{"w", given}});
  const auto store = open();
  EXPECT_TRUE(at::equal(store.read(*store.find("w"), ComputeType::float64), given));
  expect_input_error(ErrorKind::model, {"'w'", "inf at [2]", "too large for float32"},
                     [&] { store.read(*store.find("w"), ComputeType::float32); });
}

TEST_F(TensorStoreTest, integers_are_listed_but_not_read) {
  write_safetensors(file("model.safetensors"), {{"mask", at::zeros({2}, at::kByte)}});
  const auto store = open();
  expect_input_error(ErrorKind::model, {file("model.safetensors").string(), "'mask'", "uint8"},
                     [&] { store.read(*store.find("mask"), ComputeType::float32); });
}

TEST_F(TensorStoreTest, sharded_safetensors) {
  const at::Tensor a = numbered({3, 2}, at::kHalf, 1), b = numbered({4}, at::kFloat, 2),
                   c = numbered({5}, at::kHalf, 3);
  write_safetensors(file("model-00001-of-00002.safetensors"), {{"z", a}, {"b", b}});
  write_safetensors(file("model-00002-of-00002.safetensors"), {{"c", c}, {"not_in_index", b}});
  write_index("model.safetensors.index.json", {{"z", "model-00001-of-00002.safetensors"},
                                               {"b", "model-00001-of-00002.safetensors"},
                                               {"c", "model-00002-of-00002.safetensors"}});
  const auto store = open();
  ASSERT_EQ(store.files().size(), 2u);
  EXPECT_EQ(store.files()[1].path, file("model-00002-of-00002.safetensors"));
  EXPECT_EQ(store.files()[1].size_bytes, fs::file_size(file("model-00002-of-00002.safetensors")));
  ASSERT_EQ(store.tensors().size(), 4u);
  EXPECT_EQ(store.tensors()[0].name, "b");
  EXPECT_EQ(store.tensors()[3].name, "z");
  EXPECT_TRUE(at::equal(store.read(*store.find("z"), ComputeType::float32), a.to(at::kFloat)));
  EXPECT_TRUE(at::equal(store.read(*store.find("c"), ComputeType::float32), c.to(at::kFloat)));
}

TEST_F(TensorStoreTest, sharded_bin) {
  const fs::path data = fs::path(SPECTRACE_SOURCE_DIR) / "tests" / "data" / "checkpoint";
  for (const char* name : {"shard-00001-of-00002.bin", "shard-00002-of-00002.bin"})
    fs::copy_file(data / name, file(name));
  const Json map = {
      {"a", "shard-00001-of-00002.bin"}, {"b", "shard-00002-of-00002.bin"}, {"c", "shard-00002-of-00002.bin"}};
  write_index("pytorch_model.bin.index.json", map);
  const auto store = open();
  EXPECT_EQ(store.format(), "pytorch");
  // make_bins.py: c is case 32, element i is ((7 i + 13 * 32) mod 251 - 125) / 8
  const at::Tensor c = store.read(*store.find("c"), ComputeType::float64);
  for (std::int64_t i = 0; i < 5; ++i)
    EXPECT_EQ(c.const_data_ptr<double>()[i], static_cast<double>((7 * i + 13 * 32) % 251 - 125) / 8);
}

TEST_F(TensorStoreTest, missing_shard_is_named_with_a_tensor) {
  write_safetensors(file("one.safetensors"), {{"a", numbered({2}, at::kHalf)}});
  write_index("model.safetensors.index.json", {{"a", "one.safetensors"}, {"layers.7.b", "two.safetensors"}});
  expect_open_refused({file("model.safetensors.index.json").string(), "the shard 'two.safetensors' is missing",
                       "'layers.7.b'", "1 of 2"});
}

TEST_F(TensorStoreTest, index_and_shards_that_contradict_each_other) {
  const std::string index = file("model.safetensors.index.json").string();
  const at::Tensor tensor = numbered({2}, at::kHalf);
  write_safetensors(file("one.safetensors"), {{"a", tensor}});
  write_safetensors(file("two.safetensors"), {{"b", tensor}});
  write_index("model.safetensors.index.json",
              {{"a", "two.safetensors"}, {"b", "two.safetensors"}, {"x", "one.safetensors"}});
  expect_open_refused({index, "tensor 'a' is said to be in 'two.safetensors'", "it lies in 'one.safetensors'"});
  write_index("model.safetensors.index.json", {{"a", "one.safetensors"}, {"x", "two.safetensors"}});
  expect_open_refused({index, "tensor 'x' is said to be in 'two.safetensors'", "not there"});
  write_safetensors(file("two.safetensors"), {{"x", tensor}, {"y", tensor}});
  write_safetensors(file("one.safetensors"), {{"a", tensor}, {"y", tensor}});
  expect_open_refused(
      {"tensor 'y' is in two files", file("one.safetensors").string(), file("two.safetensors").string()});
}

TEST_F(TensorStoreTest, malformed_index) {
  const std::string name = "model.safetensors.index.json", path = file(name).string();
  write_index(name, {{"a", "../secret.safetensors"}});
  expect_open_refused({path, "tensor 'a'", "../secret.safetensors"});
  write_index(name, {{"a", ".."}});
  expect_open_refused({path, "tensor 'a'"});
  write_index(name, {{"a", 3}});
  expect_open_refused({path, "/weight_map/a", "is 3"});
  write_index(name, Json::object());
  expect_open_refused({path, "names no tensors"});
  write_bytes(file(name), "{}");
  expect_open_refused({path, "'weight_map' is missing"});
  write_bytes(file(name), "{\"weight_map\":");
  expect_open_refused({path, "is not JSON"});
}

TEST_F(TensorStoreTest, index_that_names_what_cannot_be_opened) {
  const std::string name = "model.safetensors.index.json", longest(300, 'n');
  write_index(name, {{"a", longest}});
  expect_input_error(ErrorKind::io, {longest, "File name too long"}, [&] { open(); });
  fs::create_symlink("circle.safetensors", file("circle.safetensors"));
  write_index(name, {{"a", "circle.safetensors"}});
  expect_input_error(ErrorKind::io, {"circle.safetensors", "symbolic links"}, [&] { open(); });
  ASSERT_EQ(::mkfifo(file("fifo.safetensors").c_str(), 0600), 0);
  write_index(name, {{"a", "fifo.safetensors"}});
  expect_input_error(ErrorKind::io, {"fifo.safetensors", "a FIFO"}, [&] { open(); });
  write_index(name, {{"a", std::string("x\0y", 3)}});
  expect_input_error(ErrorKind::model, {"x\\x00y"}, [&] { open(); });
  write_bytes(file(name), R"({"weight_map":{"a":)" + std::string(300'000, '['));
  expect_open_refused({"nested deeper than 64 levels"});
}

TEST_F(TensorStoreTest, weights_that_cannot_be_opened) {
  fs::create_symlink("nothing", file("dangling.safetensors"));
  expect_input_error(ErrorKind::io, {"dangling.safetensors", "No such file"}, [&] { open(); });
  ASSERT_EQ(::mkfifo(file("pytorch_model.bin").c_str(), 0600), 0);
  expect_input_error(ErrorKind::io, {"pytorch_model.bin", "a FIFO"}, [&] { open(); });
  fs::create_symlink("model.safetensors", file("model.safetensors"));
  expect_input_error(ErrorKind::io, {"model.safetensors", "symbolic links"}, [&] { open(); });
  const auto circle = file("circle");
  fs::create_symlink(circle, circle);
  expect_input_error(ErrorKind::model, {"circle", "is not a folder"}, [&] { TensorStore::open(circle); });
}

TEST_F(TensorStoreTest, cut_shard_is_named) {
  write_safetensors(file("one.safetensors"), {{"a", numbered({2}, at::kHalf)}});
  write_safetensors(file("two.safetensors"), {{"b", numbered({64}, at::kHalf)}});
  write_index("model.safetensors.index.json", {{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  const auto size = fs::file_size(file("two.safetensors"));
  fs::resize_file(file("two.safetensors"), size - 1);
  expect_open_refused(
      {file("two.safetensors").string(), "cut short within tensor 'b'", "expected " + std::to_string(size)});
}

TEST_F(TensorStoreTest, file_that_shrinks_after_it_was_opened) {
  write_safetensors(file("model.safetensors"), {{"w", numbered({64, 1024}, at::kFloat)}});
  for (const auto io : {IoMode::mmap, IoMode::read}) {
    write_safetensors(file("model.safetensors"), {{"w", numbered({64, 1024}, at::kFloat)}});
    const auto store = open(io);
    fs::resize_file(file("model.safetensors"), 4096);
    for (const auto type : {ComputeType::float32, ComputeType::float64})
      expect_input_error(ErrorKind::model, {file("model.safetensors").string() + "' has become shorter", "now 4096"},
                         [&] { store.read(*store.find("w"), type); });
    expect_input_error(ErrorKind::model, {"has become shorter"}, [&] { store.read_digest(*store.find("w")); });
  }
}

TEST_F(TensorStoreTest, which_file_is_taken) {
  expect_open_refused({folder_.path().string(), "holds no weights", "pytorch_model.bin.index.json"});
  write_safetensors(file("other.safetensors"), {{"other", numbered({1}, at::kHalf)}});
  EXPECT_NE(open().find("other"), nullptr);
  write_safetensors(file("another.safetensors"), {{"another", numbered({1}, at::kHalf)}});
  expect_open_refused({"holds no weights", "'another.safetensors', 'other.safetensors'"});
  fs::copy_file(fs::path(SPECTRACE_SOURCE_DIR) / "tests/data/checkpoint/nested.bin", file("pytorch_model.bin"));
  EXPECT_NE(open().find("weight"), nullptr);
  write_safetensors(file("model.safetensors"), {{"model", numbered({1}, at::kHalf)}});
  EXPECT_NE(open().find("model"), nullptr);
  expect_input_error(ErrorKind::model, {"is not a folder"}, [&] { TensorStore::open(file("model.safetensors")); });
}

TEST_F(TensorStoreTest, threads_share_a_store) {
  const at::Tensor given = numbered({64, 257}, at::kBFloat16);
  write_safetensors(file("model.safetensors"), {{"w", given}});
  const auto store = open();
  std::vector<int> right(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < right.size(); ++t)
    threads.emplace_back([&, t] {
      for (int repeat = 0; repeat < 20; ++repeat)
        right[t] += at::equal(store.read(*store.find("w"), ComputeType::float32), given.to(at::kFloat));
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 20));
  EXPECT_EQ(store.bytes_read(), 80 * store.find("w")->size_bytes);
}

TEST(IoModes, parsed) {
  EXPECT_EQ(parse_io_mode("auto"), IoMode::automatic);
  EXPECT_EQ(parse_io_mode("mmap"), IoMode::mmap);
  EXPECT_EQ(parse_io_mode("read"), IoMode::read);
  expect_input_error(ErrorKind::usage, {"'fast'", "auto, mmap, read"}, [] { parse_io_mode("fast"); });
}

class DigestWeights : public TensorStoreTest {
 protected:
  void TearDown() override { set_num_threads(1); }
};

TEST_F(DigestWeights, same_for_any_number_of_threads_and_any_folder) {
  // Three segments of 4 MiB, the last one short
  write_safetensors(file("model.safetensors"), {{"w", numbered({(9 << 20) / 4}, at::kFloat)}});
  const std::string digest = digest_weights(open());
  EXPECT_EQ(digest.size(), 64u);
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    EXPECT_EQ(digest_weights(open()), digest);
  }
  const TempFolder other;
  fs::copy_file(file("model.safetensors"), other.path() / "model.safetensors");
  EXPECT_EQ(digest_weights(TensorStore::open(other.path())), digest);
}

TEST_F(DigestWeights, sees_every_byte_and_their_order) {
  const at::Tensor given = numbered({(9 << 20) / 4}, at::kFloat);
  write_safetensors(file("model.safetensors"), {{"w", given}});
  const std::string digest = digest_weights(open());
  for (const std::int64_t place : {std::int64_t{0}, given.numel() / 2, given.numel() - 1}) {
    at::Tensor changed = given.clone();
    changed[place] = 600;
    write_safetensors(file("model.safetensors"), {{"w", changed}});
    EXPECT_NE(digest_weights(open()), digest) << place;
  }
  write_safetensors(file("model.safetensors"), {{"w", given.flip(0)}});
  EXPECT_NE(digest_weights(open()), digest);
}

class RefuseQuantized : public TensorStoreTest {
 protected:
  void expect_refused(const std::string& tensor, const at::Tensor& value, const std::string& method) {
    write_safetensors(file("model.safetensors"), {{"fine.weight", numbered({2}, at::kHalf)}, {tensor, value}});
    expect_input_error(ErrorKind::model, {"quantized", "'" + tensor + "'", method, file("model.safetensors").string()},
                       [&] { refuse_quantized(open(), JsonNode::parse_text("{}", "config.json", ErrorKind::model)); });
  }
  void check(const std::string& config) {
    refuse_quantized(open(), JsonNode::parse_text(config, "config.json", ErrorKind::model));
  }
};

TEST_F(RefuseQuantized, by_the_config) {
  write_safetensors(file("model.safetensors"), {{"w.weight", numbered({2}, at::kChar)}});
  expect_input_error(ErrorKind::model, {"config.json", "/quantization_config", "quantized", "\"gptq\""},
                     [&] { check(R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})"); });
  expect_input_error(ErrorKind::model, {"/text_config/quantization_config", "no quant_method"},
                     [&] { check(R"({"text_config": {"quantization_config": {"load_in_8bit": true}}})"); });
  write_safetensors(file("model.safetensors"), {{"w.weight", numbered({2}, at::kHalf)}});
  EXPECT_NO_THROW(check(R"({"quantization_config": null})"));
  expect_input_error(ErrorKind::model, {"/quantization_config", "\"bitnet\""},
                     [&] { check(R"({"quantization_config": {"quant_method": "bitnet"}})"); });
}

TEST_F(RefuseQuantized, not_by_a_config_beside_plain_numbers) {
  const std::string config = R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})";
  write_bytes(file("config.json"), config);
  write_safetensors(file("model.safetensors"), {{"h.0.attn.bias", at::zeros({1, 1, 4, 4}, at::kByte)},
                                                {"w.weight", numbered({2}, at::kBFloat16)}});
  EXPECT_NO_THROW(check(config));
  ASSERT_EQ(open().warnings().size(), 1u);
  EXPECT_NE(open().warnings()[0].find("quantization_config (quant_method \"gptq\") is not followed"),
            std::string::npos);
  write_safetensors(file("model.safetensors"),
                    {{"scales", at::zeros({4}, at::kInt)}, {"w.weight", numbered({2}, at::kBFloat16)}});
  EXPECT_TRUE(open().warnings().empty());
  expect_input_error(ErrorKind::model, {"/quantization_config", "\"gptq\""}, [&] { check(config); });
}

TEST_F(RefuseQuantized, by_the_tensors) {
  const at::Tensor bytes = at::zeros({8, 1}, at::kByte), scales = numbered({2}, at::kFloat);
  expect_refused("l.0.q_proj.weight", bytes, "packed integers, type uint8, shape [8, 1]");
  expect_refused("l.0.q_proj.qweight", at::zeros({2, 2}, at::kInt), "GPTQ or AWQ");
  expect_refused("l.0.q_proj.weight.absmax", scales, "bitsandbytes 4-bit");
  expect_refused("l.0.q_proj.weight.quant_state.bitsandbytes__nf4", bytes, "bitsandbytes 4-bit");
  expect_refused("l.0.q_proj.SCB", scales, "bitsandbytes 8-bit");
  expect_refused("l.0.q_proj.weight_packed", at::zeros({2}, at::kInt), "compressed-tensors");
  expect_refused("l.0.q_proj.weight_scale_inv", scales, "scaled weights");
  expect_refused("l.0.q_proj.exponents", at::zeros({2}, at::kByte).view(at::kFloat8_e8m0fnu), "8-bit floats");
}

TEST_F(RefuseQuantized, not_by_buffers_of_integers) {
  write_safetensors(file("model.safetensors"), {{"h.0.attn.bias", at::zeros({1, 1, 4, 4}, at::kByte)},
                                                {"h.0.attn.masked_bias", numbered({}, at::kFloat)},
                                                {"position_ids", at::zeros({1, 4}, at::kLong)},
                                                {"h.0.attn.c_attn.weight", numbered({4, 12}, at::kFloat)}});
  EXPECT_NO_THROW(check(R"({"model_type": "gpt2"})"));
}

}  // namespace
}  // namespace spectrace
