//! Before the first step: every rank shows what it is about to train, and all compare it with rank 0's.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Ranks;
use super::hand_over::STATE;

const FAILED: &str = "failed";

/// What rank 0 says to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Train.
    Train,
    /// The run is complete: there is nothing to do.
    Done,
}

impl Ranks {
    /// Waits for all ranks and compares `described`, a tree of settings and digests, with rank 0's.
    ///
    /// # Errors
    /// Names the rank that differs from rank 0, and in what; a rank that does not come.
    pub fn meet(&self, described: &Value) -> Result<Verdict> {
        if self.size() == 1 {
            return Ok(Verdict::Train);
        }
        self.tell(&key(self.rank()), described)?;
        let lead = self.shown(0)?;
        if lead.is_null() {
            // Rank 0 may serve the store, so that it stays until this has been read.
            self.count("read")?;
            return Ok(Verdict::Done);
        }
        for rank in 1..self.size() {
            let other = self.shown(rank)?;
            if let Some((place, here, there)) = difference(&lead, &other, "") {
                let (rank_0, rank_n) = (short(here), short(there));
                // Every rank has read every other one's before any of them ends.
                self.count("read")?;
                self.wait_for_count("read")?;
                anyhow::bail!(
                    "rank {rank} of {} differs from rank 0 in {place}: {rank_n} there and {rank_0} on rank 0; start all ranks by one command, on one copy of the data, with one version of the program",
                    self.size()
                );
            }
        }
        Ok(Verdict::Train)
    }

    /// What a rank shows.
    fn shown(&self, rank: usize) -> Result<Value> {
        self.told_unless_failed(&key(rank), rank)
    }

    /// What `rank` has told under `key`.
    pub(super) fn told_unless_failed(&self, key: &str, rank: usize) -> Result<Value> {
        let told = self.told(key)?;
        ensure!(told != json!(FAILED), "rank {rank} ended before the first step; its own message says why");
        Ok(told)
    }

    /// Tells those who wait before the first step that this rank will not come. Without effect afterwards.
    pub fn give_up(&self) {
        let keys = [Some(key(self.rank())), self.leads().then(|| STATE.to_owned())];
        for key in keys.iter().flatten() {
            // Whoever cannot be told sees that the process has ended.
            let _ = self.tell(key, &json!(FAILED));
        }
        // Nor does rank 0, where nothing is left to train, wait for it.
        let _ = self.count("read");
    }

    /// On rank 0, in place of [`Ranks::meet`]: the others need not train.
    ///
    /// # Errors
    /// A rank that does not come.
    pub fn dismiss(&self) -> Result<()> {
        if self.size() > 1 {
            self.tell(&key(0), &Value::Null)?;
            self.count("read")?;
            self.wait_for_count("read")?;
        }
        Ok(())
    }

    /// Whether batches of `batch_size` of `rows` training samples can be shared: all ranks get as many samples of a whole batch, and at least one of
    /// the last one.
    ///
    /// # Errors
    /// Says what to set.
    pub fn check(&self, rows: usize, batch_size: usize, drop_last: bool) -> Result<()> {
        let size = self.size();
        if size == 1 {
            return Ok(());
        }
        ensure!(
            batch_size.is_multiple_of(size),
            "train.batch-size = {batch_size} cannot be shared by {size} ranks; choose a multiple of {size}, or another number of ranks"
        );
        let last = rows % batch_size;
        ensure!(
            rows >= size && (last == 0 || last >= size || (drop_last && rows > batch_size)),
            "the last batch of an epoch has {last} of {batch_size} samples, fewer than the {size} ranks; set train.drop-last = true, or another train.batch-size"
        );
        Ok(())
    }
}

fn key(rank: usize) -> String {
    format!("described/{rank}")
}

/// The first place, in words, where two trees differ, and what stands there.
fn difference<'a>(here: &'a Value, there: &'a Value, place: &str) -> Option<(String, Option<&'a Value>, Option<&'a Value>)> {
    if here == there {
        return None;
    }
    let (Value::Object(ours), Value::Object(theirs)) = (here, there) else {
        return Some((place.to_owned(), Some(here), Some(there)));
    };
    let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
    names.into_iter().find_map(|name| {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        match (ours.get(name), theirs.get(name)) {
            (Some(here), Some(there)) => difference(here, there, &place),
            (here, there) => Some((place, here, there)),
        }
    })
}

fn short(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string().chars().take(60).collect())
}

/// What a rank shows in [`Ranks::meet`].
pub fn describe(settings: &Value, inputs: &impl serde::Serialize, split: &str, weights: &str) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "inputs": inputs,
        "split": split,
        "initial weights": weights,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let lead = json!({"settings": {"train": {"batch-size": 8, "epochs": 3}}, "inputs": {"data": "ab"}});
        let mut other = lead.clone();
        assert!(difference(&lead, &other, "").is_none());
        other["settings"]["train"]["batch-size"] = json!(4);
        let (place, here, there) = difference(&lead, &other, "").unwrap();
        assert_eq!((&*place, short(here), short(there)), ("settings.train.batch-size", "8".into(), "4".into()));
        let more = json!({"settings": {"train": {"batch-size": 8, "epochs": 3}}, "inputs": {"data": "ab", "labels": "cd"}});
        let (place, here, _) = difference(&lead, &more, "").unwrap();
        assert_eq!((&*place, short(here)), ("inputs.labels", "nothing".into()));
    }
}
