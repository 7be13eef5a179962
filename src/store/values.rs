//! Feature vectors in the precision that they are stored in.

use anyhow::{Result, bail, ensure};
use half::f16;
use serde::{Deserialize, Serialize};

/// Kind of number that features are stored as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// Half precision.
    #[default]
    F16,
    /// Single precision.
    F32,
}

impl Dtype {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => size_of::<f16>(),
            Self::F32 => size_of::<f32>(),
        }
    }
}

/// Feature vectors, `[N,D]` row by row, in the precision that they were stored in.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Half precision.
    Half(Vec<f16>),
    /// Single precision.
    Single(Vec<f32>),
}

impl Values {
    /// None yet, with room for `numbers`.
    pub fn with_capacity(dtype: Dtype, numbers: usize) -> Self {
        match dtype {
            Dtype::F16 => Self::Half(Vec::with_capacity(numbers)),
            Dtype::F32 => Self::Single(Vec::with_capacity(numbers)),
        }
    }

    /// How they are stored.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Half(_) => Dtype::F16,
            Self::Single(_) => Dtype::F32,
        }
    }

    /// N·D
    pub fn len(&self) -> usize {
        match self {
            Self::Half(values) => values.len(),
            Self::Single(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `more`, from number `first` on, after what is there.
    ///
    /// # Panics
    /// They are stored differently.
    pub fn extend_from(&mut self, more: &Self, first: usize) {
        match (self, more) {
            (Self::Half(values), Self::Half(more)) => values.extend_from_slice(&more[first..]),
            (Self::Single(values), Self::Single(more)) => values.extend_from_slice(&more[first..]),
            _ => panic!("half and single precision in one bag"),
        }
    }

    /// `count` numbers from `first` on.
    pub fn slice(&self, first: usize, count: usize) -> Self {
        match self {
            Self::Half(values) => Self::Half(values[first..first + count].to_vec()),
            Self::Single(values) => Self::Single(values[first..first + count].to_vec()),
        }
    }

    /// As single precision, which holds every half exactly.
    pub fn to_single(&self) -> Vec<f32> {
        match self {
            Self::Half(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::Single(values) => values.clone(),
        }
    }

    /// As half precision, and the largest relative error of the numbers that half precision holds in full.
    ///
    /// # Errors
    /// A number that half precision cannot hold.
    pub fn to_half(&self) -> Result<(Vec<f16>, f32)> {
        let single = match self {
            Self::Half(values) => return Ok((values.clone(), 0.0)),
            Self::Single(values) => values,
        };
        let half: Vec<f16> = single.iter().map(|&value| f16::from_f32(value)).collect();
        if let Some(at) = half.iter().position(|value| !value.is_finite()) {
            bail!("a feature is {}, which half precision cannot hold; scale the features, or keep them in single precision", single[at]);
        }
        let normal = single.iter().zip(&half).filter(|(value, _)| value.abs() >= f16::MIN_POSITIVE.to_f32());
        Ok((half.clone(), normal.map(|(value, half)| ((half.to_f32() - value) / value).abs()).fold(0.0, f32::max)))
    }

    /// Whether half precision can hold each of them: training does.
    pub fn fit_half(&self) -> bool {
        match self {
            Self::Half(values) => values.iter().all(|value| value.is_finite()),
            Self::Single(values) => values.iter().all(|&value| f16::from_f32(value).is_finite()),
        }
    }

    /// Little-endian bytes of the numbers from `first` on.
    pub(super) fn to_bytes(&self, first: usize) -> Vec<u8> {
        match self {
            Self::Half(values) => values[first..].iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Single(values) => values[first..].iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// Puts numbers from little-endian bytes after what is there.
    pub(super) fn extend_from_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        ensure!(bytes.len().is_multiple_of(self.dtype().bytes()), "{} bytes are no whole numbers", bytes.len());
        match self {
            Self::Half(values) => values.extend(bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes))),
            Self::Single(values) => values.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        }
        Ok(())
    }
}
