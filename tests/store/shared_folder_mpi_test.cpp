#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sample_tree.hpp"
#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_file.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// A folder that all ranks share, made and removed by rank 0.
class shared_folder : public testing::Test {
 protected:
  void SetUp() override {
    if (communicator_->is_root()) owned_ = std::make_unique<TempFolder>();
    std::string path = owned_ ? owned_->path().string() : "";
    communicator_->broadcast(path, 0);
    folder_ = path;
  }
  void TearDown() override { communicator_->barrier(); }

  std::unique_ptr<Communicator> communicator_ = Communicator::world();
  std::unique_ptr<TempFolder> owned_;
  std::filesystem::path folder_;
};

// Ranks start at the same moment in the same folder, twice; uneven numbers of records.
TEST_F(shared_folder, journals_of_all_ranks_make_one_index) {
  const int rank = communicator_->rank(), size = communicator_->size();
  for (int start = 0; start < 2; ++start) {
    JournalWriter writer(folder_ / "journal", rank);
    for (int i = 0; i <= rank; ++i) {
      Record record;
      record.arrays["place"] = {{3}, {start * 1.0, rank * 1.0, i * 1.0}};
      writer.append(fmt::format("{}/{}/{}", start, rank, i), record);
    }
    communicator_->barrier();
  }
  const auto index = read_journal_index(folder_ / "journal");
  EXPECT_EQ(index.size(), static_cast<std::size_t>(size * (size + 1)));
  for (const auto& [key, entry] : index) {
    const auto values = read_journal_record(entry).arrays.at("place").values;
    EXPECT_EQ(key, fmt::format("{}/{}/{}", values[0], values[1], values[2]));
  }
  // Every rank sees the same, or the ranks would plan differently.
  std::string seen;
  for (const auto& [key, entry] : index) seen += key + entry.file.filename().string() + std::to_string(entry.offset);
  for (const auto& other : communicator_->all_gather(seen)) EXPECT_EQ(other, seen);
}

// Files of different models are written by different ranks at once, by an HDF5 that knows of MPI.
TEST_F(shared_folder, ranks_write_result_files_at_once) {
  const auto name = [](int rank) { return "model-" + std::to_string(rank) + ".h5"; };
  write_result_file(folder_ / name(communicator_->rank()), test::sample_tree());
  communicator_->barrier();
  const std::string bytes = read_text_file(folder_ / name(0));
  for (int rank = 1; rank < communicator_->size(); ++rank) EXPECT_TRUE(read_text_file(folder_ / name(rank)) == bytes);
  EXPECT_EQ(digest_tree(read_result_file(folder_ / name(0))), digest_tree(test::sample_tree()));
}

}  // namespace
}  // namespace spectrace
