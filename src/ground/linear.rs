//! A linear layer with the framework's own initial values.

use tch::{Tensor, nn};

/// y = x Wᵀ + b on the last dimension.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`, or none.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Weight and bias are drawn from U(−1/√in, 1/√in), PyTorch's default. (tch's own default is √6 times wider.)
    pub fn new(path: &nn::Path, width_in: i64, width_out: i64, with_bias: bool) -> Self {
        let bound = 1.0 / (width_in as f64).sqrt();
        Self {
            weight: path.uniform("weight", &[width_out, width_in], -bound, bound),
            bias: with_bias.then(|| path.uniform("bias", &[width_out], -bound, bound)),
        }
    }

    /// `x [.., in]` → `[.., out]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}
