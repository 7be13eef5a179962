//! Which shares of a stage have a job, as Slurm writes arrays: `1-4,7%2`.

use std::collections::BTreeSet;

/// Some of `of` shares, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares {
    /// Number of shares that the work is divided into.
    pub of: usize,
    /// Those that have work.
    pub wanted: BTreeSet<usize>,
}

impl Shares {
    /// All of `of` shares.
    pub(super) fn all(of: usize) -> Self {
        Self { of, wanted: (1..=of).collect() }
    }

    /// Those of `of` shares that hold any of the items at `positions` (from 0).
    pub(super) fn holding(of: usize, positions: &BTreeSet<usize>) -> Self {
        Self { of, wanted: positions.iter().map(|position| position % of + 1).collect() }
    }

    /// The value of `--array`; at most `at_most` of its jobs run at the same time.
    pub(super) fn array(&self, at_most: Option<u32>) -> String {
        let limit = at_most.map_or_else(String::new, |limit| format!("%{limit}"));
        format!("{}{limit}", self.ranges())
    }

    fn ranges(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for &share in &self.wanted {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == share => *last = share,
                _ => ranges.push((share, share)),
            }
        }
        let text = |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        ranges.iter().map(text).collect::<Vec<_>>().join(",")
    }
}

/// The shares that an array expression names.
pub(in crate::pipeline::executors) fn members(expression: &str) -> BTreeSet<usize> {
    let list = expression.split('%').next().unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_written_in_ranges_and_read_back() {
        assert_eq!(Shares::all(4).array(Some(2)), "1-4%2");
        assert_eq!(Shares::all(1).array(None), "1");
        let some = Shares::holding(5, &BTreeSet::from([0, 5, 2, 3, 7, 14]));
        assert_eq!((some.array(None).as_str(), some.wanted.len()), ("1,3-5", 4));
        assert_eq!(members("1,3-5%2"), some.wanted);
        assert_eq!((members("7").len(), members("1-10000%50").len()), (1, 10000));
    }
}
