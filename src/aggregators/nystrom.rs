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
    /// `[n,W]`, or `[1,W]` where only the first token was asked for.
    pub(super) tokens: Tensor,
    /// Approximate attention of the first token, `[H,n]`; its rows sum to about 1 and may be negative. No gradient.
    pub(super) first: Tensor,
}

/// How the landmarks of a sequence of n' rows attend.
struct Landmarks {
    /// q̃, k̃: means of groups of consecutive rows, `[H,M,w]`.
    query: Tensor,
    key: Tensor,
    /// pinv(A2), `[H,M,M]`
    inverse: Tensor,
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
    ///
    /// The product A1 pinv(A2) A3 V is taken from the right, so that no intermediate is larger than `[H,n',w]`: a quarter of the
    /// arithmetic from the left.
    pub(super) fn forward(&self, tokens: &Tensor, train: bool) -> Attended {
        let (count, width) = tokens.size2().expect("a sequence is a matrix");
        let padding = self.padding(count);
        let length = count + padding;
        let parts = self.query_key_value.forward(&tokens.constant_pad_nd([0, 0, padding, 0])).chunk(3, -1);
        let (query, key, value) = (heads(&parts[0]) * scale(width), heads(&parts[1]), heads(&parts[2]));
        let means = |x: &Tensor| x.reshape([HEADS, self.landmarks, -1, width / HEADS]).mean_dim(2, false, None::<Kind>);
        let landmarks = Landmarks::new(means(&query), means(&key));

        let to_landmarks = attend(&query, &landmarks.key); // A1 [H,n',M]
        let from_landmarks = attend(&landmarks.query, &key); // A3 [H,M,n']
        let read = to_landmarks.matmul(&landmarks.inverse.matmul(&from_landmarks.matmul(&value)));
        let merged = read.transpose(0, 1).reshape([length, width]) + self.neighbours(&parts[2]);
        let out = self.out.forward(&merged).dropout(DROPOUT, train);
        let first = tch::no_grad(|| {
            let row = to_landmarks.narrow(1, padding, 1).matmul(&landmarks.inverse).matmul(&from_landmarks); // [H,1,n']
            row.squeeze_dim(1).narrow(1, padding, count)
        });
        let start = match self.kept {
            RowsKept::Last => padding,
            RowsKept::First => 0,
        };
        Attended { tokens: out.narrow(0, start, count), first }
    }

    /// The first row of what [`Self::forward`] makes of a sequence, without the others.
    ///
    /// Projections are linear, so those of landmarks are taken of the landmarks' mean tokens, and values are mixed before they are
    /// projected: of the whole sequence only the keys are made.
    pub(super) fn forward_first(&self, tokens: &Tensor, train: bool) -> Attended {
        if self.kept == RowsKept::First {
            let all = self.forward(tokens, train);
            return Attended { tokens: all.tokens.narrow(0, 0, 1), first: all.first };
        }
        let (count, width) = tokens.size2().expect("a sequence is a matrix");
        let padding = self.padding(count);
        let padded = tokens.constant_pad_nd([0, 0, padding, 0]);
        let weights = self.query_key_value.weight.chunk(3, 0);
        let project = |x: &Tensor, part: usize| heads(&x.linear(&weights[part], None::<Tensor>));

        let means = padded.reshape([self.landmarks, -1, width]).mean_dim(1, false, None::<Kind>);
        let landmarks = Landmarks::new(project(&means, 0) * scale(width), project(&means, 1));
        let query = project(&tokens.narrow(0, 0, 1), 0) * scale(width); // [H,1,w]
        let from_landmarks = attend(&landmarks.query, &project(&padded, 1)); // A3 [H,M,n']
        let row = attend(&query, &landmarks.key).matmul(&landmarks.inverse).matmul(&from_landmarks).squeeze_dim(1); // [H,n']

        // The rows before the first token are zero, so that half of the filter meets nothing.
        let reach = count.min(RESIDUAL_KERNEL / 2 + 1);
        let filters = self.residual.view([HEADS, RESIDUAL_KERNEL]).narrow(1, RESIDUAL_KERNEL / 2, reach);
        let mixed = row.matmul(&padded) + filters.matmul(&tokens.narrow(0, 0, reach)); // [H,W]
        let value = weights[2].view([HEADS, width / HEADS, width]).matmul(&mixed.unsqueeze(-1)); // [H,w,1]
        let out = self.out.forward(&value.view([1, width])).dropout(DROPOUT, train);
        Attended { tokens: out, first: row.detach().narrow(1, padding, count) }
    }

    /// Zero rows in front of n tokens.
    fn padding(&self, count: i64) -> i64 {
        (self.landmarks - count % self.landmarks) % self.landmarks
    }

    /// The filter of each head over the sequence of values, `[n',W]` → `[n',W]`.
    ///
    /// As one filter a channel it is faster than as H filters over `[H,n',w]`, the released form, and its gradient is right: that of
    /// the released form is wrong on a CPU where n' = 256 (libtorch 2.11.0).
    fn neighbours(&self, values: &Tensor) -> Tensor {
        let (length, width) = values.size2().expect("values are a matrix");
        let filters = self.residual.expand([HEADS, width / HEADS, RESIDUAL_KERNEL, 1], false).reshape([width, 1, RESIDUAL_KERNEL, 1]);
        let sequence = values.unsqueeze(0).unsqueeze(2).permute([0, 3, 1, 2]); // [1,W,n',1], channels last
        let filtered = sequence.conv2d(&filters, None::<Tensor>, [1, 1], [RESIDUAL_KERNEL / 2, 0], [1, 1], width);
        filtered.permute([0, 2, 3, 1]).reshape([length, width])
    }
}

impl Landmarks {
    fn new(query: Tensor, key: Tensor) -> Self {
        let inverse = pseudo_inverse(&attend(&query, &key));
        Self { query, key, inverse }
    }
}

/// `[n,W]` → `[H,n,w]`, w = W / H
fn heads(x: &Tensor) -> Tensor {
    let (rows, width) = x.size2().expect("a sequence is a matrix");
    x.reshape([rows, HEADS, width / HEADS]).transpose(0, 1)
}

/// What queries are multiplied with.
fn scale(width: i64) -> f64 {
    ((width / HEADS) as f64).powf(-0.5)
}

/// Soft-max attention of queries `[H,a,w]` on keys `[H,b,w]`, `[H,a,b]`.
fn attend(query: &Tensor, key: &Tensor) -> Tensor {
    query.matmul(&key.transpose(-2, -1)).softmax(-1, None::<Kind>)
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
    use tch::Device;

    #[test]
    fn golden_pseudo_inverse() {
        let scores = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 0.0, 1.0, 0.5, 0.2, 0.0, 1.0]).view([1, 3, 3]);
        let inverse = pseudo_inverse(&scores.softmax(-1, None::<Kind>));
        let expected = [2.15311893, -0.73311678, -0.42000215, -0.26425897, 2.63147178, -1.36721281, -0.87024325, -0.63865377, 2.50889702];
        let difference = (inverse - Tensor::from_slice(&expected).view([1, 3, 3])).abs().max().double_value(&[]);
        assert!(difference < 1e-8, "{difference}");
    }

    #[test]
    fn the_filter_over_a_sequence_has_the_gradient_of_its_definition() {
        tch::manual_seed(1);
        let width = 64;
        let store = nn::VarStore::new(Device::Cpu);
        let attention = NystromAttention::new(&store.root(), width, RowsKept::Last);
        for length in [2, 64, 256, 512] {
            let [values, weights] = [(); 2].map(|()| Tensor::randn([length, width], (Kind::Float, Device::Cpu)));
            let sum = (attention.neighbours(&values) * &weights).sum(None::<Kind>);
            let found = Tensor::run_backward(&[sum], &[&attention.residual], false, false)[0].reshape([HEADS, RESIDUAL_KERNEL]);
            let half = RESIDUAL_KERNEL / 2;
            let (values, weights) = (values.to_kind(Kind::Double).constant_pad_nd([0, 0, half, half]), weights.to_kind(Kind::Double));
            let of = |place: i64| {
                (values.narrow(0, place, length) * &weights).view([length, HEADS, -1]).sum_dim_intlist(
                    [0i64, 2].as_slice(),
                    false,
                    None::<Kind>,
                )
            };
            let expected = Tensor::stack(&(0..RESIDUAL_KERNEL).map(of).collect::<Vec<_>>(), 1);
            let difference = (found - &expected).abs().max().double_value(&[]);
            assert!(difference < 1e-5 * expected.abs().max().double_value(&[]), "{length} rows: {difference}");
        }
    }
}
