//! What a slide looks like from afar, in 35 bytes: equal for a copy that was re-encoded or cropped by a few pixels.
//!
//! Made by `tiling::fingerprint`, carried by coordinates and bags, compared by `datasets::leaks`.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Largest difference of a colour channel between two pictures of one slide.
///
/// METHOD: re-encoding moves the mean colour of the tissue by 2 of 255 levels at most, another stain by 20 and more.
const SAME_COLOUR: u8 = 16;

const BITS: usize = 256;

/// 256 comparisons of neighbouring cells, and the tissue's mean colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint {
    /// Row by row: whether a cell is darker than its right neighbour.
    pub bits: [u64; BITS / 64],
    /// Red, green, blue.
    pub colour: [u8; 3],
}

impl Fingerprint {
    /// How many of 256 bits differ; `None` where the colours alone tell the two apart.
    pub fn distance(&self, other: &Self) -> Option<u32> {
        let alike = self.colour.iter().zip(&other.colour).all(|(a, b)| a.abs_diff(*b) <= SAME_COLOUR);
        alike.then(|| self.bits.iter().zip(&other.bits).map(|(a, b)| (a ^ b).count_ones()).sum())
    }
}

impl From<Fingerprint> for String {
    fn from(Fingerprint { bits, colour: [red, green, blue] }: Fingerprint) -> Self {
        let bits: Self = bits.iter().map(|word| format!("{word:016x}")).collect();
        format!("{bits}-{red:02x}{green:02x}{blue:02x}")
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let damaged = || format!("'{text}' is no fingerprint");
        let (bits, colour) = text.split_once('-').with_context(damaged)?;
        ensure!(bits.len() == BITS / 4 && colour.len() == 6 && text.is_ascii(), damaged());
        let mut found = Self { bits: [0; BITS / 64], colour: [0; 3] };
        for (index, word) in found.bits.iter_mut().enumerate() {
            *word = u64::from_str_radix(&bits[16 * index..][..16], 16).with_context(damaged)?;
        }
        for (index, channel) in found.colour.iter_mut().enumerate() {
            *channel = u8::from_str_radix(&colour[2 * index..][..2], 16).with_context(damaged)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_from_text_and_counts_bits() {
        let one = Fingerprint { bits: [1, 2, 3, u64::MAX], colour: [200, 100, 0] };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), one);
        assert!(serde_json::from_str::<Fingerprint>("\"12-34\"").is_err());
        assert_eq!(one.distance(&Fingerprint { bits: [0, 2, 3, 0], ..one }), Some(65));
        assert_eq!(one.distance(&Fingerprint { colour: [200, 117, 0], ..one }), None);
    }
}
