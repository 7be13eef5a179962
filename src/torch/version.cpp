// Which libtorch this is, and which of its kernels this processor runs.

#include "shim.hpp"

#include <ATen/Version.h>
#include <torch/version.h>

extern "C" {

// The version of the headers, which is that of the library.
const char* wsi_torch_version() { return TORCH_VERSION; }

// A text from `malloc`.
char* wsi_torch_kernels(char** name) {
  return wsi::guarded([&] { *name = strdup(at::get_cpu_capability().c_str()); });
}
}
