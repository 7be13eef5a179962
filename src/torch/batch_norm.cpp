// Batch normalisation by the mean and the variance of all ranks' images. libtorch has its parts for CUDA alone.

#include "c10d.hpp"

#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Over images and places, not over channels.
constexpr int64_t axes[] = {0, 2, 3};
const at::IntArrayRef AXES(axes);

at::Tensor per_channel(const at::Tensor& values) { return values.view({1, -1, 1, 1}); }

class Normalise : public torch::autograd::Function<Normalise> {
 public:
  // `images [b,C,H,W]` → normalised images, and mean and unbiased variance `[C]` of all ranks' images, without gradient.
  static variable_list forward(AutogradContext* context, const at::Tensor& images, const at::Tensor& gain, const at::Tensor& bias,
                               double epsilon, const c10::intrusive_ptr<wsi::Group>& group) {
    const auto x = images.to(at::kFloat);
    const int64_t channels = x.size(1);
    const double own = static_cast<double>(x.numel()) / channels;
    const auto own_mean = x.mean(AXES);
    const auto own_var = x.var(AXES, /*unbiased=*/false);
    // Each rank's count, mean and variance in f64 at [rank]; the sum is all of them side by side.
    auto all = at::stack({at::full_like(own_mean, own), own_mean, own_var}).to(at::kCPU, at::kDouble).unsqueeze(0);
    try {
      group->check();
      auto gathered = all.new_empty({group->gloo->getSize(), 3, channels});
      std::vector<std::vector<at::Tensor>> outputs{gathered.unbind(0)};
      std::vector<at::Tensor> inputs{all.squeeze(0).contiguous()};
      group->gloo->allgather(outputs, inputs)->wait();
      all = gathered;
    } catch (const std::exception& error) {
      group->note(error.what());
    }
    const auto counts = all.select(1, 0), means = all.select(1, 1), vars = all.select(1, 2);
    const auto count = counts.sum(0);
    const auto mean = (counts * means).sum(0) / count;
    const auto var = (counts * (vars + (means - mean).square())).sum(0) / count;
    const auto unbiased = var * count / (count - 1).clamp_min(1);

    const auto to_device = [&](const at::Tensor& values) { return values.to(x.device(), at::kFloat); };
    const auto shift = to_device(mean), scale = to_device((var + epsilon).rsqrt());
    const auto slope = scale * gain;
    const auto normalised = at::addcmul(per_channel(bias - shift * slope), x, per_channel(slope)).to(images.scalar_type());

    const auto deviation = to_device(unbiased);
    context->save_for_backward({images, gain, shift, scale});
    context->saved_data["count"] = count.select(0, 0).item<double>();
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    context->mark_non_differentiable({shift, deviation});
    return {normalised, shift, deviation};
  }

  static variable_list backward(AutogradContext* context, variable_list slopes) {
    const auto saved = context->get_saved_variables();
    const auto &images = saved[0], &gain = saved[1], &shift = saved[2], &scale = saved[3];
    const auto slope = slopes[0].to(at::kFloat);
    const auto centred = images.to(at::kFloat) - per_channel(shift);
    // The parameters' gradients are this rank's part, as those of all other parameters.
    const auto to_bias = slope.sum(AXES);
    const auto to_gain = (slope * centred).sum(AXES) * scale;
    const auto both = at::stack({to_bias, to_gain});
    auto sums = both.to(at::kCPU).clone();
    const auto group = c10::static_intrusive_pointer_cast<wsi::Group>(context->saved_data["group"].toCapsule());
    try {
      group->check();
      std::vector<at::Tensor> one{sums};
      group->gloo->allreduce(one)->wait();
    } catch (const std::exception& error) {
      group->note(error.what());
    }
    const auto means = sums.to(images.device()) / context->saved_data["count"].toDouble();
    const auto back = (slope - per_channel(means[0]) - centred * per_channel(scale * means[1])) * per_channel(scale * gain);
    return {back.to(images.scalar_type()), to_gain, to_bias, at::Tensor(), at::Tensor()};
  }
};

} // namespace

extern "C" {

// `images [b,C,H,W]`; `gain` and `bias` `[C]`, f32. A rank that is lost meanwhile is the fault of the next collective.
char* wsi_gloo_batch_norm(const c10::intrusive_ptr<wsi::Group>* group, const at::Tensor* images, const at::Tensor* gain,
                          const at::Tensor* bias, double epsilon, at::Tensor** normalised, at::Tensor** mean, at::Tensor** variance) {
  return wsi::guarded([&] {
    auto outputs = Normalise::apply(*images, *gain, *bias, epsilon, *group);
    *normalised = new at::Tensor(outputs[0]);
    *mean = new at::Tensor(outputs[1]);
    *variance = new at::Tensor(outputs[2]);
  });
}
}
