//! The attention of Ilse et al. 2018: w(tanh(V h) ⊙ σ(U h)), eq. 9, or without the gate, eq. 8.

use tch::{Tensor, nn};

use crate::ground::linear::Linear;

pub(super) struct GatedAttention {
    tanh: Linear,
    gate: Option<Linear>,
    score: Linear,
    dropout: f64,
}

impl GatedAttention {
    /// For tiles of width `width` (E), with `hidden` units and `branches` (K) scores a tile.
    pub(super) fn new(path: &nn::Path, width: i64, hidden: i64, branches: i64, gated: bool, dropout: f64) -> Self {
        Self {
            tanh: Linear::new(&(path / "tanh"), width, hidden, true),
            gate: gated.then(|| Linear::new(&(path / "gate"), width, hidden, true)),
            score: Linear::new(&(path / "score"), hidden, branches, true),
            dropout,
        }
    }

    /// `[..,N,E]` → scores `[..,K,N]`
    pub(super) fn scores(&self, hidden: &Tensor, train: bool) -> Tensor {
        let drop = |x: Tensor| if self.dropout > 0.0 { x.dropout(self.dropout, train) } else { x };
        let tanh = drop(self.tanh.forward(hidden).tanh());
        let attention = match &self.gate {
            Some(gate) => tanh * drop(gate.forward(hidden).sigmoid()),
            None => tanh,
        };
        self.score.forward(&attention).transpose(-2, -1)
    }
}
