//! One embedding from several branches.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How the embeddings of a method with one branch a class become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branches {
    /// Their mean: E = width of a branch.
    Mean,
    /// One after the other: E = C · width of a branch; a linear head then contains the original's classifier.
    Flatten,
}

impl Branches {
    /// `[B,C,W]` → `[B,E]`
    pub(super) fn join(self, branches: &Tensor) -> Tensor {
        match self {
            Self::Mean => branches.mean_dim(1, false, None::<Kind>),
            Self::Flatten => branches.flatten(1, -1),
        }
    }

    /// E
    pub(super) fn width(self, branches: i64, width: i64) -> i64 {
        match self {
            Self::Mean => width,
            Self::Flatten => branches * width,
        }
    }
}
