//! Everything wrong with a list of items, told at once: one sentence a kind of fault, then every item that has it.

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Result, bail};

use crate::ground::listing::listing;

/// Items by what is wrong with them.
#[derive(Default)]
pub(super) struct Offenders(BTreeMap<String, Vec<String>>);

impl Offenders {
    /// `fault`: what is wrong and what to do; `item`: who has it.
    pub(super) fn add(&mut self, fault: impl Into<String>, item: impl Into<String>) {
        self.0.entry(fault.into()).or_default().push(item.into());
    }

    /// # Errors
    /// `what` and every fault with its items, if there is any.
    pub(super) fn refuse(&self, what: impl Display) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let faults: Vec<String> = self.0.iter().map(|(fault, items)| format!("{fault}: {}", listing(items, ", "))).collect();
        bail!("{what}: {}", faults.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_and_the_first_twenty_items() {
        let mut offenders = Offenders::default();
        assert!(offenders.refuse("labels").is_ok());
        (0..23).for_each(|row| offenders.add("empty label", format!("row {row}")));
        offenders.add("empty patient", "row 3");
        let error = offenders.refuse("'labels.csv'").unwrap_err().to_string();
        assert!(error.starts_with("'labels.csv': empty label: row 0, row 1,"), "{error}");
        assert!(error.contains("row 19, and 3 more\nempty patient: row 3") && !error.contains("row 20"), "{error}");
    }
}
