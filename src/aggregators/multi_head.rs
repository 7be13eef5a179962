//! Multi-head attention of a learnt query over the tiles, as AEM, ACMIL and ASMIL have it: no residual, LayerNorm at the end.
//!
//! Scores and readout are two halves, since ACMIL reads with the mean attention of its branches and ASMIL's anchor only scores.

use anyhow::{Result, ensure};
use tch::Tensor;
use tch::nn::{self, Module};

use crate::ground::linear::Linear;

const LAYER_NORM_EPSILON: f64 = 1e-6;
const DROPOUT: f64 = 0.1;
/// Standard deviation of a query's initial values, as released.
const QUERY_SPREAD: f64 = 1e-6;

/// Learnt queries `[K,E]`, at first almost 0.
pub(super) fn queries(path: &nn::Path, branches: i64, width: i64) -> Tensor {
    path.randn("queries", &[branches, width], 0.0, QUERY_SPREAD)
}

/// # Errors
/// A width that the heads cannot share equally.
pub(super) fn check_heads(width: i64, heads: i64) -> Result<()> {
    ensure!(heads >= 1 && width % heads == 0, "{heads} heads cannot share a width of {width}; choose heads that divide it");
    Ok(())
}

/// `[B,M,E]` → `[B,H,M,E/H]`
fn split(x: &Tensor, heads: i64) -> Tensor {
    let (batch, rows, width) = x.size3().expect("tokens have three dimensions");
    x.view([batch, rows, heads, width / heads]).transpose(1, 2)
}

/// q Kᵀ / √(width of a head)
pub(super) struct HeadScores {
    pub(super) query: Linear,
    pub(super) key: Linear,
    heads: i64,
}

impl HeadScores {
    pub(super) fn new(path: &nn::Path, width: i64, heads: i64) -> Self {
        Self { query: Linear::new(&(path / "query"), width, width, true), key: Linear::new(&(path / "key"), width, width, true), heads }
    }

    /// `query [E]`, `tokens [B,N,E]` → `[B,H,N]`
    pub(super) fn scores(&self, query: &Tensor, tokens: &Tensor) -> Tensor {
        let query = split(&self.query.forward(query).view([1, 1, -1]), self.heads); // [1,H,1,E/H]
        let key = split(&self.key.forward(tokens), self.heads); // [B,H,N,E/H]
        let head_width = key.size()[3] as f64;
        query.matmul(&key.transpose(-2, -1)).squeeze_dim(2) / head_width.sqrt()
    }
}

/// LayerNorm(W(attention · V))
pub(super) struct HeadReadout {
    value: Linear,
    out: Linear,
    norm: nn::LayerNorm,
    heads: i64,
}

impl HeadReadout {
    pub(super) fn new(path: &nn::Path, width: i64, heads: i64) -> Self {
        let config = nn::LayerNormConfig { eps: LAYER_NORM_EPSILON, ..Default::default() };
        Self {
            value: Linear::new(&(path / "value"), width, width, true),
            out: Linear::new(&(path / "out"), width, width, true),
            norm: nn::layer_norm(path / "norm", vec![width], config),
            heads,
        }
    }

    /// `attention [B,H,N]`, `tokens [B,N,E]` → `[B,E]`
    pub(super) fn read(&self, attention: &Tensor, tokens: &Tensor, train: bool) -> Tensor {
        let value = split(&self.value.forward(tokens), self.heads); // [B,H,N,E/H]
        let read = attention.unsqueeze(2).matmul(&value); // [B,H,1,E/H]
        let joined = read.flatten(1, -1); // [B,E]
        self.norm.forward(&self.out.forward(&joined).dropout(DROPOUT, train))
    }
}
