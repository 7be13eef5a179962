// oneDNN's matrix products with what follows them in the same pass. libtorch's own linear layer is MKL's, which knows the newest vector
// instructions on Intel's processors only.

#include "shim.hpp"

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;

} // namespace

extern "C" {

// The weight `[outputs, inputs]` in the order that oneDNN likes best for so many rows: a tensor for the function below and nothing else.
char* wsi_linear_pack(const at::Tensor* weight, int64_t rows, at::Tensor** packed) {
  return wsi::guarded([&] {
    using Signature = at::Tensor(const at::Tensor&, std::optional<int64_t>);
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Signature>();
    *packed = new at::Tensor(op.call(*weight, rows));
  });
}

// `bias` may be null. `gelu`: with the error function.
char* wsi_linear(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, int gelu, at::Tensor** out) {
  return wsi::guarded([&] {
    using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view, Scalars,
                                 std::optional<std::string_view>);
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
    const auto with_bias = bias ? std::optional<at::Tensor>(*bias) : std::nullopt;
    *out = new at::Tensor(op.call(*x, *weight, with_bias, gelu ? "gelu" : "none", Scalars(), "none"));
  });
}
}
