//! TransMIL: two Nyström self-attention layers over the tiles with convolutions between them, read at a class token.
//! Source: Shao et al. 2021 and its code.
//!
//! Bags are processed one by one: the square that the convolutions see, the landmarks and the padding in front depend on N.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::nn::{self, Module};
use tch::{Kind, Tensor};

pub use super::nystrom::RowsKept;
use super::nystrom::{Attended, HEADS, NystromAttention};
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, ragged};
use crate::ground::linear::Linear;

/// Settings of TransMIL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TransMilSettings {
    /// E: width of every layer; landmarks are half of it.
    pub width: i64,
    /// Rows of the padded sequence that an attention layer returns.
    pub rows_kept: RowsKept,
}

impl Default for TransMilSettings {
    /// METHOD: 128 is the width that ACMIL and ASMIL compare at for 384 features; the original has 512.
    fn default() -> Self {
        Self { width: 128, rows_kept: RowsKept::Last }
    }
}

impl TransMilSettings {
    /// Builds TransMIL for features of width `features` (D).
    ///
    /// # Errors
    /// A width that its 8 heads cannot share.
    pub fn build(&self, path: &nn::Path, features: i64) -> Result<TransMil> {
        let width = self.width;
        ensure!(width >= HEADS && width % HEADS == 0, "transmil: width is {width}; it must be a multiple of {HEADS}");
        let layer = |name: &str| {
            let path = path / name;
            Layer {
                norm: nn::layer_norm(&path / "norm", vec![width], Default::default()),
                attention: NystromAttention::new(&(&path / "attention"), width, self.rows_kept),
            }
        };
        let positions = path / "positions";
        Ok(TransMil {
            first: Linear::new(&(path / "embed"), features, width, true),
            class_token: path.randn("class-token", &[1, width], 0.0, 1.0),
            layers: [layer("layer1"), layer("layer2")],
            positions: [7, 5, 3].map(|kernel| Filter::new(&(&positions / format!("{kernel}")), width, kernel)),
            norm: nn::layer_norm(path / "norm", vec![width], Default::default()),
            width,
        })
    }
}

/// TransMIL.
pub struct TransMil {
    first: Linear,
    class_token: Tensor,
    layers: [Layer; 2],
    positions: [Filter; 3],
    norm: nn::LayerNorm,
    width: i64,
}

struct Layer {
    norm: nn::LayerNorm,
    attention: NystromAttention,
}

/// A depthwise convolution of the square of tokens.
struct Filter {
    weight: Tensor,
    bias: Tensor,
    kernel: i64,
}

impl Filter {
    fn new(path: &nn::Path, width: i64, kernel: i64) -> Self {
        let bound = 1.0 / kernel as f64;
        Self {
            weight: path.uniform("weight", &[width, 1, kernel, kernel], -bound, bound),
            bias: path.uniform("bias", &[width], -bound, bound),
            kernel,
        }
    }
}

/// What TransMIL makes of one bag.
pub struct Reading {
    /// `[E]`
    pub embedding: Tensor,
    /// Of each layer, approximate attention of the class token `[8,1+s²]`: class token, tiles, tiles repeated to fill the square.
    pub attention: [Tensor; 2],
    /// Of each layer, what its attention adds to the tokens, `[1+s²,E]`.
    pub added: [Tensor; 2],
}

impl TransMil {
    /// One bag `[N,D]`, with everything that can be shown of it.
    pub fn read(&self, tiles: &Tensor, train: bool) -> Reading {
        let (tokens, side) = self.tokens(tiles);
        let (tokens, first) = self.layers[0].forward(&tokens, train);
        let (tokens, second) = self.layers[1].forward(&self.place(&tokens, side), train);
        Reading {
            embedding: self.norm.forward(&tokens.get(0)),
            attention: [first.first, second.first],
            added: [first.tokens, second.tokens],
        }
    }

    /// One bag `[N,D]` → its embedding `[E]`, and attention of the last layer as in [`Reading`]. The embedding is read at the class
    /// token, so the last layer makes nothing of the others.
    fn embed(&self, tiles: &Tensor, train: bool) -> (Tensor, Tensor) {
        let (tokens, side) = self.tokens(tiles);
        let (tokens, _) = self.layers[0].forward(&tokens, train);
        let (class, attended) = self.layers[1].forward_first(&self.place(&tokens, side), train);
        (self.norm.forward(&class.get(0)), attended.first)
    }

    /// One bag `[N,D]` → class token and a square of tiles, `[1+s²,E]`, and s.
    fn tokens(&self, tiles: &Tensor) -> (Tensor, i64) {
        let hidden = self.first.forward(tiles).relu();
        let count = hidden.size()[0];
        let side = (count as f64).sqrt().ceil() as i64;
        // METHOD: the first tiles again fill the square, as released.
        let square = Tensor::cat(&[&hidden, &hidden.narrow(0, 0, side * side - count)], 0);
        (Tensor::cat(&[&self.class_token, &square], 0), side)
    }

    /// PPEG: the square of tokens plus three convolutions of it; the class token passes by.
    ///
    /// A convolution is linear in its filter, so the three are one with the smaller filters in the middle of the largest.
    fn place(&self, tokens: &Tensor, side: i64) -> Tensor {
        let [largest, smaller @ ..] = &self.positions;
        let centred = |filter: &Filter| filter.weight.constant_pad_nd([(largest.kernel - filter.kernel) / 2; 4]);
        let weight = smaller.iter().fold(largest.weight.shallow_clone(), |sum, filter| sum + centred(filter));
        let bias = smaller.iter().fold(largest.bias.shallow_clone(), |sum, filter| sum + &filter.bias);
        let tiles = tokens.narrow(0, 1, side * side);
        let square = tiles.reshape([1, side, side, self.width]).permute([0, 3, 1, 2]); // channels last
        let padding = largest.kernel / 2;
        let filtered = square.conv2d(&weight, Some(&bias), [1, 1], [padding, padding], [1, 1], self.width);
        let placed = tiles + filtered.permute([0, 2, 3, 1]).reshape([side * side, self.width]);
        Tensor::cat(&[tokens.narrow(0, 0, 1), placed], 0)
    }
}

impl Layer {
    fn forward(&self, tokens: &Tensor, train: bool) -> (Tensor, Attended) {
        let attended = self.attention.forward(&self.norm.forward(tokens), train);
        (tokens + &attended.tokens, attended)
    }

    /// The first row of [`Self::forward`] alone, `[1,E]`.
    fn forward_first(&self, tokens: &Tensor, train: bool) -> (Tensor, Attended) {
        let attended = self.attention.forward_first(&self.norm.forward(tokens), train);
        (tokens.narrow(0, 0, 1) + &attended.tokens, attended)
    }
}

/// Attention of the class token on each tile, rows summing to 1: `[8,1+s²]` → `[8,N]`.
///
/// METHOD: the approximation's row is neither positive nor normalised; for display its negative part is cut, a repeated tile
/// counts with its original, and the rest is divided by its sum (evenly where nothing is left).
fn shown(attention: &Tensor, count: i64) -> Tensor {
    let positive = attention.clamp_min(0.0);
    let repeated = attention.size()[1] - 1 - count;
    let tiles = positive.narrow(1, 1, count) + positive.narrow(1, 1 + count, repeated).constant_pad_nd([0, count - repeated]);
    let sum = tiles.sum_dim_intlist(1, true, None::<Kind>);
    let even = tiles.full_like(1.0 / count as f64);
    (&tiles / &sum).where_self(&sum.gt(0.0), &even)
}

impl Aggregator for TransMil {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, _targets: Option<&Tensor>) -> Pooled {
        let (embeddings, attention): (Vec<Tensor>, Vec<Tensor>) = ragged::split(bags, mask)
            .iter()
            .map(|tiles| {
                let (embedding, attention) = self.embed(tiles, train);
                (embedding, shown(&attention, tiles.size()[0]))
            })
            .unzip();
        let attention = Some(ragged::join(&attention, mask));
        Pooled { embedding: Tensor::stack(&embeddings, 0), attention, scores: None, terms: Vec::new() }
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// Names of the released implementations.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "szc19990412/TransMIL, dazhangyu123/ACMIL TransMIL",
    pairs: &[
        ("cls_token", "class-token"),
        ("_fc1.0", "embed"),
        ("layer{k}.norm", "layer{k}.norm"),
        ("layer{k}.attn.to_qkv", "layer{k}.attention.query-key-value"),
        ("layer{k}.attn.to_out.0", "layer{k}.attention.out"),
        ("layer{k}.attn.res_conv.weight", "layer{k}.attention.residual"),
        ("pos_layer.proj", "positions.7"),
        ("pos_layer.proj1", "positions.5"),
        ("pos_layer.proj2", "positions.3"),
        ("norm", "norm"),
        ("_fc2", "head"),
    ],
    unused: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore, no_grad};

    #[test]
    fn golden_convolutions() {
        let store = VarStore::new(Device::Cpu);
        let mut model = TransMilSettings { width: 8, ..Default::default() }.build(&store.root(), 2).expect("TransMIL");
        for filter in &mut model.positions {
            no_grad(|| {
                let _ = filter.weight.fill_(1.0);
                let _ = filter.bias.zero_();
            });
        }
        let tokens = Tensor::from_slice(&[9.0f32, 1.0, 2.0, 3.0, 4.0]).view([5, 1]).expand([5, 8], false);
        let placed = no_grad(|| model.place(&tokens, 2));
        assert_eq!(Vec::<f32>::try_from(placed.select(1, 0)).expect("values"), [9.0, 31.0, 32.0, 33.0, 34.0]);
    }

    #[test]
    fn a_repeated_tile_counts_with_its_original() {
        let row = Tensor::from_slice(&[0.5f32, 0.2, -0.1, 0.1, 0.3]).view([1, 5]);
        let shown = Vec::<f32>::try_from(shown(&row, 3).flatten(0, -1)).expect("values");
        assert!(shown.iter().zip([5.0 / 6.0, 0.0, 1.0 / 6.0]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{shown:?}");
    }
}
