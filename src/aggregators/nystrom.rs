//! Nyström approximation of self-attention. Source: Xiong et al. 2021, Nyströmformer, as TransMIL uses it.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use crate::ground::linear::Linear;

/// Rows of the padded sequence that an attention layer returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowsKept {
    /// The tokens themselves.
    Last,
    /// As many rows from the front, padding included: the fault of nystrom-attention 0.0.9, for checkpoints trained with it.
    First,
}

pub(super) const HEADS: i64 = 8;
const PSEUDO_INVERSE_STEPS: usize = 6;
const RESIDUAL_KERNEL: i64 = 33;
const DROPOUT: f64 = 0.1;

pub(super) struct NystromAttention {
    query_key_value: Linear,
    out: Linear,
    /// Filter of each head over the sequence, `[H,1,33,1]`.
    residual: Tensor,
    /// M
    landmarks: i64,
    kept: RowsKept,
}

/// What one layer makes of a sequence.
pub(super) struct Attended {
    /// `[n,W]`
    pub(super) tokens: Tensor,
    /// Approximate attention of the first token, `[H,n]`; its rows sum to about 1 and may be negative. No gradient.
    pub(super) first: Tensor,
}

impl NystromAttention {
    pub(super) fn new(path: &nn::Path, width: i64, kept: RowsKept) -> Self {
        let bound = 1.0 / (RESIDUAL_KERNEL as f64).sqrt();
        Self {
            query_key_value: Linear::new(&(path / "query-key-value"), width, 3 * width, false),
            out: Linear::new(&(path / "out"), width, width, true),
            residual: path.uniform("residual", &[HEADS, 1, RESIDUAL_KERNEL, 1], -bound, bound),
            landmarks: width / 2,
            kept,
        }
    }

    /// One sequence `[n,W]`.
    ///
    /// METHOD: zero rows in front fill the sequence to a multiple of the landmarks and take part as keys, as released.
    pub(super) fn forward(&self, tokens: &Tensor, train: bool) -> Attended {
        let (count, width) = tokens.size2().expect("a sequence is a matrix");
        let head_width = width / HEADS;
        let padding = (self.landmarks - count % self.landmarks) % self.landmarks;
        let length = count + padding;
        let parts = self.query_key_value.forward(&tokens.constant_pad_nd([0, 0, padding, 0])).chunk(3, -1);
        let heads = |x: &Tensor| x.reshape([length, HEADS, head_width]).transpose(0, 1); // [H,n',w]
        let (query, key, value) = (heads(&parts[0]) * (head_width as f64).powf(-0.5), heads(&parts[1]), heads(&parts[2]));
        let landmarks = |x: &Tensor| x.reshape([HEADS, self.landmarks, -1, head_width]).mean_dim(2, false, None::<Kind>);
        let (query_landmarks, key_landmarks) = (landmarks(&query), landmarks(&key));

        let attend = |query: &Tensor, key: &Tensor| query.matmul(&key.transpose(-2, -1)).softmax(-1, None::<Kind>);
        let to_landmarks = attend(&query, &key_landmarks); // A1 [H,n',M]
        let inverse = pseudo_inverse(&attend(&query_landmarks, &key_landmarks)); // pinv(A2) [H,M,M]
        let from_landmarks = attend(&query_landmarks, &key); // A3 [H,M,n']
        let read = to_landmarks.matmul(&inverse).matmul(&from_landmarks.matmul(&value))
            + value.unsqueeze(0).conv2d(&self.residual, None::<Tensor>, [1, 1], [RESIDUAL_KERNEL / 2, 0], [1, 1], HEADS).squeeze_dim(0);
        let merged = read.transpose(0, 1).reshape([length, width]);
        let out = self.out.forward(&merged).dropout(DROPOUT, train);
        let first = tch::no_grad(|| {
            let row = to_landmarks.narrow(1, padding, 1).matmul(&inverse).matmul(&from_landmarks); // [H,1,n']
            row.squeeze_dim(1).narrow(1, padding, count)
        });
        let start = match self.kept {
            RowsKept::Last => padding,
            RowsKept::First => 0,
        };
        Attended { tokens: out.narrow(0, start, count), first }
    }
}

/// Moore–Penrose inverse of each `[M,M]` by six steps of order 3 (Razavi et al. 2014; Nyströmformer): `[H,M,M]` → `[H,M,M]`.
///
/// The start is scaled by the maxima over all heads, as released. Never in half precision, which the steps do not survive.
fn pseudo_inverse(matrices: &Tensor) -> Tensor {
    tch::autocast(false, || iterate(matrices))
}

fn iterate(matrices: &Tensor) -> Tensor {
    let size = matrices.size()[2];
    let absolute = matrices.abs();
    let largest = |dim: i64| absolute.sum_dim_intlist(dim, false, None::<Kind>).max();
    let mut inverse = matrices.transpose(-2, -1) / (largest(-1) * largest(-2));
    let identity = Tensor::eye(size, (matrices.kind(), matrices.device()));
    for _ in 0..PSEUDO_INVERSE_STEPS {
        let product = matrices.matmul(&inverse);
        let inner = &identity * 15.0 - product.matmul(&(&identity * 7.0 - &product));
        inverse = inverse.matmul(&(&identity * 13.0 - product.matmul(&inner))) * 0.25;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_pseudo_inverse() {
        let scores = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 0.0, 1.0, 0.5, 0.2, 0.0, 1.0]).view([1, 3, 3]);
        let inverse = pseudo_inverse(&scores.softmax(-1, None::<Kind>));
        let expected = [2.15311893, -0.73311678, -0.42000215, -0.26425897, 2.63147178, -1.36721281, -0.87024325, -0.63865377, 2.50889702];
        let difference = (inverse - Tensor::from_slice(&expected).view([1, 3, 3])).abs().max().double_value(&[]);
        assert!(difference < 1e-8, "{difference}");
    }
}
