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
};

} // namespace wsi
