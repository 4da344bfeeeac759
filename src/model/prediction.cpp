#include "spectrace/model/prediction.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "block_ops.hpp"
#include "device_copies.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/numerics/linear_map.hpp"
#include "spectrace/numerics/next_token.hpp"
#include "weight_reader.hpp"

namespace spectrace {
namespace {

/// How the unembedding is cut, by the kind of device alone.
struct Cut {
  std::int64_t tile;         ///< tokens of one product
  std::int64_t block_tiles;  ///< tiles that are read at a time
  std::int64_t rows;         ///< vectors of one product
};
Cut cut_of(const Device& device) {
  if (!device.is_host()) return {8192, 1, 4096};
  // A product's scores stay in the second-level cache while their sums are taken; a block is enough for many threads.
  return {512, 16, 256};
}

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// From vectors after the final norm to scores.
class Head {
 public:
  Head(const ModelDescription& model, const TensorStore& store, ComputeType type, const Device& device)
      : sources_(model.embedding),
        store_(store),
        info_(*store.find(sources_.unembedding.tensor)),
        type_(type),
        device_(device),
        cut_(cut_of(device)) {
    WeightReader reader(store, type);
    DeviceCopies copies(device, type);
    if (sources_.project_out) project_ = copies.of(reader.read(*sources_.project_out));
    if (sources_.unembedding_bias) bias_ = copies.of(reader.read(*sources_.unembedding_bias));
    const std::int64_t segment = segment_rows(info_), wanted = cut_.tile * cut_.block_tiles;
    block_rows_ = std::min(num_tokens(), (wanted + segment - 1) / segment * segment);
  }

  std::int64_t num_tokens() const { return info_.shape[0]; }
  const Cut& cut() const { return cut_; }
  const Device& device() const { return device_; }

  /// Of vectors after the final norm, what W_U multiplies. [rows, width of W_U]
  Tensor input(const Tensor& normed) const { return project_ ? apply_linear(*project_, normed) : normed; }

  /// Scores of the tokens whose rows of W_U these are, of which the first is `first`. [rows of x, tokens]
  Tensor scores(const Tensor& x, const Tensor& of_tokens, std::int64_t first) const {
    std::optional<Tensor> bias;
    if (bias_) bias = bias_->narrow(0, first, of_tokens.size(0));
    return finished(linear_map(x, of_tokens, bias));
  }
  /// Of each vector the score of one token. [rows of x] float64
  Tensor scores_of(const Tensor& x, const Tensor& of_tokens, const std::vector<std::int64_t>& tokens) const {
    Tensor scores = x.mul(of_tokens).sum(1);
    if (bias_) scores = scores + bias_->index_select(0, device_.bring(at::tensor(tokens, at::kLong)));
    return finished(scores).to(at::kDouble);
  }

  /// Calls use(first token, rows of W_U on the device) for each block.
  template <typename Use>
  bool for_blocks(const Use& use) const {
    const Tensor buffer = at::empty({block_rows_, info_.shape[1]}, scalar_type(type_));
    for (std::int64_t first = 0; first < num_tokens(); first += block_rows_) {
      const Tensor block = buffer.narrow(0, 0, std::min(block_rows_, num_tokens() - first));
      store_.read_rows(info_, first, block);
      const Tensor here = device_.bring(block);
      if (!device_.is_host()) device_.wait();  // the buffer is read into again
      if (!use(first, here)) return false;
    }
    return true;
  }

  /// The rows of W_U of some tokens. @throws InputError if one is not finite.
  Tensor rows(const std::vector<std::int64_t>& tokens) const {
    std::map<std::int64_t, std::string> bad;
    const Tensor found = store_.gather_rows(info_, tokens, type_, bad);
    if (!bad.empty()) throw InputError(ErrorKind::model, bad.begin()->second);
    return device_.bring(found);
  }

 private:
  Tensor finished(Tensor scores) const {
    const LogitSpec& spec = sources_.logits;
    if (spec.scale != 1.0) scores.mul_(spec.scale);
    if (spec.softcap) scores.div_(*spec.softcap).tanh_().mul_(*spec.softcap);
    return scores;
  }

  const EmbeddingSources& sources_;
  const TensorStore& store_;
  const TensorInfo& info_;
  const ComputeType type_;
  const Device device_;
  const Cut cut_;
  std::optional<Linear> project_;
  std::optional<Tensor> bias_;
  std::int64_t block_rows_ = 0;
};

/// Some vectors of a batch that go together: rows of its tokens, or whole prompts.
struct Piece {
  std::size_t batch;
  std::int64_t first, count;
};

/// Does part(piece, tile, first token of the tile) for all pieces and the tiles of a block as the device's tasks; what
/// they find of each of a piece's vectors or prompts is added to its place in `sums` of its batch, in the order of
/// tiles.
template <typename Sums, typename Part>
void add_tiles(const Head& head, const std::vector<Piece>& pieces, const Tensor& block, std::int64_t first_token,
               const Part& part, std::vector<std::vector<Sums>>& sums) {
  const std::int64_t tile = head.cut().tile, num_tiles = (block.size(0) + tile - 1) / tile;
  std::vector<std::vector<Sums>> found(pieces.size() * at(num_tiles));
  head.device().for_tasks(std::ssize(found), [&](std::int64_t task) {
    const c10::InferenceMode no_autograd;
    const std::int64_t first = task % num_tiles * tile;
    found[at(task)] = part(pieces[at(task / num_tiles)], block.narrow(0, first, std::min(tile, block.size(0) - first)),
                           first_token + first);
  });
  for (std::size_t task = 0; task < found.size(); ++task) {
    const Piece& piece = pieces[task / at(num_tiles)];
    for (std::int64_t i = 0; i < piece.count; ++i) sums[piece.batch][at(piece.first + i)].add(found[task][at(i)]);
  }
}

/// The first pass: every token's distribution over the next one.
class TokenPass {
 public:
  TokenPass(const Head& head, std::span<PredictionBatch> batches) : head_(head), batches_(batches) {
    for (std::size_t b = 0; b < batches.size(); ++b) {
      const TokenBatch& tokens = *batches[b].tokens;
      inputs_.push_back(head.input(batches[b].normed));
      sums_.emplace_back(at(tokens.num_tokens()));
      next_scores_.emplace_back(at(tokens.num_tokens()), kNaN);
      next_.emplace_back(tokens.token_ids.begin() + 1, tokens.token_ids.end());
      next_.back().push_back(-1);
      for (const std::int64_t end : std::span(tokens.row_start).subspan(1)) next_.back()[at(end - 1)] = -1;
      for (std::int64_t first = 0; first < tokens.num_tokens(); first += head.cut().rows)
        pieces_.push_back({b, first, std::min(head.cut().rows, tokens.num_tokens() - first)});
    }
  }

  void see(std::int64_t first_token, const Tensor& block) {
    add_tiles(
        head_, pieces_, block, first_token,
        [&](const Piece& piece, const Tensor& tile, std::int64_t first) { return sums_of(piece, tile, first); }, sums_);
  }

  void finish() const {
    for (std::size_t b = 0; b < batches_.size(); ++b) {
      Predictions& found = batches_[b].found;
      for (std::size_t row = 0; row < sums_[b].size(); ++row) {
        const ScoreSums& sums = sums_[b][row];
        found.next_token_nll.push_back(sums.log_sum_exp() - next_scores_[b][row]);
        found.entropy.push_back(sums.entropy());
        found.most_probable.push_back(sums.most_probable);
      }
    }
  }

 private:
  std::vector<ScoreSums> sums_of(const Piece& piece, const Tensor& tile, std::int64_t first) {
    const Tensor scores = head_.scores(inputs_[piece.batch].narrow(0, piece.first, piece.count), tile, first);
    std::vector<std::int64_t> rows, places;  // where the token lies that follows
    for (std::int64_t row = 0; row < piece.count; ++row) {
      const std::int64_t place = next_[piece.batch][at(piece.first + row)] - first;
      if (place < 0 || place >= tile.size(0)) continue;
      rows.push_back(row);
      places.push_back(place);
    }
    if (!rows.empty()) {
      const auto on_device = [&](const std::vector<std::int64_t>& numbers) {
        return head_.device().bring(at::tensor(numbers, at::kLong));
      };
      const Tensor picked = Device::to_host(
          scores.index_select(0, on_device(rows)).gather(1, on_device(places).unsqueeze(1)).to(at::kDouble));
      for (std::size_t i = 0; i < rows.size(); ++i)  // each by the one task whose tile has it
        next_scores_[piece.batch][at(piece.first + rows[i])] = picked.const_data_ptr<double>()[i];
    }
    return score_sums(scores, first);
  }

  const Head& head_;
  const std::span<PredictionBatch> batches_;
  std::vector<Piece> pieces_;
  // Of each batch: what W_U multiplies, sums, the next tokens (-1: none), and their scores.
  std::vector<Tensor> inputs_;
  std::vector<std::vector<ScoreSums>> sums_;
  std::vector<std::vector<std::int64_t>> next_;
  std::vector<std::vector<double>> next_scores_;
};

/// The second pass: the last tokens at all boundaries, beside what is known to come out in the end.
class LensPass {
 public:
  LensPass(const ModelDescription& model, const TensorStore& store, const Head& head,
           std::span<PredictionBatch> batches)
      : head_(head), batches_(batches) {
    for (std::size_t b = 0; b < batches.size(); ++b) {
      const TokenBatch& tokens = *batches[b].tokens;
      const Tensor& last = batches[b].last_tokens;
      num_boundaries_ = last.size(1);
      inputs_.push_back(head.input(apply_final_norm(model, store, last.flatten(0, 1))));
      std::vector<std::int64_t> of_prompts, of_rows;
      for (const std::int64_t end : std::span(tokens.row_start).subspan(1))
        of_prompts.push_back(batches[b].found.most_probable[at(end - 1)]);
      for (const std::int64_t token : of_prompts) of_rows.insert(of_rows.end(), at(num_boundaries_), token);
      const Tensor of_tokens =
          head.rows(of_prompts).unsqueeze(1).expand({-1, num_boundaries_, -1}).reshape({inputs_.back().size(0), -1});
      reference_scores_.push_back(head.scores_of(inputs_.back(), of_tokens, of_rows));
      references_.push_back(std::move(of_prompts));
      sums_.emplace_back(at(tokens.num_prompts()));
      const std::int64_t together = std::max<std::int64_t>(1, head.cut().rows / num_boundaries_);
      for (std::int64_t first = 0; first < tokens.num_prompts(); first += together)
        pieces_.push_back({b, first, std::min(together, tokens.num_prompts() - first)});
    }
  }

  void see(std::int64_t first_token, const Tensor& block) {
    add_tiles(
        head_, pieces_, block, first_token,
        [&](const Piece& piece, const Tensor& tile, std::int64_t first) { return sums_of(piece, tile, first); }, sums_);
  }

  void finish() const {
    for (std::size_t b = 0; b < batches_.size(); ++b) {
      Predictions& found = batches_[b].found;
      for (const LensSums& sums : sums_[b])
        for (std::size_t boundary = 0; boundary < sums.sums.size(); ++boundary) {
          const bool is_last = boundary + 1 == sums.sums.size();
          found.lens_kl.push_back(is_last ? 0.0 : sums.divergence(boundary));
          found.lens_entropy.push_back(sums.sums[boundary].entropy());
          // By definition: two products of the same numbers may be rounded apart.
          found.lens_rank.push_back(is_last ? 0.0 : sums.num_more_likely[boundary]);
        }
    }
  }

 private:
  std::vector<LensSums> sums_of(const Piece& piece, const Tensor& tile, std::int64_t first) const {
    const auto rows_of = [&](const Tensor& all, std::int64_t prompt, std::int64_t count) {
      return all.narrow(0, prompt * num_boundaries_, count * num_boundaries_);
    };
    const Tensor scores = head_.scores(rows_of(inputs_[piece.batch], piece.first, piece.count), tile, first);
    std::vector<LensSums> sums;
    for (std::int64_t i = 0; i < piece.count; ++i) {
      const std::int64_t prompt = piece.first + i;
      sums.push_back(lens_sums(rows_of(scores, i, 1), first, references_[piece.batch][at(prompt)],
                               rows_of(reference_scores_[piece.batch], prompt, 1)));
    }
    return sums;
  }

  const Head& head_;
  const std::span<PredictionBatch> batches_;
  std::int64_t num_boundaries_ = 0;
  std::vector<Piece> pieces_;
  // Of each batch: what W_U multiplies [prompts, boundaries], the tokens that are most probable in the end, their
  // scores at all boundaries, and sums.
  std::vector<Tensor> inputs_;
  std::vector<std::vector<std::int64_t>> references_;
  std::vector<Tensor> reference_scores_;
  std::vector<std::vector<LensSums>> sums_;
};

std::int64_t num_rows(const ModelDescription& model, std::int64_t num_tokens, std::int64_t num_prompts) {
  return num_tokens + num_prompts * (model.num_layers + 1);
}

}  // namespace

bool predict(const ModelDescription& model, const TensorStore& store, std::span<PredictionBatch> batches,
             const std::function<bool(double share)>& go_on) {
  const c10::InferenceMode no_autograd;
  if (batches.empty()) return true;
  const Tensor& any = batches.front().normed;
  const ComputeType type = any.scalar_type() == at::kDouble ? ComputeType::float64 : ComputeType::float32;
  const Head head(model, store, type, Device::of(any));
  std::int64_t num_tokens = 0, num_prompts = 0;
  for (const PredictionBatch& batch : batches) {
    num_tokens += batch.tokens->num_tokens();
    num_prompts += batch.tokens->num_prompts();
  }
  const auto all = static_cast<double>(num_rows(model, num_tokens, num_prompts));
  const auto pass = [&](auto& sums, double share) {
    return head.for_blocks([&](std::int64_t first, const Tensor& block) {
      sums.see(first, block);
      return go_on(share * static_cast<double>(block.size(0)) / static_cast<double>(head.num_tokens()));
    });
  };
  TokenPass of_tokens(head, batches);
  if (!pass(of_tokens, static_cast<double>(num_tokens) / all)) return false;
  of_tokens.finish();
  LensPass lens(model, store, head, batches);
  if (!pass(lens, 1 - static_cast<double>(num_tokens) / all)) return false;
  lens.finish();
  return true;
}

double prediction_flops(const ModelDescription& model, std::int64_t num_tokens) {
  const auto shape = model.embedding.unembedding.canonical_shape();
  constexpr double kOfScore = 40;  // its exponential, and sums
  return static_cast<double>(num_rows(model, num_tokens, 1)) * static_cast<double>(shape[0]) *
         (2 * static_cast<double>(shape[1]) + kOfScore);
}

std::int64_t prediction_bytes(const ModelDescription& model, std::int64_t num_tokens, std::int64_t num_prompts,
                              ComputeType type, const Device& device) {
  const auto shape = model.embedding.unembedding.canonical_shape();
  const Cut cut = cut_of(device);
  const std::int64_t element = element_size_bytes(type), tasks = device.is_host() ? num_threads() : 1;
  const std::int64_t block = std::min(shape[0], cut.tile * cut.block_tiles + (std::int64_t{1} << 20) / shape[1]);
  const std::int64_t scores = std::max(cut.rows, model.num_layers + 1) * cut.tile;
  return block * shape[1] * element + tasks * (scores * element + next_token_bytes(scores)) +
         num_rows(model, num_tokens, num_prompts) *
             (2 * std::max(shape[1], model.hidden_size) * element + 64 * (1 + cut.block_tiles));
}

std::set<std::string> tensors_of_prediction(const ModelDescription& model) {
  std::set<std::string> names = {model.embedding.unembedding.tensor};
  if (const auto& project = model.embedding.project_out) {
    names.insert(project->weight.tensor);
    if (project->bias) names.insert(project->bias->tensor);
  }
  if (const auto& bias = model.embedding.unembedding_bias) names.insert(bias->tensor);
  return names;
}

}  // namespace spectrace
