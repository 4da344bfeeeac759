#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "spectrace/sweep/messages.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What does a rank's orders, beside the thread that speaks MPI.
class Compute {
 public:
  virtual ~Compute() = default;
  /// @pre it is idle.
  virtual void give(Order order) = 0;
  virtual bool is_idle() const = 0;
  /// What came of the last order, once: Reported or Failed, without flops.
  virtual std::optional<to_root::Message> take_report() = 0;
};

/// What the work came to, as root hears it: its report, or the error that ends the run.
to_root::Message result_of(const std::function<Report()>& work);

/// The thread that computes, with a Worker and the threads that help it. Everything it uses is kept alive by its own
/// share of it.
class ComputeThread final : public Compute {
 public:
  /// @throws InputError if it cannot begin: (usage) where the system does not give it the context's number of threads.
  explicit ComputeThread(std::shared_ptr<RunContext> context);
  /// @pre it is idle, or abandoned.
  ~ComputeThread() override;
  ComputeThread(const ComputeThread&) = delete;
  ComputeThread& operator=(const ComputeThread&) = delete;

  void give(Order order) override;
  bool is_idle() const override;
  std::optional<to_root::Message> take_report() override;

 private:
  struct Shared;
  static void serve(RunContext& context, Shared& shared);
  void push(std::optional<Order> order);

  std::shared_ptr<Shared> shared_;
};

}  // namespace spectrace
