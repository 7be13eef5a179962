//! Self-attention of several heads over the tokens of an image.

use tch::{Tensor, nn};

use super::VitSettings;
use super::linear::Dense;

/// Query, key and value from one layer, attention, a layer on the joined heads.
pub(super) struct Attention {
    qkv: Dense,
    proj: Dense,
    heads: i64,
    width: i64,
}

impl Attention {
    pub(super) fn new(path: &nn::Path, settings: &VitSettings) -> Self {
        let width = i64::from(settings.embed_dim);
        Self {
            qkv: Dense::new(&path.sub("qkv"), width, 3 * width, settings.qkv_bias),
            proj: Dense::new(&path.sub("proj"), width, width, true),
            heads: i64::from(settings.heads),
            width,
        }
    }

    /// Every token looks at every token, `[B,T,E]` → `[B,T,E]`.
    pub(super) fn forward(&self, tokens: &Tensor) -> Tensor {
        match &self.split(&self.qkv.forward(tokens))[..] {
            [query, key, value] => self.attend(query, key, value),
            parts => unreachable!("{} parts of query, key and value", parts.len()),
        }
    }

    /// The first token looks at every token, `[B,T,E]` → `[B,1,E]`.
    pub(super) fn first_token(&self, tokens: &Tensor) -> Tensor {
        let query = self.qkv.forward_outputs(&tokens.narrow(1, 0, 1), 0, self.width);
        match &self.split(&self.qkv.forward_outputs(tokens, self.width, 2 * self.width))[..] {
            [key, value] => self.attend(&self.split(&query)[0], key, value),
            parts => unreachable!("{} parts of key and value", parts.len()),
        }
    }

    /// Takes the gains of the layer scale in, if it can.
    pub(super) fn freeze(&mut self, gain: Option<&Tensor>) -> bool {
        self.qkv.freeze(None);
        self.proj.freeze(gain)
    }

    /// `[B,T,n·E]` → n tensors `[B,heads,T,E/heads]`, all views.
    fn split(&self, joined: &Tensor) -> Vec<Tensor> {
        let (batch, tokens, outputs) = joined.size3().expect("a batch of tokens");
        joined.view([batch, tokens, outputs / self.width, self.heads, self.width / self.heads]).permute([2, 0, 3, 1, 4]).unbind(0)
    }

    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
        let read = Tensor::scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, false, None, false);
        let (batch, _, tokens, _) = read.size4().expect("heads of tokens");
        self.proj.forward(&read.transpose(1, 2).reshape([batch, tokens, self.width]))
    }
}
