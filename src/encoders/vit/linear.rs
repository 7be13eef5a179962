//! A linear layer that starts as timm's do and, frozen on a processor, runs on the faster of libtorch's two libraries.

use std::sync::OnceLock;

use tch::{Device, Kind, Tensor, nn};

use super::SPREAD;
use crate::ground::linear::Linear;
use crate::torch::linear::{linear, pack};
use crate::torch::mixed::layer_kind;

/// y = x Wᵀ + b on the last dimension.
pub(super) struct Dense {
    layer: Linear,
    /// Runs on oneDNN.
    fast: bool,
    /// The weight in oneDNN's order and its kind, made for the first rows that came.
    packed: OnceLock<(Kind, Tensor)>,
}

impl Dense {
    pub(super) fn new(path: &nn::Path, width_in: i64, width_out: i64, with_bias: bool) -> Self {
        let weight = path.randn("weight", &[width_out, width_in], 0.0, SPREAD);
        let bias = with_bias.then(|| path.zeros("bias", &[width_out]));
        Self { layer: Linear { weight, bias }, fast: false, packed: OnceLock::new() }
    }

    /// `x [.., in]` → `[.., out]`
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        if self.fast { self.on_onednn(x, false) } else { self.layer.forward(x) }
    }

    /// The exact GELU of it.
    pub(super) fn forward_gelu(&self, x: &Tensor) -> Tensor {
        if self.fast { self.on_onednn(x, true) } else { self.layer.forward(x).gelu("none") }
    }

    /// Outputs `first` to `first + count` only.
    pub(super) fn forward_outputs(&self, x: &Tensor, first: i64, count: i64) -> Tensor {
        let weight = self.layer.weight.narrow(0, first, count);
        let bias = self.layer.bias.as_ref().map(|bias| bias.narrow(0, first, count));
        if self.fast { product(x, &weight, bias.as_ref(), false) } else { x.linear(&weight, bias.as_ref()) }
    }

    fn on_onednn(&self, x: &Tensor, gelu: bool) -> Tensor {
        let (weight, kind) = (&self.layer.weight, layer_kind(x.kind()));
        let rows = x.numel() as i64 / weight.size()[1];
        let pack = || (kind, pack(&weight.to_kind(kind), rows).expect("a weight of the network's shape"));
        let (packed_kind, packed) = self.packed.get_or_init(pack);
        product(x, if *packed_kind == kind { packed } else { weight }, self.layer.bias.as_ref(), gelu)
    }

    /// From now on only for evaluation; every output is multiplied by its `gain`, if there are any.
    ///
    /// METHOD: only single precision takes the gains up (a trained layer scale reaches 1e-5, which would drive
    /// half-precision weights into their last bits); the answer says whether it did.
    pub(super) fn freeze(&mut self, gain: Option<&Tensor>) -> bool {
        let weight = &self.layer.weight;
        let single = weight.kind() == Kind::Float && weight.device() == Device::Cpu;
        self.fast = single && tch::utils::has_mkldnn();
        if let Some(gain) = gain.filter(|_| single) {
            self.layer =
                Linear { weight: (weight * gain.unsqueeze(1)).detach(), bias: self.layer.bias.as_ref().map(|bias| (bias * gain).detach()) };
        }
        single
    }
}

/// In the kind of the layer; the weight may be packed, and is of that kind then.
fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gelu: bool) -> Tensor {
    let kind = layer_kind(x.kind());
    let weight = if weight.is_mkldnn() { weight.shallow_clone() } else { weight.to_kind(kind) };
    let bias = bias.map(|bias| bias.to_kind(kind));
    linear(&x.to_kind(kind), &weight, bias.as_ref(), gelu).expect("rows of the network's width")
}
