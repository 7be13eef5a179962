//! A convolution followed by batch normalisation: the one layer that every network here is made of.
//!
//! Trained, it is the two layers of the reference, under the reference's names. Frozen, both become one convolution.

use tch::Tensor;
use tch::nn::{self, init::FanInOut, init::NonLinearity, init::NormalOrUniform};

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
    folded: Option<(Tensor, Tensor)>,
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
        }
    }

    /// `[B,inputs,H,W]` → `[B,outputs,H',W']`.
    pub(super) fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        if let Some((kernel, bias)) = &self.folded {
            return self.convolve(images, kernel, Some(bias));
        }
        if train {
            let _ = self.batches.shallow_clone().g_add_scalar_(1);
        }
        self.convolve(images, &self.kernel, None).batch_norm(
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

    fn convolve(&self, images: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let Shape { stride, groups, .. } = self.shape;
        let run = |images: &Tensor, [y, x]: [i64; 2]| images.conv2d(kernel, bias, [stride, stride], [y, x], [1, 1], groups);
        match self.shape.padding {
            Padding::Each(pixels) => run(images, [pixels, pixels]),
            Padding::Same => {
                let (height, width) = (images.size()[2], images.size()[3]);
                let (y, x) = (self.missing(height), self.missing(width));
                if y % 2 == 0 && x % 2 == 0 {
                    run(images, [y / 2, x / 2])
                } else {
                    run(&images.constant_pad_nd([x / 2, x - x / 2, y / 2, y - y / 2]), [0, 0])
                }
            }
        }
    }

    /// Pixels that TensorFlow's rule adds along one side.
    fn missing(&self, size: i64) -> i64 {
        let Shape { stride, kernel, .. } = self.shape;
        ((size + stride - 1) / stride * stride - stride + kernel - size).max(0)
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
        self.folded = Some((kernel, bias));
    }
}
