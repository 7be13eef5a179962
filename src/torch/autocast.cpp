// Mixed precision with a number kind of one's choice, on any device; tch has half precision on a GPU alone.

#include "shim.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

extern "C" {

// Begins (`on`) or ends mixed precision on this thread, in bfloat16 (`brain`) or half precision, for tensors on a GPU (`cuda`) or on the
// processor.
char* wsi_autocast(int cuda, int brain, int on) {
  return wsi::guarded([&] {
    const auto device = cuda ? at::kCUDA : at::kCPU;
    if (on) {
      at::autocast::set_autocast_dtype(device, brain ? at::kBFloat16 : at::kHalf);
      at::autocast::set_autocast_enabled(device, true);
      at::autocast::increment_nesting();
    } else {
      at::autocast::set_autocast_enabled(device, false);
      if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    }
  });
}

int wsi_autocast_is_on(int cuda) { return at::autocast::is_autocast_enabled(cuda ? at::kCUDA : at::kCPU); }

// Convolutions on a GPU in f32 as they are asked for, not in TF32, which keeps ten bits.
char* wsi_exact_single() {
  return wsi::guarded([] { at::globalContext().setAllowTF32CuDNN(false); });
}
}
