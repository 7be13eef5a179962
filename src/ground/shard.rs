//! A share of a list, so that independent calls divide the work without talking to one another: each gets about the same weight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
    /// The share of a task of a Slurm array by its variables; `None` outside of one.
    ///
    /// # Errors
    /// An array that is no range, of which nobody knows how many tasks came before.
    pub fn of_slurm_array(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
        let (Some(id), Some(count)) = (number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")) else { return Ok(None) };
        let (first, last) = (number("SLURM_ARRAY_TASK_MIN").unwrap_or(0), number("SLURM_ARRAY_TASK_MAX").unwrap_or(id));
        let step = number("SLURM_ARRAY_TASK_STEP").filter(|&step| step > 0).unwrap_or(1);
        if id < first || id > last || (last - first) / step + 1 != count || (id - first) % step != 0 {
            return Err(format!(
                "this is task {id} of a Slurm array of {count} tasks from {first} to {last}, which is no range: say --shard I/N, or 1/1 for everything"
            ));
        }
        Ok(Some(Self { index: (id - first) / step + 1, of: count }))
    }

    /// The places in the list that are this share's, and those of the shares after it, of the nearest first; each in the order of the list.
    ///
    /// The heaviest item goes to the share that has least so far, and so on, so that all end at about the same time.
    pub fn divide(self, weights: &[u64]) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by_key(|&place| Reverse(weights[place]));
        let mut loads: BinaryHeap<Reverse<(u64, usize)>> = (0..self.of).map(|share| Reverse((0, share))).collect();
        let mut shares = vec![Vec::new(); self.of];
        for place in order {
            let Some(mut least) = loads.peek_mut() else { break };
            shares[least.0.1].push(place);
            // An item without weight still takes a turn.
            least.0.0 += weights[place].max(1);
        }
        for share in &mut shares {
            share.sort_unstable();
        }
        shares.rotate_left(self.index - 1);
        let own = shares.remove(0);
        (own, shares.concat())
    }

    /// Whether the item at `position` (from 0) of a list whose items weigh the same belongs to this share.
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
        let weights: Vec<u64> = (0..20).map(|item| item * item % 7).collect();
        for of in 1..5 {
            let shards: Vec<Shard> = (1..=of).map(|index| format!("{index}/{of}").parse().unwrap()).collect();
            assert!((0..20).all(|position| shards.iter().filter(|shard| shard.holds(position)).count() == 1));
            let mut all = shards.iter().flat_map(|shard| shard.divide(&weights).0).collect::<Vec<_>>();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
            for shard in shards {
                let (own, others) = shard.divide(&weights);
                let mut both = [own, others].concat();
                both.sort_unstable();
                assert_eq!(both, all);
            }
        }
        for wrong in ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_weigh_about_the_same() {
        let weights = [9, 1, 1, 1, 5, 1, 4, 2];
        let load = |text: &str| text.parse::<Shard>().unwrap().divide(&weights).0.iter().map(|&place| weights[place]).sum::<u64>();
        assert_eq!([load("1/3"), load("2/3"), load("3/3")].iter().max(), Some(&9), "no share has more than the heaviest item");
        let (own, others) = "2/2".parse::<Shard>().unwrap().divide(&[0, 0, 0, 0]);
        assert_eq!((own.len(), others.len()), (2, 2), "files of unknown size are counted");
    }

    #[test]
    fn a_task_of_an_array_knows_its_share() {
        let task = |id: &str, count: &str, min: &str, max: &str, step: &str| {
            let variables = [("ID", id), ("COUNT", count), ("MIN", min), ("MAX", max), ("STEP", step)]
                .map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value.to_owned()));
            Shard::of_slurm_array(move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(task("0", "4", "0", "3", "1").unwrap().unwrap().to_string(), "1/4");
        assert_eq!(task("4", "4", "1", "4", "1").unwrap().unwrap().to_string(), "4/4");
        assert_eq!(task("7", "4", "1", "10", "3").unwrap().unwrap().to_string(), "3/4");
        assert!(task("3", "2", "3", "7", "1").unwrap_err().contains("--shard"));
        assert_eq!(Shard::of_slurm_array(|_| None).unwrap(), None);
    }
}
