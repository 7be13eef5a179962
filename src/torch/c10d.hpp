// A group of processes with Gloo's collectives, as the C++ files here share it.
#pragma once

#define USE_C10D_GLOO

#include "shim.hpp"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/custom_class.h>

#include <mutex>
#include <string>
#include <vector>

namespace wsi {

// libtorch's recorder of collectives, one for the whole process, notes a group that is new to it without a lock.
inline std::mutex queueing;

struct Group : torch::CustomClassHolder {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;

  // What went wrong where there is no way to say it: within a backward pass. Every later collective says it instead of being one.
  std::mutex lock;
  std::string fault;

  void note(const char* what) {
    const std::lock_guard guard(lock);
    if (fault.empty()) fault = what;
  }

  void check() {
    const std::lock_guard guard(lock);
    TORCH_CHECK(fault.empty(), fault);
  }

  // `own […]` of every rank goes to `all`, one tensor a rank.
  c10::intrusive_ptr<c10d::Work> gather(std::vector<at::Tensor> all, const at::Tensor& own) {
    check();
    std::vector<std::vector<at::Tensor>> outputs{std::move(all)};
    std::vector<at::Tensor> inputs{own};
    const std::lock_guard guard(queueing);
    return gloo->allgather(outputs, inputs);
  }

  // `own` becomes the sum of those of all ranks.
  c10::intrusive_ptr<c10d::Work> sum(const at::Tensor& own) {
    check();
    std::vector<at::Tensor> one{own};
    const std::lock_guard guard(queueing);
    return gloo->allreduce(one);
  }
};

} // namespace wsi
