// A GPU's memory: batches on their way to it, and what was taken of it at most.

#include "shim.hpp"

#include <c10/core/CachingDeviceAllocator.h>

extern "C" {

// A copy of a tensor of the processor in memory that does not move, which a GPU can read by itself.
char* wsi_pin(const at::Tensor* tensor, at::Tensor** pinned) {
  return wsi::guarded([&] { *pinned = new at::Tensor(tensor->pin_memory()); });
}

// Most bytes that tensors ever took on a GPU; 0 where none was used.
char* wsi_gpu_peak(int index, int64_t* bytes) {
  return wsi::guarded([&] {
    auto* allocator = c10::getDeviceAllocator(at::kCUDA);
    const auto whole = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = allocator->initialized() ? allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index)).allocated_bytes[whole].peak : 0;
  });
}
}
