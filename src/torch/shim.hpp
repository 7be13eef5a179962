// What every C++ file here shares: tensors cross as pointers to `at::Tensor`, and no exception leaves.
//
// ATen's core headers alone: `torch/torch.h` would cost every clean build half a minute.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

namespace wsi {

// Runs `work`. What it throws comes back as a text for the caller to free; null says that nothing was thrown.
template <typename Work>
char* guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

} // namespace wsi
