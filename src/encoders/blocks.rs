//! A convolution followed by batch normalisation: the one layer that every network here is made of.
//!
//! Trained, it is the two layers of the reference, under the reference's names. Frozen, both become one convolution, and on a
//! processor what follows is computed in the same pass.

use std::sync::{Arc, OnceLock};

use tch::nn::{self, init::FanInOut, init::NonLinearity, init::NormalOrUniform};
use tch::{Device, Kind, Tensor};

use crate::torch::autocast::is_on;
use crate::torch::batch_norm::batch_norm;
use crate::torch::c10d::Gloo;
use crate::torch::convolution::Convolution;
pub(super) use crate::torch::convolution::Follows;
use crate::torch::mixed::layer_kind;

/// How a convolution starts: what PyTorch's `Conv2d` does, uniform within ±1/√fan-in (Kaiming with a = √5).
pub(super) fn framework_default() -> nn::Init {
    nn::Init::Kaiming {
        dist: NormalOrUniform::Uniform,
        fan: FanInOut::FanIn,
        non_linearity: NonLinearity::ExplicitGain((1.0f64 / 3.0).sqrt()),
    }
}

/// Where zeros are added around the image.
#[derive(Clone, Copy)]
pub(super) enum Padding {
    /// The same number of pixels on each side.
    Each(i64),
    /// TensorFlow's rule: ⌈size / stride⌉ outputs; an odd total puts the extra pixel right and below.
    Same,
}

/// Shape of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) kernel: i64,
    pub(super) stride: i64,
    pub(super) padding: Padding,
    pub(super) groups: i64,
}

impl Shape {
    /// A dense convolution that keeps the image's size at stride 1.
    pub(super) fn dense(inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Self {
        Self { inputs, outputs, kernel, stride, padding: Padding::Each(kernel / 2), groups: 1 }
    }

    /// Pixels added along height and width, both sides together.
    fn added(self, sides: [i64; 2]) -> [i64; 2] {
        let Self { stride, kernel, .. } = self;
        match self.padding {
            Padding::Each(pixels) => [2 * pixels; 2],
            Padding::Same => sides.map(|side| ((side + stride - 1) / stride * stride - stride + kernel - side).max(0)),
        }
    }
}

/// Constants of the normalisation.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    /// Added to the variance.
    pub(super) epsilon: f64,
    /// Share of the new batch in the running statistics.
    pub(super) momentum: f64,
}

impl Norm {
    /// PyTorch's defaults.
    pub(super) const DEFAULT: Self = Self { epsilon: 1e-5, momentum: 0.1 };
}

/// Convolution without bias, then batch normalisation.
pub(super) struct ConvNorm {
    shape: Shape,
    norm: Norm,
    kernel: Tensor,
    gain: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
    folded: Option<Folded>,
    /// Those whose images are normalised together.
    ranks: Option<Arc<Gloo>>,
}

impl ConvNorm {
    /// Creates the variables under the two paths; names are PyTorch's (`weight`, `bias`, `running_mean`, …).
    pub(super) fn new(convolution: &nn::Path, normalisation: &nn::Path, shape: Shape, norm: Norm, init: nn::Init) -> Self {
        let channels = [shape.outputs];
        Self {
            shape,
            norm,
            kernel: convolution.var("weight", &[shape.outputs, shape.inputs / shape.groups, shape.kernel, shape.kernel], init),
            gain: normalisation.ones("weight", &channels),
            bias: normalisation.zeros("bias", &channels),
            running_mean: normalisation.zeros_no_train("running_mean", &channels),
            running_var: normalisation.ones_no_train("running_var", &channels),
            batches: normalisation.add("num_batches_tracked", Tensor::from(0i64).to_device(normalisation.device()), false),
            folded: None,
            ranks: None,
        }
    }

    /// See [`super::Encoder::synchronise`].
    pub(super) fn synchronise(&mut self, ranks: &Arc<Gloo>) {
        self.ranks = Some(Arc::clone(ranks));
    }

    /// `[B,inputs,H,W]` → `[B,outputs,H',W']`, and what follows.
    pub(super) fn forward(&self, images: &Tensor, follows: Follows, train: bool) -> Tensor {
        let mut map = match &self.folded {
            None => self.two_layers(images, train),
            Some(folded) => match folded.packed(images, self.shape) {
                Some((packed, images)) => return packed.forward(&images, follows).expect("images of the network's shape"),
                None => convolve(images, &folded.kernel, Some(&folded.bias), self.shape),
            },
        };
        match follows {
            Follows::Nothing => map,
            Follows::Relu => map.relu_(),
            Follows::Relu6 => map.clamp_(0.0, 6.0),
        }
    }

    /// `sum` `[B,outputs,H',W']` and the result for `images`, added; then their ReLU, if `relu`. What was in `sum` is gone.
    pub(super) fn add_to(&self, mut sum: Tensor, images: &Tensor, relu: bool, train: bool) -> Tensor {
        if let Some((packed, images)) = self.folded.as_ref().and_then(|folded| folded.packed(images, self.shape)) {
            packed.add_to(&mut sum, &images, relu).expect("images and a sum of the network's shape");
            return sum;
        }
        let mut map = self.forward(images, Follows::Nothing, train);
        map += sum;
        if relu { map.relu_() } else { map }
    }

    fn two_layers(&self, images: &Tensor, train: bool) -> Tensor {
        if train {
            let _ = self.batches.shallow_clone().g_add_scalar_(1);
        }
        let map = convolve(&laid_out(images), &self.kernel, None, self.shape);
        if let Some(ranks) = self.ranks.as_ref().filter(|_| train) {
            return self.normalise_with(ranks, &map);
        }
        map.batch_norm(
            Some(&self.gain),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            train,
            self.norm.momentum,
            self.norm.epsilon,
            true,
        )
    }

    fn normalise_with(&self, ranks: &Gloo, map: &Tensor) -> Tensor {
        let made = batch_norm(ranks, map, &self.gain, &self.bias, self.norm.epsilon).expect("a map of the layer's channels");
        for (running, new) in [(&self.running_mean, &made.mean), (&self.running_var, &made.variance)] {
            let _ = tch::no_grad(|| running.shallow_clone().lerp_(new, self.norm.momentum));
        }
        made.images
    }

    /// Folds the running statistics into the kernel; from now on only for evaluation.
    ///
    /// The kernel is laid out channels-last, which spares libtorch a reordering in every call.
    pub(super) fn freeze(&mut self) {
        let (kernel, bias) = tch::no_grad(|| {
            let scale = &self.gain / (&self.running_var + self.norm.epsilon).sqrt();
            let kernel = &self.kernel * scale.reshape([-1, 1, 1, 1]);
            (super::channels_last(&kernel), &self.bias - &self.running_mean * scale)
        });
        self.folded = Some(Folded { kernel, bias, packed: OnceLock::new() });
    }
}

/// Both layers as one convolution.
struct Folded {
    kernel: Tensor,
    bias: Tensor,
    /// For the size of the first images, once there were some.
    packed: OnceLock<Packed>,
}

/// A kernel in oneDNN's order, for images of this kind and, where it was widened, of this oddness.
struct Packed {
    kind: Kind,
    odd: [bool; 2],
    convolution: Convolution,
}

impl Folded {
    /// On a processor, the convolution for such images, and they in its kind and order. `None` where others came first.
    fn packed(&self, images: &Tensor, shape: Shape) -> Option<(&Convolution, Tensor)> {
        if images.device() != Device::Cpu || !tch::utils::has_mkldnn() {
            return None;
        }
        let (batch, channels, height, width) = images.size4().expect("a batch of images");
        let added = shape.added([height, width]);
        let (kind, odd) = (layer_kind(images.kind()), added.map(|pixels| pixels % 2 == 1));
        let packed = self.packed.get_or_init(|| {
            let [y, x] = odd.map(i64::from);
            // oneDNN, as libtorch calls it, adds the same on both sides. An odd total is made even by one more pixel in front and a
            // kernel that is zero there: cheaper than a padded copy of the map.
            let kernel = self.kernel.constant_pad_nd([x, 0, y, 0]).to_kind(kind);
            let padding = added.map(|pixels| (pixels + 1) / 2);
            let size = [batch, channels, height, width];
            let convolution = Convolution::new(&kernel, &self.bias.to_kind(kind), size, padding, shape.stride, shape.groups);
            Packed { kind, odd, convolution: convolution.expect("a kernel of the network's shape") }
        });
        let fits = packed.kind == kind && packed.odd == odd;
        fits.then(|| (&packed.convolution, super::channels_last(&images.to_kind(kind))))
    }
}

/// Images in the order in memory that convolutions and what follows them are faster in, both ways; later layers keep it. On a GPU that is
/// channels-last in half precision alone: in f32 its kernels for it are slow.
fn laid_out(images: &Tensor) -> Tensor {
    let device = images.device();
    if device == Device::Cpu || is_on(device) { super::channels_last(images) } else { images.shallow_clone() }
}

fn convolve(images: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, shape: Shape) -> Tensor {
    let Shape { stride, groups, .. } = shape;
    let run = |images: &Tensor, [y, x]: [i64; 2]| images.conv2d(kernel, bias, [stride, stride], [y, x], [1, 1], groups);
    let [y, x] = shape.added([images.size()[2], images.size()[3]]);
    if y % 2 == 0 && x % 2 == 0 {
        run(images, [y / 2, x / 2])
    } else {
        run(&images.constant_pad_nd([x / 2, x - x / 2, y / 2, y - y / 2]), [0, 0])
    }
}
