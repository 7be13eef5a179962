//! Area under the ROC curve, one class against the rest: the chance that a sample of the class scores above one of another.
//!
//! Ties count one half (the trapezoid rule). Rows are sorted once; a resample then costs one pass per class.

use super::classification::mean;

/// One-vs-rest areas of a scored data set and of any multiset of its rows.
#[derive(Debug)]
pub struct OneVsRest {
    rows: usize,
    /// `[C][N]`: by ascending score of the class.
    pub(super) order: Vec<Vec<Place>>,
}

/// One row's place in the order of a class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub row: u32,
    /// Whether the row is of the class.
    pub positive: bool,
    /// Whether the next row scores higher.
    pub ends_level: bool,
}

impl OneVsRest {
    /// `labels [N]`, `probabilities [N][C]`, finite.
    pub fn new(labels: &[usize], probabilities: &[Vec<f64>]) -> Self {
        let classes = probabilities.first().map_or(0, Vec::len);
        let sorted = |class: usize| {
            let mut rows: Vec<u32> = (0..labels.len() as u32).collect();
            rows.sort_by(|&a, &b| probabilities[a as usize][class].total_cmp(&probabilities[b as usize][class]));
            let place = |at: usize| Place {
                row: rows[at],
                positive: labels[rows[at] as usize] == class,
                ends_level: rows.get(at + 1).is_none_or(|&n| probabilities[n as usize][class] != probabilities[rows[at] as usize][class]),
            };
            (0..rows.len()).map(place).collect()
        };
        Self { rows: labels.len(), order: (0..classes).map(sorted).collect() }
    }

    /// Area per class `[C]` over all rows; `None` for a class without samples, or without samples of other classes.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        self.per_class_of(&vec![1; self.rows])
    }

    /// Area per class of the table in which row i stands `times[i]` times; `times [N]`.
    pub fn per_class_of(&self, times: &[u32]) -> Vec<Option<f64>> {
        self.order.iter().map(|order| area(order, times)).collect()
    }
}

/// Σ over positives of (negatives below + ½ negatives level) / (positives · negatives).
fn area(order: &[Place], times: &[u32]) -> Option<f64> {
    let (mut pairs, mut positives, mut negatives) = (0.0, 0.0, 0.0);
    let (mut positive, mut negative) = (0.0, 0.0);
    for place in order {
        *(if place.positive { &mut positive } else { &mut negative }) += f64::from(times[place.row as usize]);
        if place.ends_level {
            pairs += positive * (negatives + negative / 2.0);
            positives += positive;
            negatives += negative;
            (positive, negative) = (0.0, 0.0);
        }
    }
    (positives > 0.0 && negatives > 0.0).then(|| pairs / (positives * negatives))
}

/// Unweighted mean of the defined areas; NaN if none is.
// METHOD: a class that the test set lacks has no area. Counting it as 0, as some metric libraries do, would punish the model for the split.
pub fn macro_mean(areas: &[Option<f64>]) -> f64 {
    mean(areas.iter().flatten().copied())
}

/// Mean of the defined areas weighted by the number of true samples; NaN if none is.
pub fn weighted_mean(areas: &[Option<f64>], labels: &[usize]) -> f64 {
    let count = |class| labels.iter().filter(|&&label| label == class).count() as f64;
    let defined = areas.iter().enumerate().filter_map(|(class, area)| area.map(|area| (area, count(class))));
    let (sum, weight) = defined.fold((0.0, 0.0), |(sum, weight), (area, count)| (sum + area * count, weight + count));
    sum / weight
}

/// Classes without an area.
pub fn undefined(areas: &[Option<f64>]) -> usize {
    areas.iter().filter(|area| area.is_none()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<usize>, Vec<Vec<f64>>) {
        let rows = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.6, 0.2, 0.2], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5]];
        (vec![0, 0, 0, 1, 1, 2], rows.map(|row| row.to_vec()).to_vec())
    }

    #[test]
    fn areas_of_a_worked_example() {
        let (labels, probabilities) = example();
        let areas = OneVsRest::new(&labels, &probabilities).per_class();
        assert_eq!(areas, [Some(8.0 / 9.0), Some(0.875), Some(1.0)]);
        assert!((macro_mean(&areas) - 0.921_296_296_3).abs() < 1e-9);
    }

    #[test]
    fn monotone_maps_change_nothing() {
        let (labels, probabilities) = example();
        let mapped: Vec<Vec<f64>> = probabilities.iter().map(|row| row.iter().map(|p| (5.0 * p).exp()).collect()).collect();
        assert_eq!(OneVsRest::new(&labels, &probabilities).per_class(), OneVsRest::new(&labels, &mapped).per_class());
    }

    #[test]
    fn a_multiset_of_rows_equals_the_table_it_spells_out() {
        let (labels, probabilities) = example();
        let (rows, times) = ([0, 0, 3, 5, 4, 1, 1], [2, 2, 0, 1, 1, 1]);
        let spelt_labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        let spelt: Vec<Vec<f64>> = rows.iter().map(|&row| probabilities[row].clone()).collect();
        assert_eq!(OneVsRest::new(&labels, &probabilities).per_class_of(&times), OneVsRest::new(&spelt_labels, &spelt).per_class());
    }

    #[test]
    fn absent_classes_are_left_out_and_counted() {
        let probabilities = vec![vec![0.5, 0.5, 0.0]; 3];
        let areas = OneVsRest::new(&[0, 1, 1], &probabilities).per_class();
        assert_eq!(areas, [Some(0.5), Some(0.5), None]);
        assert_eq!((macro_mean(&areas), undefined(&areas)), (0.5, 1));
        assert!(macro_mean(&OneVsRest::new(&[0, 0, 0], &probabilities).per_class()).is_nan());
    }
}
