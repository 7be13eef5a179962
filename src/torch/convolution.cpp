// oneDNN's convolutions with what follows them in the same pass, and with weights laid out once: libtorch registers them for its own
// compiler and offers them through the dispatcher alone.

#include "shim.hpp"

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;

at::Tensor convolve(const at::Tensor& images, const at::Tensor& kernel, const at::Tensor& bias, const int64_t* padding, int64_t stride,
                    int64_t groups, std::string_view follows, Scalars scalars) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, at::IntArrayRef, at::IntArrayRef,
                               at::IntArrayRef, int64_t, std::string_view, Scalars, std::optional<std::string_view>);
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_convolution_pointwise", "").typed<Signature>();
  const int64_t strides[] = {stride, stride}, dilation[] = {1, 1};
  return op.call(images, kernel, bias, {padding, 2}, strides, dilation, groups, follows, std::move(scalars), std::nullopt);
}

void add_convolved(at::Tensor& sum, const at::Tensor& images, const at::Tensor& kernel, const at::Tensor& bias, const int64_t* padding,
                   int64_t stride, int64_t groups, std::optional<std::string_view> follows) {
  using Signature = at::Tensor&(at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, at::IntArrayRef,
                                at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view, std::optional<at::Scalar>,
                                std::optional<std::string_view>, Scalars, std::optional<std::string_view>);
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_convolution_pointwise_", "binary").typed<Signature>();
  const int64_t strides[] = {stride, stride}, dilation[] = {1, 1};
  op.call(sum, images, kernel, bias, {padding, 2}, strides, dilation, groups, "add", std::nullopt, follows, Scalars(), std::nullopt);
}

} // namespace

extern "C" {

// The kernel in the order that oneDNN likes best for images of `size` [B,C,H,W]: a tensor for the functions below and nothing else.
char* wsi_convolution_pack(const at::Tensor* kernel, const int64_t* size, const int64_t* padding, int64_t stride, int64_t groups,
                           at::Tensor** packed) {
  return wsi::guarded([&] {
    using Signature =
        at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t, at::OptionalIntArrayRef);
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_convolution_weight", "").typed<Signature>();
    const int64_t strides[] = {stride, stride}, dilation[] = {1, 1};
    *packed = new at::Tensor(op.call(*kernel, {padding, 2}, strides, dilation, groups, at::IntArrayRef(size, 4)));
  });
}

// `follows`: 0 nothing, 1 ReLU, 2 ReLU6.
char* wsi_convolution(const at::Tensor* images, const at::Tensor* kernel, const at::Tensor* bias, const int64_t* padding, int64_t stride,
                      int64_t groups, int follows, at::Tensor** out) {
  return wsi::guarded([&] {
    Scalars scalars;
    if (follows == 2) {
      scalars.push_back(at::Scalar(0.0));
      scalars.push_back(at::Scalar(6.0));
    }
    const std::string_view name = follows == 0 ? "none" : follows == 1 ? "relu" : "hardtanh";
    *out = new at::Tensor(convolve(*images, *kernel, *bias, padding, stride, groups, name, std::move(scalars)));
  });
}

// `sum` += convolution; `follows`: 0 nothing, 1 ReLU of the sum.
char* wsi_convolution_add(at::Tensor* sum, const at::Tensor* images, const at::Tensor* kernel, const at::Tensor* bias,
                          const int64_t* padding, int64_t stride, int64_t groups, int follows) {
  return wsi::guarded([&] {
    const auto name = follows == 0 ? std::nullopt : std::optional<std::string_view>("relu");
    add_convolved(*sum, *images, *kernel, *bias, padding, stride, groups, name);
  });
}
}
