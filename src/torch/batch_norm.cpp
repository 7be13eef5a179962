// Batch normalisation by the mean and the variance of all ranks' images. libtorch has its parts for CUDA alone.

#include "c10d.hpp"

#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

at::Tensor per_channel(const at::Tensor& values) { return values.view({1, -1, 1, 1}); }

class Normalise : public torch::autograd::Function<Normalise> {
 public:
  // `images [b,C,H,W]` → normalised images, and mean and unbiased variance `[C]` of all ranks' images, without gradient.
  static variable_list forward(AutogradContext* context, const at::Tensor& images, const at::Tensor& gain, const at::Tensor& bias,
                               double epsilon, const c10::intrusive_ptr<wsi::Group>& group) {
    const auto x = images.to(at::kFloat);
    const int64_t channels = x.size(1);
    const double own = static_cast<double>(x.numel()) / channels;
    const auto [own_mean, own_var] = at::batch_norm_update_stats(x, {}, {}, /*momentum=*/0.0);
    // Each rank's count, mean and variance in f64 at [rank]; the sum is all of them side by side.
    auto all = at::stack({at::full_like(own_mean, own), own_mean, own_var}).to(at::kCPU, at::kDouble).unsqueeze(0);
    try {
      auto gathered = all.new_empty({group->gloo->getSize(), 3, channels});
      group->gather(gathered.unbind(0), all.squeeze(0).contiguous())->wait();
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
    const auto shift = to_device(mean), spread = to_device(var), deviation = to_device(unbiased);
    // By given statistics, which is what evaluation does.
    const auto normalised = std::get<0>(at::native_batch_norm(x, gain, bias, shift, spread, /*training=*/false, 0.0, epsilon));

    context->save_for_backward({images, gain, shift, spread});
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["count"] = count.select(0, 0).item<double>();
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    context->mark_non_differentiable({shift, deviation});
    return {normalised.to(images.scalar_type()), shift, deviation};
  }

  static variable_list backward(AutogradContext* context, variable_list slopes) {
    const auto saved = context->get_saved_variables();
    const auto &images = saved[0], &gain = saved[1], &shift = saved[2], &spread = saved[3];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const auto x = images.to(at::kFloat), slope = slopes[0].to(at::kFloat);
    // The parameters' gradients are this rank's part, as those of all other parameters.
    const auto own = at::native_batch_norm_backward(slope, x, gain, shift, spread, {}, {}, /*train=*/false, epsilon, {false, true, true});
    const auto &to_gain = std::get<1>(own), &to_bias = std::get<2>(own);
    const auto sums = at::stack({to_bias, to_gain}).to(at::kCPU);
    const auto group = c10::static_intrusive_pointer_cast<wsi::Group>(context->saved_data["group"].toCapsule());
    try {
      group->sum(sums)->wait();
    } catch (const std::exception& error) {
      group->note(error.what());
    }
    const auto means = sums.to(images.device()) / context->saved_data["count"].toDouble();
    // (slope − mean slope − normalised · mean (slope · normalised)) · gain / deviation, in two passes.
    const auto scale = (spread + epsilon).rsqrt(), to_slope = scale * gain, to_x = -to_slope * scale * means[1];
    const auto constant = -to_slope * means[0] - shift * to_x;
    const auto back = at::addcmul(per_channel(constant), x, per_channel(to_x)).addcmul_(slope, per_channel(to_slope));
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
