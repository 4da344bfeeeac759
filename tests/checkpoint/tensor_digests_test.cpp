#include "spectrace/checkpoint/tensor_digests.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "archive_builder.hpp"
#include "expect_input_error.hpp"
#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

using namespace std::string_literals;
namespace fs = std::filesystem;

constexpr std::int64_t mebibyte = 1 << 20;

/// Element i is i mod 241: exact in every type.
at::Tensor cycled(std::vector<std::int64_t> shape, at::ScalarType type) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return at::remainder(at::arange(count, at::kLong), 241).to(type).reshape(shape);
}

TensorInfo info(StorageType type, std::vector<std::int64_t> shape) {
  TensorInfo tensor;
  tensor.type = type;
  tensor.shape = std::move(shape);
  tensor.strides = row_major_strides(tensor.shape);
  tensor.size_bytes = static_cast<std::uint64_t>(tensor.num_elements() * element_size_bytes(type));
  return tensor;
}

/// A torch archive with one float32 tensor "w" whose storage is `data`.
std::string torch_archive(const at::Tensor& data, std::int64_t offset, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& strides) {
  const auto integer = [](std::int64_t value) {
    return "J" + ArchiveBuilder::number(static_cast<std::uint64_t>(value), 4);
  };
  const auto tuple = [&](const std::vector<std::int64_t>& values) {
    std::string text = "(";
    for (const auto value : values) text += integer(value);
    return text + "t";
  };
  const std::string storage =
      "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
      "0X\3\0\0\0cpu"s +
      integer(data.numel()) + "tQ";
  const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + tuple(shape) +
                             tuple(strides) +
                             "\x89"
                             "ccollections\nOrderedDict\n)RtR";
  ArchiveBuilder builder;
  const auto* bytes = static_cast<const char*>(data.const_data_ptr());
  builder.records = {{.name = "m/data.pkl", .content = "\x80\x02}X\1\0\0\0w"s + tensor + "s."},
                     {.name = "m/data/0", .content = std::string(bytes, data.nbytes())}};
  return builder.build();
}

TEST(Segments, about_a_mebibyte_of_whole_rows) {
  EXPECT_EQ(segment_rows(info(StorageType::bfloat16, {50000, 1024})), 512);
  EXPECT_EQ(num_segments(info(StorageType::bfloat16, {50000, 1024})), 98);
  EXPECT_EQ(segment_rows(info(StorageType::float64, {8, 3, 1 << 20})), 1);
  EXPECT_EQ(segment_rows(info(StorageType::int64, {1 << 20})), mebibyte / 8);
  EXPECT_EQ(num_segments(info(StorageType::float32, {})), 1);
  EXPECT_EQ(num_segments(info(StorageType::float32, {0, 4})), 0);
  EXPECT_EQ(num_segments(info(StorageType::float32, {1'000'000'000, 0})), 0);
  TensorInfo unknown = info(StorageType::other, {2});
  unknown.size_bytes = 3 * mebibyte / 2;
  EXPECT_EQ(num_segments(unknown), 2);
  EXPECT_EQ(segment_bytes(unknown, 1).size, static_cast<std::uint64_t>(mebibyte / 2));
  const auto last = segment_bytes(info(StorageType::bfloat16, {1000, 1024}), 1);
  EXPECT_EQ(last.first, static_cast<std::uint64_t>(mebibyte));
  EXPECT_EQ(last.size, 488u * 2048);
}

TEST(TensorDigests, once_all_segments_were_seen_in_any_order) {
  const std::vector<TensorInfo> tensors = {info(StorageType::float32, {3 * mebibyte / 4})};
  TensorDigests forward(tensors), backward(tensors), other(tensors);
  const std::vector<std::uint64_t> hashes = {7, 8, 9};
  EXPECT_EQ(forward.unseen(0), (std::vector<std::int64_t>{0, 1, 2}));
  for (const std::int64_t i : {0, 1, 2}) {
    EXPECT_EQ(forward.digest(0), std::nullopt);
    EXPECT_TRUE(forward.add(0, i, hashes[static_cast<std::size_t>(i)]));
    EXPECT_TRUE(backward.add(0, 2 - i, hashes[static_cast<std::size_t>(2 - i)]));
    EXPECT_TRUE(other.add(0, i, hashes[static_cast<std::size_t>(2 - i)]));
  }
  EXPECT_TRUE(forward.unseen(0).empty());
  ASSERT_TRUE(forward.digest(0).has_value());
  EXPECT_EQ(forward.digest(0)->size(), 32u);
  EXPECT_EQ(forward.digest(0), backward.digest(0));
  EXPECT_NE(forward.digest(0), other.digest(0));
  EXPECT_TRUE(forward.add(0, 1, 8));
  EXPECT_FALSE(forward.add(0, 1, 9));
}

class StoreDigests : public testing::Test {
 protected:
  void TearDown() override { set_num_threads(1); }

  fs::path file(const std::string& name = "model.safetensors") const { return folder_.path() / name; }
  TensorStore open(IoMode io = IoMode::automatic) const { return TensorStore::open(folder_.path(), io); }
  void write(const at::Tensor& tensor) const { write_safetensors(file(), {{"w", tensor}}); }
  std::string written_digest(const at::Tensor& tensor) const {
    write(tensor);
    const auto store = open();
    return store.read_digest(*store.find("w"));
  }

  /// One bit of the tensor's byte `place`, in the file as it lies there.
  void flip_bit(const TensorInfo& tensor, std::uint64_t place) const {
    std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(tensor.offset + place);
    stream.seekg(at);
    const int byte = stream.get();
    stream.seekp(at);
    stream.put(static_cast<char>(byte ^ 1));
  }

  TempFolder folder_;
};

/// The tensor's digest after all its rows were read in blocks of `height`.
std::optional<std::string> digest_by_blocks(const TensorStore& store, const TensorInfo& tensor, std::int64_t height) {
  for (std::int64_t first = 0; first < tensor.shape[0]; first += height) {
    auto shape = tensor.shape;
    shape[0] = std::min(height, tensor.shape[0] - first);
    store.read_rows(tensor, first, at::empty(shape, at::kFloat));
  }
  return store.digest(tensor);
}

TEST_F(StoreDigests, same_however_a_tensor_is_read) {
  // Several segments, the last one short; rows of more than a segment; a tensor with one dimension.
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{1500, 521}, {3, 2, 350'001}, {600'000}})
    for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
      const at::Tensor given = cycled(shape, type);
      write(given);
      const auto first = open();
      const auto& tensor = *first.find("w");
      const std::string expected = first.read_digest(tensor);
      for (const int threads : {1, 4})
        for (const auto io : {IoMode::mmap, IoMode::read}) {
          SCOPED_TRACE(std::string(name(tensor.type)) + shape_text(shape) + (io == IoMode::read ? " read" : " mmap"));
          set_num_threads(threads);
          EXPECT_EQ(open(io).read_digest(tensor), expected);
          for (const auto to : {ComputeType::float32, ComputeType::float64}) {
            const auto whole = open(io);
            EXPECT_EQ(whole.digest(tensor), std::nullopt);
            EXPECT_TRUE(at::equal(whole.read(tensor, to), given.to(scalar_type(to))));
            EXPECT_EQ(whole.digest(tensor), expected);
            EXPECT_EQ(whole.read_digest(tensor), expected);
            EXPECT_EQ(whole.bytes_read(), tensor.size_bytes) << "the digest of what was read costs no reading";
          }
          EXPECT_EQ(digest_by_blocks(open(io), tensor, segment_rows(tensor)), expected);
          EXPECT_EQ(digest_by_blocks(open(io), tensor, 2 * segment_rows(tensor)), expected);
        }
    }
}

TEST_F(StoreDigests, parts_that_are_no_whole_segments_are_not_seen) {
  write(cycled({1500, 521}, at::kFloat));
  const auto store = open();
  const auto& tensor = *store.find("w");
  const std::int64_t height = segment_rows(tensor);
  EXPECT_EQ(digest_by_blocks(store, tensor, height - 1), std::nullopt);
  std::map<std::int64_t, std::string> bad;
  store.gather_rows(tensor, std::vector<std::int64_t>{0, 1, 2}, ComputeType::float32, bad);
  // All but the first segment, from a row within it on.
  store.read_rows(tensor, 5, at::empty({1495, 521}, at::kFloat));
  EXPECT_EQ(store.digest(tensor), std::nullopt);
  const auto before = store.bytes_read();
  const std::string digest = store.read_digest(tensor);
  EXPECT_EQ(store.bytes_read() - before, static_cast<std::uint64_t>(height) * 521 * 4);
  const auto other = open();
  EXPECT_EQ(other.read_digest(tensor), digest);
}

TEST_F(StoreDigests, every_type_scalars_and_empty_tensors) {
  std::vector<std::pair<std::string, at::Tensor>> given;
  for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar,
                          at::kByte, at::kBool}) {
    const std::string code = safetensors_code(type);
    given.emplace_back(code, at::zeros({300'000}, type));
    given.emplace_back(code + ".scalar", at::zeros({}, type));
    given.emplace_back(code + ".one", at::zeros({1}, type));
    given.emplace_back(code + ".none", at::zeros({0, 4}, type));
  }
  write_safetensors(file(), given);
  std::map<std::string, std::string> names;
  const auto store = open(), threaded = open(IoMode::read);
  for (const auto& tensor : store.tensors()) {
    const std::string digest = store.read_digest(tensor);
    const auto [place, is_new] = names.emplace(digest, tensor.name);
    EXPECT_TRUE(is_new) << tensor.name << " and " << place->second;
    set_num_threads(4);
    EXPECT_EQ(threaded.read_digest(tensor), digest);
    set_num_threads(1);
  }
  EXPECT_TRUE(open().digest(*store.find("F32.none")).has_value()) << "there is nothing to read";
  EXPECT_EQ(open().digest(*store.find("F32.one")), std::nullopt);
}

TEST_F(StoreDigests, of_a_type_whose_size_is_not_known) {
  write_bytes(file(),
              safetensors_bytes(R"({"w":{"dtype":"C64","shape":[2],"data_offsets":[0,16]}})", "0123456789abcdef"));
  const std::string digest = open().read_digest(*open().find("w"));
  flip_bit(*open().find("w"), 15);
  EXPECT_NE(open().read_digest(*open().find("w")), digest);
}

TEST_F(StoreDigests, neither_shards_nor_names_matter) {
  const at::Tensor a = cycled({700, 900}, at::kFloat), b = cycled({40, 30}, at::kHalf);
  write_safetensors(file(), {{"a", a}, {"b", b}});
  const TempFolder other;
  const auto shard = [&](const std::string& name) { return other.path() / name; };
  write_safetensors(shard("1.safetensors"), {{"longer name", b}});
  write_safetensors(shard("2.safetensors"), {{"pad", cycled({3}, at::kByte)}, {"a", a}});
  write_bytes(shard("model.safetensors.index.json"),
              R"({"weight_map": {"longer name": "1.safetensors", "a": "2.safetensors", "pad": "2.safetensors"}})");
  const auto store = open(), sharded = TensorStore::open(other.path());
  EXPECT_EQ(store.read_digest(*store.find("a")), sharded.read_digest(*sharded.find("a")));
  EXPECT_EQ(store.read_digest(*store.find("b")), sharded.read_digest(*sharded.find("longer name")));
}

TEST_F(StoreDigests, strides_do_not_matter) {
  const std::int64_t rows = 900, cols = 601;
  const at::Tensor given = cycled({rows, cols}, at::kFloat);
  const std::string expected = written_digest(given), padded = written_digest(at::constant_pad_nd(given, {0, 0, 1, 0}));
  fs::remove(file());
  const auto expect_digest = [&](const std::string& archive, const std::string& digest) {
    write_bytes(file("pytorch_model.bin"), archive);
    for (const int threads : {1, 4})
      for (const auto io : {IoMode::mmap, IoMode::read}) {
        set_num_threads(threads);
        const auto only_digest = open(io), whole = open(io), blocks = open(io);
        const auto& tensor = *whole.find("w");
        EXPECT_EQ(only_digest.read_digest(tensor), digest);
        whole.read(tensor, ComputeType::float64);
        EXPECT_EQ(whole.digest(tensor), digest);
        EXPECT_EQ(digest_by_blocks(blocks, tensor, segment_rows(tensor)), digest);
      }
  };
  expect_digest(torch_archive(given, 0, {rows, cols}, {cols, 1}), expected);
  expect_digest(torch_archive(given.t().contiguous(), 0, {rows, cols}, {1, rows}), expected);
  const at::Tensor wide = at::constant_pad_nd(given, {1, 2}, 9.0);
  expect_digest(torch_archive(wide, 1, {rows, cols}, {cols + 3, 1}), expected);
  expect_digest(torch_archive(at::constant_pad_nd(given, {0, 0, 1, 0}), 0, {rows + 1, cols}, {cols, 1}), padded);
  expect_digest(torch_archive(cycled({4}, at::kFloat), 0, {3, 4}, {0, 1}), [&] {
    const TempFolder other;
    write_safetensors(other.path() / "model.safetensors", {{"w", cycled({4}, at::kFloat).repeat({3, 1})}});
    const auto store = TensorStore::open(other.path());
    return store.read_digest(*store.find("w"));
  }());
}

TEST_F(StoreDigests, a_transposed_tensor_is_gathered_slab_by_slab) {
  const std::int64_t rows = 33'001, cols = 1021;
  const at::Tensor given = cycled({rows, cols}, at::kFloat);
  const std::string expected = written_digest(given);
  fs::remove(file());
  write_bytes(file("pytorch_model.bin"), torch_archive(given.t().contiguous(), 0, {rows, cols}, {1, rows}));
  set_num_threads(2);
  const auto fresh = open(), begun = open(), whole = open();
  const auto& tensor = *whole.find("w");
  ASSERT_GE(num_segments(tensor), 2 * segments_per_slab(tensor));
  EXPECT_EQ(fresh.read_digest(tensor), expected);
  // Segments that were seen already leave gaps, across the border of two slabs too.
  const std::int64_t height = segment_rows(tensor), border = segments_per_slab(tensor) * height;
  for (const std::int64_t first : {height, border - 2 * height, border}) {
    const at::Tensor some = at::empty({2 * height, cols}, at::kFloat);
    begun.read_rows(tensor, first, some);
    EXPECT_TRUE(at::equal(some, given.narrow(0, first, 2 * height)));
  }
  EXPECT_EQ(begun.read_digest(tensor), expected);
  EXPECT_TRUE(at::equal(whole.read(tensor, ComputeType::float32), given));
  EXPECT_EQ(whole.digest(tensor), expected);
  const at::Tensor middle = at::empty({border + 7, cols}, at::kFloat);
  whole.read_rows(tensor, height + 3, middle);
  EXPECT_TRUE(at::equal(middle, given.narrow(0, height + 3, border + 7)));
}

TEST_F(StoreDigests, one_bit_anywhere_changes_it) {
  const at::Tensor given = cycled({1500, 521}, at::kBFloat16);
  const std::string digest = written_digest(given);
  const TensorInfo tensor = *open().find("w");
  for (const std::uint64_t place :
       {std::uint64_t{0}, std::uint64_t{1006 * 1042 - 1}, std::uint64_t{1006 * 1042}, tensor.size_bytes - 1}) {
    flip_bit(tensor, place);
    EXPECT_NE(open().read_digest(tensor), digest) << place;
    flip_bit(tensor, place);
    EXPECT_EQ(open().read_digest(tensor), digest) << place;
  }
  EXPECT_NE(written_digest(given.reshape({521, 1500})), digest) << "the same bytes in another shape";
  EXPECT_NE(written_digest(given.view(at::kHalf)), digest) << "the same bytes of another type";
}

TEST_F(StoreDigests, a_change_between_two_reads_is_an_error) {
  for (const auto io : {IoMode::mmap, IoMode::read})
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      write(cycled({1500, 521}, type));
      const auto store = open(io);
      const auto& tensor = *store.find("w");
      store.read(tensor, ComputeType::float32);
      store.read(tensor, ComputeType::float64);
      flip_bit(tensor, tensor.size_bytes - 2);
      expect_input_error(ErrorKind::model, {file().string(), "tensor 'w' has changed while it was being read", "Copy"},
                         [&] { store.read(tensor, ComputeType::float32); });
      const std::int64_t last = 1500 - 1500 % segment_rows(tensor);
      store.read_rows(tensor, 0, at::empty({last, 521}, at::kFloat));
      expect_input_error(ErrorKind::model, {"tensor 'w' has changed"}, [&] {
        store.read_rows(tensor, last, at::empty({1500 - last, 521}, at::kFloat));
      });
    }
}

using CheckpointChanges = StoreDigests;

/// The system's clock for the times of files ticks every few milliseconds: two changes within a tick look like one.
void let_the_clock_tick() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

void set_times(const fs::path& path, const struct stat& status) {
  const timespec times[] = {status.st_atim, status.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST_F(CheckpointChanges, nothing_changes_when_files_are_read) {
  write(cycled({64, 64}, at::kFloat));
  const auto store = open();
  store.read(*store.find("w"), ComputeType::float32);
  EXPECT_NO_THROW(store.expect_unchanged());
  EXPECT_EQ(store.fingerprint().size(), 64u);
  EXPECT_EQ(open().fingerprint(), store.fingerprint());
  // The hub's cache: a folder of links.
  const TempFolder links;
  fs::create_symlink(file(), links.path() / "model.safetensors");
  const auto linked = TensorStore::open(links.path());
  EXPECT_EQ(linked.fingerprint(), store.fingerprint());
  EXPECT_NO_THROW(linked.expect_unchanged());
}

TEST_F(CheckpointChanges, a_touched_file) {
  write(cycled({64, 64}, at::kFloat));
  const auto store = open();
  fs::last_write_time(file(), fs::last_write_time(file()) + std::chrono::nanoseconds(1));
  EXPECT_NE(open().fingerprint(), store.fingerprint());
  expect_input_error(ErrorKind::model,
                     {file().string(), "the checkpoint was changed while it was being read", "modification time"},
                     [&] { store.expect_unchanged(); });
}

TEST_F(CheckpointChanges, another_file_renamed_over_it) {
  write(cycled({64, 64}, at::kFloat));
  const auto store = open();
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  write_safetensors(file("other"), {{"w", cycled({64, 64}, at::kFloat)}});
  set_times(file("other"), status);
  fs::rename(file("other"), file());
  EXPECT_NE(open().fingerprint(), store.fingerprint());
  expect_input_error(ErrorKind::model, {file().string(), "another file now has its name"},
                     [&] { store.expect_unchanged(); });
  fs::remove(file());
  expect_input_error(ErrorKind::model, {file().string(), "No such file"}, [&] { store.expect_unchanged(); });
}

TEST_F(CheckpointChanges, overwritten_in_place_with_its_time_set_back) {
  write(cycled({64, 64}, at::kFloat));
  const auto store = open();
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  let_the_clock_tick();
  flip_bit(*store.find("w"), 100);
  set_times(file(), status);
  EXPECT_NE(open().fingerprint(), store.fingerprint());
  expect_input_error(ErrorKind::model, {file().string(), "ctime"}, [&] { store.expect_unchanged(); });
}

TEST_F(CheckpointChanges, a_longer_file_and_one_of_several_shards) {
  for (const char* shard : {"1.safetensors", "2.safetensors"})
    write_safetensors(file(shard), {{std::string(1, shard[0]), cycled({64}, at::kFloat)}});
  write_bytes(file("model.safetensors.index.json"), R"({"weight_map": {"1": "1.safetensors", "2": "2.safetensors"}})");
  const auto store = open();
  std::ofstream(file("2.safetensors"), std::ios::app) << "more";
  expect_input_error(ErrorKind::model, {file("2.safetensors").string(), "bytes, now"},
                     [&] { store.expect_unchanged(); });
}

TEST_F(CheckpointChanges, a_fifo_in_place_of_a_file_does_not_hang) {
  for (const char* name : {"model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"}) {
    ASSERT_EQ(::mkfifo(file(name).c_str(), 0600), 0);
    expect_input_error(ErrorKind::io, {file(name).string(), "is not a regular file (a FIFO)"}, [&] { open(); });
    fs::remove(file(name));
  }
}

TEST(DigestLines, no_name_stands_for_two_tensors) {
  EXPECT_EQ(digest_lines("h.0.w", "ab12"), "h.0.w\nab12\n");
  EXPECT_NE(digest_lines("a\n1\nb", "2"), digest_lines("a", "1") + digest_lines("b", "2"));
  EXPECT_NE(digest_lines("a\n", "1"), digest_lines("a\\n", "1"));
  EXPECT_NE(digest_lines("a", "\n1"), digest_lines("a\n", "1"));
}

}  // namespace
}  // namespace spectrace
