//! Where the centroid parameters R `[C,E]` start: 10 on the coordinates that a class owns, 0 elsewhere, 1e-6 added.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::settings::Init;

const CODE: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A coordinate that a class owns, and what is added to all.
const HIGH: f64 = 10.0;
const OFFSET: f64 = 1e-6;

impl Init {
    /// R `[C,E]`, f32.
    ///
    /// # Errors
    /// An embedding too narrow for so many classes.
    pub(super) fn centroids(self, classes: i64, width: i64) -> Result<Tensor> {
        if width < classes && self != Self::RandomCode {
            bail!(
                "NCMI's init '{}' needs an embedding at least as wide as there are classes: {width} coordinates for {classes} classes; \
                 widen train.model, or set train.loss.init = \"random-code\"",
                if self == Self::Identity { "identity" } else { "block-code" },
            );
        }
        match self {
            Self::Identity => Ok(identity_code(classes, width)),
            Self::BlockCode => Ok(block_code(classes, width)),
            Self::RandomCode => random_code(classes, width),
        }
    }
}

/// [`Init::Identity`], in f32 as released.
///
/// With fewer coordinates than classes the identity is cropped, which gives equal rows; [`Init::centroids`] refuses that.
pub fn identity_code(classes: i64, width: i64) -> Tensor {
    Tensor::eye_m(classes, width, CODE) * HIGH + OFFSET
}

/// [`Init::BlockCode`]
fn block_code(classes: i64, width: i64) -> Tensor {
    let owner = Tensor::arange(width, CODE).divide_scalar_mode((width / classes) as f64, "floor").unsqueeze(0);
    owner.eq_tensor(&Tensor::arange(classes, CODE).unsqueeze(1)).to_kind(Kind::Float) * HIGH + OFFSET
}

/// [`Init::RandomCode`], drawn from libtorch's generator, which the stream `initial-weights` has seeded.
fn random_code(classes: i64, width: i64) -> Result<Tensor> {
    for _ in 0..100 {
        let rank = Tensor::rand([classes, width], CODE).argsort(1, false).argsort(1, false);
        let code = rank.lt(width / 2).to_kind(Kind::Float);
        if code.unique_dim(0, false, false, false).0.size()[0] == classes {
            return Ok(code * HIGH + OFFSET);
        }
    }
    bail!("NCMI: {width} coordinates give too few different random codes for {classes} classes; widen train.model")
}
