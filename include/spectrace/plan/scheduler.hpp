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
  /// Who does it together: consecutive ranks, each with a part of the layers (of work; else one rank).
  int first_rank = 0, num_ranks = 1;
  bool is_last = false;  ///< of work: nothing of the model is left to be handed out after it
};

struct OpenUnit {
  std::size_t unit = 0;
  double flops = 0;           ///< for progress
  double seconds = 0;         ///< of those who share the model's layers, by the cost model: what shares are measured by
  bool is_undivided = false;  ///< no part of it lies in a layer: one of a group does it
};

/// Hands the work of a sweep out to ranks as they ask for it: guided self-scheduling (Polychronopoulos and Kuck 1987)
/// over the units of all models. Knows nothing of MPI; `plan` asks it on behalf of simulated ranks.
///
/// A rank stays with the model whose layers it has; else it opens one that nobody has opened; else it joins where most
/// is left for each rank. As long as there are models enough, a rank takes all of one: its layers are then read once.
/// Towards the end it takes half of its fair share, longest units first, so that all ranks end together.
///
/// A model may ask for stages: then groups of that many consecutive ranks, the last group perhaps smaller, take a share
/// together, as soon as all of them are free and it is known what all models have to do. The model is cut into as many
/// equal shares as groups fit among its ranks: each share begins with an empty pipeline and reads the model once more.
/// Undivided units go to single ranks, where enough are left over when all models have their groups.
class Scheduler {
 public:
  Scheduler(std::size_t num_models, int num_ranks);

  /// Work for a rank that has none, and for those that do it with it; nothing if there is none now.
  /// @pre the rank's last assignment was reported.
  std::optional<Assignment> next(int rank);

  /// The rank's assignment is done. For open: what is left to do, whether the file has to be made, and how many ranks
  /// shall share the model's layers.
  void opened(int rank, std::vector<OpenUnit> units, bool needs_collecting, int stages = 1);
  void worked(int rank);  // each of those that did it
  /// The same where the rank could not open the model: nothing more of it is handed out, and it is not collected.
  void gave_up(int rank);
  /// `again`: units whose records turned out to be missing; they are handed out once more.
  void collected(int rank, std::vector<OpenUnit> again = {});

  bool all_done() const;
  /// Whether there is anything to hand out, to whomever.
  bool has_work() const;
  bool is_busy(int rank) const { return ranks_[static_cast<std::size_t>(rank)].current.has_value(); }
  /// Models that are through.
  std::size_t num_finished() const;
  /// Flops of what was found open, over all models opened so far.
  double known_flops() const { return known_flops_; }
  std::size_t num_opened() const { return models_.size() - num_unknown_; }

 private:
  enum class State { unopened, opening, working, ready, collecting, finished };
  struct Model {
    State state = State::unopened;
    std::vector<OpenUnit> left;  // longest last
    double left_s = 0;
    std::vector<OpenUnit> undivided;  // that no group takes
    int num_ranks = 0;                // at work on it
    int stages = 1;
    bool is_given_up = false;
  };
  static bool has_left(const Model& model) { return !(model.left.empty() && model.undivided.empty()); }
  struct Group {
    int first = 0, count = 1;
  };
  struct Rank {
    std::optional<Assignment> current;
    std::optional<std::size_t> model;  // whose layers it had last
  };

  Group group_of(int rank, const Model& model) const;
  /// Whether models are fewer than ranks, so that these have to share them.
  bool are_shared() const;
  /// Groups of so many ranks that each of the models gets, all alike: whole ones, as a piece of a share would cost a
  /// whole pipeline's filling and a whole model's reading.
  static double groups_of_each(std::size_t num_ranks, std::size_t num_models, int stages);
  /// Takes the undivided units out of what groups share, if ranks without a group can do them in the same time.
  void set_undivided_apart(Model& model);
  /// Whether the rank and those of its group are free, and there is something to do.
  bool can_share(int rank, const Model& model) const;
  /// To all who do it together.
  Assignment hand_out(Assignment assignment);
  Assignment give(int rank, Step step, std::size_t model);
  Assignment give_share(int rank, std::size_t model);
  Assignment give_undivided(int rank, std::size_t model);
  Assignment take_back(int rank, Step expected);
  void add_units(Model& model, std::vector<OpenUnit> units);

  std::vector<Model> models_;
  std::vector<Rank> ranks_;
  std::size_t num_unknown_;  // models that nobody has opened yet
  double known_flops_ = 0;
};

}  // namespace spectrace
