//! A share of a list: every n-th item, so that independent calls divide the work without talking to one another.

use std::fmt;
use std::str::FromStr;

/// Share `index` of `of`; written `2/5`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Default for Shard {
    /// The whole list.
    fn default() -> Self {
        Self { index: 1, of: 1 }
    }
}

impl Shard {
    /// Whether the item at `position` (from 0) of the sorted list belongs to this share.
    pub fn holds(self, position: usize) -> bool {
        position % self.of == self.index - 1
    }

    /// Whether it is the whole list.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(format!("'{text}' is no share; it wants i/n with 1 ≤ i ≤ n, for example 1/3")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_exactly_one_share() {
        for of in 1..5 {
            let shards: Vec<Shard> = (1..=of).map(|index| format!("{index}/{of}").parse().unwrap()).collect();
            assert!((0..20).all(|position| shards.iter().filter(|shard| shard.holds(position)).count() == 1));
        }
        for wrong in ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
