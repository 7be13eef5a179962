//! The MLP of a block, plain or gated.

use tch::{Tensor, nn};

use super::linear::Dense;
use super::{Mlp, VitSettings};

/// Two layers and what is between them.
pub(super) struct Layers {
    first: Dense,
    last: Dense,
    between: Mlp,
}

impl Layers {
    pub(super) fn new(path: &nn::Path, settings: &VitSettings) -> Self {
        let (width, hidden) = (i64::from(settings.embed_dim), settings.hidden());
        let halves = if settings.mlp == Mlp::Swiglu { 2 } else { 1 };
        Self {
            first: Dense::new(&path.sub("fc1"), width, hidden, true),
            last: Dense::new(&path.sub("fc2"), hidden / halves, width, true),
            between: settings.mlp,
        }
    }

    /// `[.., E]` → `[.., E]`
    pub(super) fn forward(&self, tokens: &Tensor) -> Tensor {
        self.last.forward(&match self.between {
            Mlp::Gelu => self.first.forward_gelu(tokens),
            Mlp::Swiglu => {
                let halves = self.first.forward(tokens).chunk(2, -1);
                halves[0].silu() * &halves[1]
            }
        })
    }

    /// Takes the gains of the layer scale in, if it can.
    pub(super) fn freeze(&mut self, gain: Option<&Tensor>) -> bool {
        self.first.freeze(None);
        self.last.freeze(gain)
    }
}
