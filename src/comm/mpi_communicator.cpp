#include <algorithm>
#include <exception>
#include <list>
#include <numeric>
#include <utility>

#include "extremes.hpp"
#include "mpi_calls.hpp"
#include "spectrace/comm/communicator.hpp"
#include "spectrace/core/checked_cast.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"

namespace spectrace {
namespace {

/// How long the end of a run waits for messages that nobody has received yet.
constexpr double kDrainSeconds = 30.0;

/// A message on its way: its bytes must stay where they are until every part has left.
struct PendingSend {
  int destination = 0;
  int tag = 0;
  std::string bytes;
  std::vector<MPI_Request> requests;
};

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(std::size_t part_bytes)
      : part_bytes_(part_bytes), num_exceptions_(std::uncaught_exceptions()) {
    SPECTRACE_ASSERT(part_bytes_ > 0 && part_bytes_ % sizeof(std::int64_t) == 0);
    // Own communicators: messages never meet those of a library that uses MPI_COMM_WORLD.
    SPECTRACE_MPI(MPI_Comm_dup, MPI_COMM_WORLD, &comm_);
    SPECTRACE_MPI(MPI_Comm_set_errhandler, comm_, MPI_ERRORS_RETURN);
    SPECTRACE_MPI(MPI_Comm_rank, comm_, &rank_);
    SPECTRACE_MPI(MPI_Comm_size, comm_, &size_);
    MPI_Comm local = MPI_COMM_NULL;
    SPECTRACE_MPI(MPI_Comm_split_type, comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local);
    SPECTRACE_MPI(MPI_Comm_rank, local, &local_rank_);
    SPECTRACE_MPI(MPI_Comm_size, local, &local_size_);
    SPECTRACE_MPI(MPI_Comm_free, &local);
  }

  ~MpiCommunicator() override {
    if (!mpi::is_active()) return;
    if (std::uncaught_exceptions() > num_exceptions_) {
      // MpiScope is about to abort; until then MPI may still read these bytes.
      if (!pending_.empty()) static_cast<void>(new std::list<PendingSend>(std::move(pending_)));
      return;
    }
    drain();
    SPECTRACE_MPI(MPI_Comm_free, &comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

  void barrier() override {
    progress();
    SPECTRACE_MPI(MPI_Barrier, comm_);
  }

  void broadcast(std::string& bytes, int root) override {
    auto size_bytes = checked_cast<std::int64_t>(bytes.size());
    broadcast(std::span(&size_bytes, 1), root);
    bytes.resize(checked_cast<std::size_t>(size_bytes));
    for_each_part(std::span(bytes), [&](std::span<char> part) {
      SPECTRACE_MPI(MPI_Bcast, part.data(), checked_cast<int>(part.size()), MPI_CHAR, root, comm_);
    });
  }

  void broadcast(std::span<std::int64_t> values, int root) override {
    progress();
    for_each_part(values, [&](std::span<std::int64_t> part) {
      SPECTRACE_MPI(MPI_Bcast, part.data(), checked_cast<int>(part.size()), MPI_INT64_T, root, comm_);
    });
  }

  std::vector<std::string> all_gather(const std::string& bytes) override {
    progress();
    const auto size_bytes = checked_cast<std::int64_t>(bytes.size());
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(size_));
    SPECTRACE_MPI(MPI_Allgather, &size_bytes, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, comm_);
    const auto total = static_cast<std::size_t>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
    return total <= part_bytes_ ? gather_at_once(bytes, sizes, total) : gather_one_by_one(bytes);
  }

  void all_reduce_sum(std::span<std::int64_t> values) override { all_reduce(values, MPI_INT64_T, MPI_SUM); }
  void all_reduce_min(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, MPI_DOUBLE, MPI_MIN);
  }
  void all_reduce_max(std::span<double> values) override {
    prepare_extremes(values);
    all_reduce(values, MPI_DOUBLE, MPI_MAX);
  }

  void send(int destination, int tag, std::string bytes) override {
    progress();
    PendingSend& message = pending_.emplace_back(PendingSend{destination, tag, std::move(bytes), {}});
    // A part shorter than the full size is the last one; an exact multiple ends with an empty part.
    for (std::size_t offset = 0;; offset += part_bytes_) {
      const std::size_t size_bytes = std::min(part_bytes_, message.bytes.size() - offset);
      message.requests.push_back(MPI_REQUEST_NULL);
      SPECTRACE_MPI(MPI_Isend, message.bytes.data() + offset, checked_cast<int>(size_bytes), MPI_CHAR, destination, tag,
                    comm_, &message.requests.back());
      if (size_bytes < part_bytes_) break;
    }
  }

  std::size_t num_unsent(int destination, int tag) override {
    progress();
    return static_cast<std::size_t>(std::count_if(pending_.begin(), pending_.end(), [&](const PendingSend& message) {
      return message.destination == destination && message.tag == tag;
    }));
  }

  std::string receive(int source, int tag) override {
    progress();
    std::string bytes;
    receive_parts(source, tag, bytes);
    return bytes;
  }

  std::optional<Message> try_receive(int tag) override {
    progress();
    int is_there = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    SPECTRACE_MPI(MPI_Improbe, MPI_ANY_SOURCE, tag, comm_, &is_there, &handle, &status);
    if (is_there == 0) return std::nullopt;
    Message message{status.MPI_SOURCE, tag, {}};
    // The other parts of a long message are on their way: messages of one source and tag do not overtake each other.
    if (append_part(handle, status, message.bytes) == part_bytes_) receive_parts(message.source, tag, message.bytes);
    return message;
  }

  void abort(int exit_code) override { mpi::abort_all(exit_code); }

 private:
  template <typename T, typename Use>
  void for_each_part(std::span<T> values, const Use& use) const {
    const std::size_t part_size = part_bytes_ / sizeof(T);
    for (std::size_t begin = 0; begin < values.size(); begin += part_size)
      use(values.subspan(begin, std::min(part_size, values.size() - begin)));
  }

  template <typename T>
  void all_reduce(std::span<T> values, MPI_Datatype type, MPI_Op operation) {
    progress();
    for_each_part(values, [&](std::span<T> part) {
      SPECTRACE_MPI(MPI_Allreduce, MPI_IN_PLACE, part.data(), checked_cast<int>(part.size()), type, operation, comm_);
    });
  }

  std::vector<std::string> gather_at_once(const std::string& bytes, const std::vector<std::int64_t>& sizes,
                                          std::size_t total) {
    std::vector<int> counts, offsets;
    int offset = 0;
    for (const std::int64_t size : sizes) {
      counts.push_back(checked_cast<int>(size));
      offsets.push_back(offset);
      offset += counts.back();
    }
    std::string all(total, '\0');
    SPECTRACE_MPI(MPI_Allgatherv, bytes.data(), checked_cast<int>(bytes.size()), MPI_CHAR, all.data(), counts.data(),
                  offsets.data(), MPI_CHAR, comm_);
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < counts.size(); ++i)
      texts.push_back(all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(counts[i])));
    return texts;
  }

  std::vector<std::string> gather_one_by_one(const std::string& bytes) {
    std::vector<std::string> texts(static_cast<std::size_t>(size_));
    texts[static_cast<std::size_t>(rank_)] = bytes;
    for (int root = 0; root < size_; ++root) broadcast(texts[static_cast<std::size_t>(root)], root);
    return texts;
  }

  /// Appends a part that was probed; returns its size.
  std::size_t append_part(MPI_Message& handle, MPI_Status& status, std::string& bytes) const {
    int count = 0;
    SPECTRACE_MPI(MPI_Get_count, &status, MPI_CHAR, &count);
    const std::size_t begin = bytes.size();
    bytes.resize(begin + static_cast<std::size_t>(count));
    SPECTRACE_MPI(MPI_Mrecv, bytes.data() + begin, count, MPI_CHAR, &handle, &status);
    return static_cast<std::size_t>(count);
  }

  /// Appends parts up to the last one of a message.
  void receive_parts(int source, int tag, std::string& bytes) const {
    std::size_t part = part_bytes_;
    while (part == part_bytes_) {
      MPI_Message handle = MPI_MESSAGE_NULL;
      MPI_Status status;
      SPECTRACE_MPI(MPI_Mprobe, source, tag, comm_, &handle, &status);
      part = append_part(handle, status, bytes);
    }
  }

  /// Lets go of what has left.
  void progress() {
    pending_.remove_if([](PendingSend& message) {
      int has_left = 0;
      SPECTRACE_MPI(MPI_Testall, checked_cast<int>(message.requests.size()), message.requests.data(), &has_left,
                    MPI_STATUSES_IGNORE);
      return has_left != 0;
    });
  }

  /// Waits until everything sent was received. MPI cannot take a message back reliably (cancelling a send is deprecated
  /// and does nothing in Open MPI), so one that nobody wants is a bug that ends the run instead of hanging it.
  void drain() {
    const Stopwatch stopwatch;
    for (progress(); !pending_.empty(); progress()) {
      if (stopwatch.elapsed_s() < kDrainSeconds) continue;
      log_error("rank {}: a message of {} bytes to rank {} (tag {}) was never received. This is a bug in spectrace.",
                rank_, pending_.front().bytes.size(), pending_.front().destination, pending_.front().tag);
      mpi::abort_all(3);
    }
  }

  std::size_t part_bytes_;
  int num_exceptions_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::list<PendingSend> pending_;  // a list: addresses of the bytes must not change
};

}  // namespace

std::unique_ptr<Communicator> Communicator::world(std::size_t part_bytes) {
  if (!mpi::is_active()) return serial();
  return std::make_unique<MpiCommunicator>(part_bytes);
}

}  // namespace spectrace
