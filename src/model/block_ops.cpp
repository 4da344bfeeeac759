#include "block_ops.hpp"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/linear_map.hpp"

namespace spectrace {

void for_row_chunks(const Device& device, std::int64_t num_rows, std::int64_t most,
                    const std::function<void(std::int64_t, std::int64_t)>& part) {
  const std::int64_t num_chunks = (num_rows + most - 1) / most;
  device.for_tasks(num_chunks, [&](std::int64_t chunk) {
    const c10::InferenceMode no_autograd;
    const std::int64_t first = chunk * most;
    part(first, std::min(most, num_rows - first));
  });
}

void for_tasks_of_batches(const Device& device, std::int64_t num_tasks,
                          const std::function<BlockBatch&(std::int64_t)>& batch_of,
                          const std::function<void(std::int64_t)>& task) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(num_tasks));
  device.for_tasks(num_tasks, [&](std::int64_t i) {
    const c10::InferenceMode no_autograd;
    if (batch_of(i).error) return;
    try {
      task(i);
    } catch (...) {
      errors[static_cast<std::size_t>(i)] = std::current_exception();
    }
  });
  for (std::int64_t i = 0; i < num_tasks; ++i)
    if (auto& error = errors[static_cast<std::size_t>(i)]; error && !batch_of(i).error) batch_of(i).error = error;
}

Tensor apply_linear(const Linear& by, const Tensor& x) { return linear_map(x, by.weight, by.bias); }

Tensor apply_norm(const NormSpec& spec, const Norm& norm, const Tensor& x) {
  const std::int64_t size = x.size(-1);
  Tensor result;
  if (spec.kind == NormKind::layer_norm) {
    const bool is_whole = norm.weight && norm.weight->dim() == 1;
    const auto affine = [&](const std::optional<Tensor>& part) { return is_whole ? part : std::nullopt; };
    const auto weight = spec.weight_offset == 0.0 || !is_whole ? norm.weight : *norm.weight + spec.weight_offset;
    auto [normed, mean, inverse] = at::native_layer_norm(x, {size}, affine(weight), affine(norm.bias), spec.epsilon);
    result = std::move(normed);
    // A variance that overflows would end as plausible numbers. Asking whether one did would stop another device's
    // stream.
    if (const Tensor lost = inverse == 0; !Device::of(x).is_host() || lost.any().item<bool>())
      result.masked_fill_(lost, kNaN);
    if (is_whole) return result;
  } else {
    // One number a row: 1 / sqrt(mean(x^2) + epsilon).
    const Tensor root = at::linalg_vector_norm(x, 2, at::IntArrayRef({-1}), /*keepdim=*/true);
    Tensor scale = at::rsqrt_(root.square_().div_(size).add_(spec.epsilon));
    // Where the squares overflow it is 0, and would end as plausible numbers.
    result = x * scale.masked_fill_(scale == 0, kNaN);
  }
  if (norm.weight) result.mul_(spec.weight_offset == 0.0 ? *norm.weight : *norm.weight + spec.weight_offset);
  if (norm.bias) result.add_(*norm.bias);
  return result;
}

namespace {

void apply_xielu(const Xielu& numbers, Tensor& x) {
  const Tensor linear = x * numbers.beta;
  const Tensor above = x.square().mul_(at::softplus(numbers.alpha_p));
  const Tensor below = at::expm1(at::minimum(x, numbers.eps)).sub_(x);
  below.mul_(at::softplus(numbers.alpha_n).add_(numbers.beta));
  x = at::where(x > 0, above, below).add_(linear);
}

}  // namespace

void activate(Activation activation, const std::optional<Xielu>& xielu, Tensor& x) {
  switch (activation) {
    case Activation::relu: at::relu_(x); break;
    case Activation::relu_squared: at::relu_(x).square_(); break;
    case Activation::gelu: at::gelu_(x); break;
    case Activation::gelu_tanh: at::gelu_(x, "tanh"); break;
    case Activation::gelu_tanh_short: {
      const Tensor inner = x.square().mul_(0.044715).add_(1).mul_(x).mul_(0.79788456);
      x.mul_(inner.tanh_().add_(1).mul_(0.5));
      break;
    }
    case Activation::gelu_sigmoid: x.mul_((x * 1.702).sigmoid_()); break;
    case Activation::silu: at::silu_(x); break;
    case Activation::xielu:
      SPECTRACE_ASSERT(xielu.has_value());
      apply_xielu(*xielu, x);
      break;
  }
}

namespace {

/// Calls part(first row, number of rows) for each prompt of the batch.
void for_prompts(const TokenBatch& batch, const std::function<void(std::int64_t, std::int64_t)>& part) {
  for (std::size_t prompt = 0; prompt + 1 < batch.row_start.size(); ++prompt)
    part(batch.row_start[prompt], batch.row_start[prompt + 1] - batch.row_start[prompt]);
}

void add_rotary(const RotarySpec& rotary, const TokenBatch& batch, ComputeType type, const Device& device,
                PositionTables& tables) {
  const Tensor angles = at::empty({batch.num_tokens(), rotary.rotary_dim / 2}, device.options(at::kFloat));
  for_prompts(batch, [&](std::int64_t first, std::int64_t count) {
    const Tensor frequencies = device.bring(at::tensor(inverse_frequencies(rotary, count), at::kFloat));
    Tensor part = angles.narrow(0, first, count);
    at::mul_out(part, at::arange(count, device.options(at::kFloat)).unsqueeze(1), frequencies);
  });
  const auto table = [&](const Tensor& values) {
    return (values * rotary.attention_factor).to(scalar_type(type)).unsqueeze(1);
  };
  tables.cos = table(angles.cos());
  tables.sin = table(angles.sin());
}

/// In float32, as the model was trained.
void add_query_growth(const QueryGrowth& growth, const TokenBatch& batch, ComputeType type, const Device& device,
                      PositionTables& tables) {
  std::int64_t longest = 0;
  for_prompts(batch, [&](std::int64_t, std::int64_t count) { longest = std::max(longest, count); });
  if (longest <= growth.positions) return;
  const Tensor factors = at::empty({batch.num_tokens()}, device.options(at::kFloat));
  for_prompts(batch, [&](std::int64_t first, std::int64_t count) {
    const Tensor spans = at::floor(at::arange(count, device.options(at::kLong)) / growth.positions);
    factors.narrow(0, first, count).copy_((spans + 1).log_().mul_(growth.beta).add_(1));
  });
  tables.query_growth = factors.to(scalar_type(type)).view({-1, 1, 1});
}

}  // namespace

PositionTables make_position_tables(const AttentionSpec& spec, const TokenBatch& batch, ComputeType type,
                                    const Device& device) {
  const c10::InferenceMode no_autograd;
  PositionTables tables;
  if (spec.rotary) add_rotary(*spec.rotary, batch, type, device, tables);
  if (spec.query_growth) add_query_growth(*spec.query_growth, batch, type, device, tables);
  return tables;
}

void apply_rotary(const RotarySpec& rotary, const PositionTables& tables, std::int64_t first_row, Tensor heads) {
  const std::int64_t half = rotary.rotary_dim / 2;
  if (half == 0) return;
  const Tensor cos = tables.cos.narrow(0, first_row, heads.size(0));
  const Tensor sin = tables.sin.narrow(0, first_row, heads.size(0));
  const Tensor turned = heads.narrow(2, 0, rotary.rotary_dim);
  Tensor x = rotary.interleaved ? turned.slice(2, 0, std::nullopt, 2) : turned.narrow(2, 0, half);
  Tensor y = rotary.interleaved ? turned.slice(2, 1, std::nullopt, 2) : turned.narrow(2, half, half);
  if (rotary.reversed) std::swap(x, y);
  const Tensor x_sin = x * sin;
  x.mul_(cos).addcmul_(y, sin, -1);
  y.mul_(cos).add_(x_sin);
}

}  // namespace spectrace
