//! A block: what attention reads and then what the MLP makes of it is added to the stream of tokens.

use tch::nn::Module;
use tch::{Tensor, nn};

use super::VitSettings;
use super::attention::Attention;
use super::mlp::Layers;

/// x + γ₁ · attention(norm x), then x + γ₂ · MLP(norm x).
pub(super) struct Block {
    norms: [nn::LayerNorm; 2],
    attention: Attention,
    mlp: Layers,
    /// γ₁ and γ₂, a gain for each channel; none without layer scale, or where a frozen layer took them in.
    gains: [Option<Tensor>; 2],
    frozen: bool,
}

impl Block {
    pub(super) fn new(path: &nn::Path, settings: &VitSettings) -> Self {
        let gain = |name: &str| {
            let start = nn::Init::Const(1e-5);
            settings.layer_scale.then(|| path.sub(name).var("gamma", &[i64::from(settings.embed_dim)], start))
        };
        Self {
            norms: [settings.norm(&path.sub("norm1")), settings.norm(&path.sub("norm2"))],
            attention: Attention::new(&path.sub("attn"), settings),
            mlp: Layers::new(&path.sub("mlp"), settings),
            gains: [gain("ls1"), gain("ls2")],
            frozen: false,
        }
    }

    /// `[B,T,E]` → `[B,T,E]`
    pub(super) fn forward(&self, stream: Tensor) -> Tensor {
        let read = self.attention.forward(&self.norms[0].forward(&stream));
        self.digest(self.add(stream, &read, 0))
    }

    /// The first token after this block, `[B,T,E]` → `[B,1,E]`: it needs all tokens of the block before, but none of this one.
    pub(super) fn first_token(&self, stream: &Tensor) -> Tensor {
        let read = self.attention.first_token(&self.norms[0].forward(stream));
        self.digest(self.add(stream.narrow(1, 0, 1), &read, 0))
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = true;
        for (index, taken) in
            [self.attention.freeze(self.gains[0].as_ref()), self.mlp.freeze(self.gains[1].as_ref())].into_iter().enumerate()
        {
            if taken {
                self.gains[index] = None;
            }
        }
    }

    fn digest(&self, stream: Tensor) -> Tensor {
        let made = self.mlp.forward(&self.norms[1].forward(&stream));
        self.add(stream, &made, 1)
    }

    /// In training the stream as it was is kept for the gradient.
    fn add(&self, mut stream: Tensor, branch: &Tensor, index: usize) -> Tensor {
        match (&self.gains[index], self.frozen) {
            (None, true) => stream.g_add_(branch),
            (None, false) => stream + branch,
            (Some(gain), true) => stream.addcmul_(branch, gain),
            (Some(gain), false) => stream.addcmul(branch, gain),
        }
    }
}
