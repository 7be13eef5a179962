//! Which rows belong to one patient: the unit that is resampled, left out or swapped as a whole.

use std::collections::BTreeMap;

/// Patients numbered in the order of their names.
pub(super) struct Clusters {
    /// `[N]`: the number of each row's patient.
    of_row: Vec<usize>,
    /// Number of patients.
    pub count: usize,
}

impl Clusters {
    /// `groups [N]` names each row's patient.
    pub(super) fn new(groups: &[String]) -> Self {
        let mut numbers: BTreeMap<&str, usize> = groups.iter().map(|group| (group.as_str(), 0)).collect();
        numbers.values_mut().enumerate().for_each(|(number, place)| *place = number);
        Self { of_row: groups.iter().map(|group| numbers[group.as_str()]).collect(), count: numbers.len() }
    }

    /// Gives each row what its patient has.
    pub(super) fn spread<T: Copy>(&self, of_patient: &[T], of_row: &mut [T]) {
        for (row, &patient) in of_row.iter_mut().zip(&self.of_row) {
            *row = of_patient[patient];
        }
    }
}
