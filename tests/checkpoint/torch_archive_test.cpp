#include "spectrace/checkpoint/torch_archive.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "archive_builder.hpp"
#include "expect_input_error.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

using namespace std::string_literals;
namespace fs = std::filesystem;

/// The formula of tests/data/checkpoint/make_bins.py.
double value(int test_case, std::int64_t i) { return static_cast<double>((i * 7 + test_case * 13) % 251 - 125) / 8; }

fs::path data_file(const std::string& name) {
  return fs::path(SPECTRACE_SOURCE_DIR) / "tests" / "data" / "checkpoint" / name;
}

/// The file as the only one of a checkpoint.
class TorchArchive : public testing::Test {
 protected:
  TensorStore open(const std::string& name) {
    fs::copy_file(data_file(name), path_, fs::copy_options::overwrite_existing);
    return TensorStore::open(folder_.path());
  }

  void expect_refused(const std::string& name, const std::string& part, const std::string& other_part = {}) {
    expect_input_error(ErrorKind::model, {part, other_part, path_.string()}, [&] { open(name); });
  }

  /// An archive with this pickle and one record data/0 of 24 bytes.
  void write(const std::string& pickle) {
    ArchiveBuilder builder;
    builder.records = {{.name = "m/data.pkl", .content = "\x80\x02"s + pickle},
                       {.name = "m/data/0", .content = std::string(24, '\0')}};
    write_bytes(path_, builder.build());
  }

  void expect_pickle_refused(const std::string& pickle, const std::string& part) {
    SCOPED_TRACE(testing::PrintToString(pickle));
    write(pickle);
    expect_input_error(ErrorKind::model, {part, path_.string()}, [&] { read_torch_archive(FileReader(path_), 0); });
  }

  TempFolder folder_;
  fs::path path_ = folder_.path() / "pytorch_model.bin";
};

/// Expects element `index` of the read tensor to be value(test_case, source(index)).
template <typename Source>
void expect_values(const TensorStore& store, const std::string& name, const std::vector<std::int64_t>& shape,
                   int test_case, const Source& source) {
  SCOPED_TRACE(name);
  const auto* tensor = store.find(name);
  ASSERT_NE(tensor, nullptr);
  ASSERT_EQ(tensor->shape, shape);
  const at::Tensor got = store.read(*tensor, ComputeType::float64);
  ASSERT_EQ(got.sizes(), at::IntArrayRef(shape));
  for (std::int64_t i = 0; i < got.numel(); ++i)
    EXPECT_EQ(got.const_data_ptr<double>()[i], value(test_case, source(i))) << "element " << i;
}

std::int64_t same(std::int64_t i) { return i; }

TEST_F(TorchArchive, every_type) {
  for (const char* file : {"types.bin", "types_protocol4.bin"}) {
    SCOPED_TRACE(file);
    const auto store = open(file);
    EXPECT_EQ(store.format(), "pytorch");
    EXPECT_EQ(store.tensors().size(), 9u);
    expect_values(store, "float64", {3, 5}, 1, same);
    expect_values(store, "float32", {3, 5}, 2, same);
    expect_values(store, "float16", {3, 5}, 3, same);
    expect_values(store, "bfloat16", {3, 5}, 4, same);
    expect_values(store, "parameter", {7}, 5, same);
    expect_values(store, "scalar", {}, 6, same);
    expect_values(store, "empty", {0, 4}, 7, same);
    EXPECT_EQ(store.find("float64")->type, StorageType::float64);
    EXPECT_EQ(store.find("bfloat16")->type, StorageType::bfloat16);
    EXPECT_EQ(store.find("mask")->type, StorageType::boolean);
    expect_input_error(ErrorKind::model, {"'int64'", "of type int64", path_.string()},
                       [&] { store.read(*store.find("int64"), ComputeType::float32); });
  }
}

TEST_F(TorchArchive, views_of_shared_storage) {
  const auto store = open("views.bin");
  EXPECT_EQ(store.find("tied.a")->offset, store.find("tied.b")->offset);
  expect_values(store, "tied.a", {6, 8}, 10, same);
  expect_values(store, "tied.b", {6, 8}, 10, same);
  expect_values(store, "rows", {3, 8}, 10, [](std::int64_t i) { return 16 + i; });
  expect_values(store, "columns", {6, 3}, 10, [](std::int64_t i) { return i / 3 * 8 + 3 + i % 3; });
  expect_values(store, "every_second", {3, 3}, 10, [](std::int64_t i) { return i / 3 * 16 + 1 + i % 3 * 3; });
  const auto transposed = [](std::int64_t i) { return i % 6 * 8 + i / 6; };
  expect_values(store, "transposed", {8, 6}, 10, transposed);
  expect_values(store, "transposed.bfloat16", {8, 6}, 10, transposed);
  // [4, 3, 5] permuted to [5, 4, 3]
  expect_values(store, "permuted", {5, 4, 3}, 11, [](std::int64_t i) { return (i / 3 % 4 * 3 + i % 3) * 5 + i / 12; });
  expect_values(store, "expanded", {3, 4}, 12, [](std::int64_t i) { return i % 4; });
}

TEST_F(TorchArchive, rows_of_a_transposed_tensor) {
  const auto store = open("views.bin");
  const auto& tensor = *store.find("transposed");  // [8, 6], element (r, c) is value(10, c * 8 + r)
  at::Tensor rows = at::empty({3, 6}, at::kDouble);
  store.read_rows(tensor, 4, rows);
  const std::vector<std::int64_t> wanted = {7, 0, 0, 3};
  std::map<std::int64_t, std::string> bad;
  const at::Tensor gathered = store.gather_rows(tensor, wanted, ComputeType::float64, bad);
  for (std::int64_t c = 0; c < 6; ++c) {
    for (std::int64_t r = 0; r < 3; ++r) EXPECT_EQ(rows.const_data_ptr<double>()[r * 6 + c], value(10, c * 8 + 4 + r));
    for (std::size_t k = 0; k < wanted.size(); ++k)
      EXPECT_EQ(gathered.const_data_ptr<double>()[static_cast<std::int64_t>(k) * 6 + c], value(10, c * 8 + wanted[k]));
  }
}

TEST_F(TorchArchive, state_dict_inside_a_training_checkpoint) {
  const auto store = open("nested.bin");
  ASSERT_EQ(store.tensors().size(), 1u);
  expect_values(store, "weight", {2, 3}, 20, same);
}

TEST_F(TorchArchive, float8_by_itself_is_a_number_like_others) {
  const auto store = open("float8.bin");
  EXPECT_EQ(store.find("w")->type, StorageType::float8_e4m3);
  const at::Tensor got = store.read(*store.find("w"), ComputeType::float32);
  for (std::int64_t i = 0; i < 4; ++i) {
    const auto stored = static_cast<float>(c10::Float8_e4m3fn(static_cast<float>(value(40, i))));
    EXPECT_EQ(got.const_data_ptr<float>()[i], stored);
  }
}

TEST_F(TorchArchive, tensors_with_attributes) {
  const auto store = open("attributes.bin");
  ASSERT_EQ(store.tensors().size(), 3u);
  expect_values(store, "tensor", {2, 3}, 50, same);
  expect_values(store, "transposed", {3, 2}, 50, [](std::int64_t i) { return i % 2 * 3 + i / 2; });
  expect_values(store, "parameter", {5}, 51, same);
  expect_refused("own_class.bin", "OwnTensor");
}

TEST_F(TorchArchive, refuses_files_that_torch_made) {
  expect_refused("legacy.bin", "old format", "torch.save(torch.load(file, weights_only=True), file)");
  expect_refused("os_system.bin", "system'", "data.pkl: byte");
  expect_refused("negated.bin", "tensor 'z'", "negated");
}

TEST_F(TorchArchive, refuses_repacked_files) {
  expect_refused("deflated.bin", "'nested/data.pkl' is deflated");
  expect_refused("big_endian.bin", "big-endian", "byteorder");
  expect_refused("opcode.bin", "opcode 0x69", "data.pkl: byte");
  expect_refused("short_storage.bin", "tensor 'weight'", "'nested/data/0': expected 24 bytes, found 20");
}

TEST_F(TorchArchive, refuses_every_truncation) {
  const auto size = fs::file_size(data_file("views.bin"));
  for (std::uintmax_t cut = 0; cut < size; cut += cut < 64 || cut + 64 > size ? 1 : 37) {
    fs::copy_file(data_file("views.bin"), path_, fs::copy_options::overwrite_existing);
    fs::resize_file(path_, cut);
    expect_input_error(ErrorKind::model, {path_.string()}, [&] { read_torch_archive(FileReader(path_), 0); });
  }
}

// _rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict()), as opcodes
const std::string function = "ctorch._utils\n_rebuild_tensor_v2\n";
const std::string storage =
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
    "0X\3\0\0\0cpuK\6tQ"s;
const std::string rest =
    "\x89"
    "ccollections\nOrderedDict\n)RtR"s;

/// {"w": tensor}
std::string dict_of(const std::string& tensor) { return "}X\1\0\0\0w"s + tensor + "s."; }
std::string tensor_of(const std::string& place_shape_strides) {
  return function + "(" + storage + place_shape_strides + rest;
}

TEST_F(TorchArchive, hand_made_tensor_is_read) {
  write(dict_of(tensor_of("K\0K\2K\3\x86K\3K\1\x86"s)));
  const auto tensors = read_torch_archive(FileReader(path_), 0);
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].size_bytes, 24u);
  // Views that end at the storage's last element
  write(dict_of(tensor_of("K\1K\5\x85K\1\x85"s)));
  EXPECT_EQ(read_torch_archive(FileReader(path_), 0)[0].size_bytes, 20u);
  write(dict_of(tensor_of("K\6K\0\x85K\1\x85"s)));
  EXPECT_EQ(read_torch_archive(FileReader(path_), 0)[0].size_bytes, 0u);
}

TEST_F(TorchArchive, refuses_tensors_beyond_their_storage) {
  const std::string beyond = "tensor 'w': reaches past the end of its storage";
  expect_pickle_refused(dict_of(tensor_of("K\1K\2K\3\x86K\3K\1\x86"s)), beyond);
  expect_pickle_refused(dict_of(tensor_of("K\0K\2K\3\x86K\4K\1\x86"s)), beyond);
  expect_pickle_refused(dict_of(tensor_of("K\0K\7\x85K\1\x85"s)), beyond);
  expect_pickle_refused(dict_of(tensor_of("J\xff\xff\xff\xffK\1\x85K\1\x85"s)), beyond);
  expect_pickle_refused(dict_of(tensor_of("K\0K\2\x85J\xff\xff\xff\xff\x85"s)), "tensor 'w': its strides");
  expect_pickle_refused(dict_of(tensor_of("K\0J\xff\xff\xff\xff\x85K\1\x85"s)), "tensor 'w': its shape");
  const std::string huge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s;
  expect_pickle_refused(dict_of(tensor_of("K\0"s + huge + "\x85K\1\x85")), "tensor 'w': its shape");
  expect_pickle_refused(dict_of(tensor_of("K\0K\3\x85"s + huge + "\x85")), "tensor 'w': its strides");
  expect_pickle_refused(dict_of(tensor_of(huge + "K\3\x85K\1\x85")), beyond);
}

TEST_F(TorchArchive, refuses_views_that_repeat_elements_beyond_the_file) {
  // 2^40 times the first element
  expect_pickle_refused(dict_of(tensor_of("K\0\x8a\6\0\0\0\0\0\1\x85K\0\x85"s)),
                        "tensor 'w': its shape [1099511627776] has more elements than the file has bytes");
  write(dict_of(tensor_of("K\0K\7\x85K\0\x85"s)));  // as torch's expand() leaves it
  EXPECT_EQ(read_torch_archive(FileReader(path_), 0)[0].num_elements(), 7);
}

TEST_F(TorchArchive, refuses_one_shape_that_stands_for_many) {
  std::string ones = "(";
  for (int i = 0; i < 64; ++i) ones += "K\1";
  const std::string tensor = function + "(" + storage + "K\0h\1h\1"s + rest + "q\2";
  std::string dict = "}(X\1\0\0\0w"s + tensor;
  for (int i = 10'000; i < 20'000; ++i) dict += "X\5\0\0\0"s + std::to_string(i) + "h\2"s;
  expect_pickle_refused(ones + "tq\1" + "0" + dict + "u.", "more dimensions, with those before it");
}

TEST_F(TorchArchive, refuses_what_is_no_tensor) {
  expect_pickle_refused(dict_of(tensor_of("K\0K\2\x85K\1K\1\x86"s)), "tensor 'w': its shape and its strides differ");
  expect_pickle_refused(dict_of(tensor_of("NK\2\x85K\1\x85"s)), "tensor 'w': its offset is not an integer");
  expect_pickle_refused(dict_of(tensor_of("K\0K\2K\1\x85"s)), "tensor 'w': its shape is not a tuple");
  expect_pickle_refused(dict_of(function + "K\1\x85R"), "described in a way");
  expect_pickle_refused(dict_of("ctorch._utils\n_rebuild_parameter\nN\x85R"), "it is no tensor");
  expect_pickle_refused(dict_of("ctorch.storage\n_load_from_bytes\nN\x85R"), "'torch.storage._load_from_bytes'");
  std::string key = storage;
  key[key.find("X\1\0\0\0"
               "0"s) +
      5] = '1';
  expect_pickle_refused(dict_of(function + "(" + key + "K\0K\2\x85K\1\x85"s + rest), "no record 'data/1'");
  std::string size = storage;
  size[size.size() - 3] = '\7';
  expect_pickle_refused(dict_of(function + "(" + size + "K\0K\2\x85K\1\x85"s + rest), "expected 28 bytes, found 24");
  const std::string good = tensor_of("K\0K\2\x85K\1\x85"s);
  expect_pickle_refused("}(X\1\0\0\0w"s + good + "X\1\0\0\0w"s + good + "u.", "tensor 'w' is twice");
  expect_pickle_refused("}X\5\0\0\0otherK\1s."s, "holds no tensors (its keys are 'other')");
  expect_pickle_refused("].", "does not hold a dict of tensors");
}

TEST_F(TorchArchive, refuses_archives_without_a_pickle_or_with_two) {
  ArchiveBuilder builder;
  builder.records = {{.name = "arr_0.npy", .content = "x"}};
  write_bytes(path_, builder.build());
  expect_input_error(ErrorKind::model, {path_.string(), "no record 'data.pkl'"},
                     [&] { read_torch_archive(FileReader(path_), 0); });
  builder.records = {{.name = "a/data.pkl", .content = "x"}, {.name = "b/data.pkl", .content = "x"}};
  write_bytes(path_, builder.build());
  expect_input_error(ErrorKind::model, {path_.string(), "two archives"},
                     [&] { read_torch_archive(FileReader(path_), 0); });
  write_bytes(path_, "GGUF and so on");
  expect_input_error(ErrorKind::model, {path_.string(), "no zip archive"},
                     [&] { read_torch_archive(FileReader(path_), 0); });
}

}  // namespace
}  // namespace spectrace
