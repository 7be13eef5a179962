// Programs of `torch.export.save`, run by libtorch's own executor: no Python, no compiler.

#include "shim.hpp"

#include <torch/csrc/api/include/torch/nativert/ModelRunnerHandle.h>

using torch::nativert::ModelRunnerHandle;

extern "C" {

char* wsi_program_load(const char* path, ModelRunnerHandle** program) {
  return wsi::guarded([&] { *program = new ModelRunnerHandle(path, "model"); });
}

// One tensor in, one tensor out. Several threads may call it at once.
char* wsi_program_run(ModelRunnerHandle* program, const at::Tensor* input, at::Tensor** output) {
  return wsi::guarded([&] {
    auto outputs = program->runWithFlatInputsAndOutputs({*input});
    TORCH_CHECK(outputs.size() == 1 && outputs[0].isTensor(), "it gives ", outputs.size(), " values instead of one tensor");
    *output = new at::Tensor(outputs[0].toTensor());
  });
}

void wsi_program_free(ModelRunnerHandle* program) { delete program; }
}
