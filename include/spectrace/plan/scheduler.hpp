#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace spectrace {

/// What a rank shall do next with one model.
enum class Step {
  open,     ///< read headers, tokenize, find out what is left to do
  work,     ///< do these units in one stream over the layers
  collect,  ///< make the results file of the journalled records
};
const char* name(Step step);

struct Assignment {
  Step step = Step::open;
  std::size_t model = 0;
  std::vector<std::size_t> units;  ///< of work: ascending
};

struct OpenUnit {
  std::size_t unit = 0;
  double flops = 0;
};

/// Hands the work of a sweep out to ranks as they ask for it: guided self-scheduling (Polychronopoulos and Kuck 1987)
/// over the units of all models. Knows nothing of MPI; `plan` asks it on behalf of simulated ranks.
///
/// A rank stays with the model whose layers it has; else it opens one that nobody has opened; else it joins where most
/// is left for each rank. As long as there are models enough, a rank takes all of one: its layers are then read once.
/// Towards the end it takes half of its fair share, largest units first, so that all ranks end together.
class Scheduler {
 public:
  Scheduler(std::size_t num_models, int num_ranks);

  /// Work for a rank that has none; nothing if there is none now. @pre the rank's last assignment was reported.
  std::optional<Assignment> next(int rank);

  /// The rank's assignment is done. For open: what is left to do, and whether the file has to be made.
  void opened(int rank, std::vector<OpenUnit> units, bool needs_collecting);
  void worked(int rank);
  /// `again`: units whose records turned out to be missing; they are handed out once more.
  void collected(int rank, std::vector<OpenUnit> again = {});

  bool all_done() const;
  bool is_busy(int rank) const { return ranks_[static_cast<std::size_t>(rank)].current.has_value(); }
  /// Models that are through.
  std::size_t num_finished() const;
  /// Flops of what was found open, over all models opened so far.
  double known_flops() const { return known_flops_; }
  std::size_t num_opened() const;

 private:
  enum class State { unopened, opening, working, ready, collecting, finished };
  struct Model {
    State state = State::unopened;
    std::vector<OpenUnit> left;  // largest last
    double left_flops = 0;
    int num_ranks = 0;  // at work on it
  };
  struct Rank {
    std::optional<Assignment> current;
    std::optional<std::size_t> model;  // whose layers it had last
  };

  Assignment give(int rank, Step step, std::size_t model);
  Assignment give_share(int rank, std::size_t model);
  Assignment take_back(int rank, Step expected);
  void add_units(Model& model, std::vector<OpenUnit> units);

  std::vector<Model> models_;
  std::vector<Rank> ranks_;
  double known_flops_ = 0;
};

}  // namespace spectrace
