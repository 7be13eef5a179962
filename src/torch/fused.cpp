// Optimiser steps over all parameters in one call, and what else is asked of many tensors at once: on a GPU one kernel instead of one for
// each tensor and operation, on a processor one pass over memory.

#include "shim.hpp"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/stack.h>

#include <vector>

namespace {

std::vector<at::Tensor> list(const at::Tensor* const* tensors, int64_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (int64_t index = 0; index < count; ++index) all.push_back(*tensors[index]);
  return all;
}

std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> all;
  all.reserve(parameters.size());
  for (const auto& parameter : parameters) all.push_back(parameter.grad());
  return all;
}

} // namespace

extern "C" {

// Parameters with a gradient, and as many velocities.
char* wsi_fused_sgd(
    const at::Tensor* const* parameters, const at::Tensor* const* velocities, int64_t count, double rate, double momentum, double decay) {
  return wsi::guarded([&] {
    if (count == 0) return;
    const auto weights = list(parameters, count);
    // Without momentum a GPU's kernel wants no velocities.
    const auto moving = momentum == 0.0 ? std::vector<at::Tensor>{} : list(velocities, count);
    at::_fused_sgd_(weights, gradients(weights), moving, decay, momentum, rate, 0.0, false, false, false);
  });
}

// Parameters with a gradient, as many first and second moments and numbers of steps done (f32, on their device), each of which grows by one.
char* wsi_fused_adamw(
    const at::Tensor* const* parameters,
    const at::Tensor* const* first,
    const at::Tensor* const* second,
    const at::Tensor* const* steps,
    int64_t count,
    double rate,
    double beta1,
    double beta2,
    double decay,
    double epsilon) {
  return wsi::guarded([&] {
    const auto weights = list(parameters, count);
    const auto done = list(steps, count);
    if (count == 0) return;
    at::_foreach_add_(done, 1);
    at::_fused_adamw_(
        weights, gradients(weights), list(first, count), list(second, count), {}, done, rate, beta1, beta2, decay, epsilon, false, false);
  });
}

// The L2 norms of at least one tensor, `[count]`.
char* wsi_norms(const at::Tensor* const* tensors, int64_t count, at::Tensor** norms) {
  return wsi::guarded([&] { *norms = new at::Tensor(at::stack(at::_foreach_norm(list(tensors, count), 2))); });
}

// Leaves the tensors without a gradient.
char* wsi_forget_gradients(const at::Tensor* const* tensors, int64_t count) {
  return wsi::guarded([&] {
    for (int64_t index = 0; index < count; ++index) tensors[index]->mutable_grad().reset();
  });
}
}
