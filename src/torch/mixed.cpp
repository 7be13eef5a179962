// Whether layers compute in another kind than their input's.

#include "shim.hpp"

#include <ATen/autocast_mode.h>

extern "C" {

// 1 for bfloat16 and 2 for half precision inside mixed precision on the processor, 0 outside.
int wsi_mixed() {
  if (!at::autocast::is_autocast_enabled(at::kCPU)) return 0;
  return at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16 ? 1 : 2;
}
}
