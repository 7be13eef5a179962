//! Conditional mutual information, class separation and their ratio NCMI of output distributions on a data set.
//!
//! Yang et al., "Conditional Mutual Information Constrained Deep Learning" (arXiv 2309.09123) and the NCMI paper
//! (arXiv 2601.02543), eqs 5–8. Natural logarithms.

use crate::store::scores::Information;

/// Probabilities are floored here before a logarithm; terms with probability 0 are 0.
const FLOOR: f64 = 1e-30;

/// Three readings of the separation Γ; every output names the one that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gamma {
    /// Mean over samples of (1/C) Σ_{c ≠ y} KL(s_c ‖ p), s_c the class means.
    // METHOD: the only reading of eq 7 that agrees with the objective that is trained.
    #[default]
    Centroid,
    /// Σ over pairs of samples of different classes of the cross-entropy H(p_i, p_j), divided by n².
    PairCrossEntropy,
    /// As the former with KL(p_i ‖ p_j).
    PairDivergence,
}

impl Gamma {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Centroid => "centroid",
            Self::PairCrossEntropy => "pair_ce",
            Self::PairDivergence => "pair_kl",
        }
    }
}

/// What [`concentration`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Concentration {
    /// Class means s `[C][m]`; `None` for a class without samples.
    pub centroids: Vec<Option<Vec<f64>>>,
    /// Mean over samples of KL(p ‖ s_y), nats.
    pub cmi: f64,
    /// `[C]`, the same within each class; `None` for a class without samples.
    pub cmi_per_class: Vec<Option<f64>>,
    /// Separation, nats.
    pub gamma: f64,
    /// CMI / Γ; NaN where that is undefined.
    pub ncmi: f64,
    /// Why `ncmi` is undefined.
    pub undefined: Option<&'static str>,
    /// Which Γ.
    pub variant: Gamma,
}

impl From<&Concentration> for Information {
    fn from(of: &Concentration) -> Self {
        Self { cmi: of.cmi, gamma: of.gamma, ncmi: of.ncmi, variant: of.variant.name().to_owned() }
    }
}

/// Sums over one class.
#[derive(Debug, Clone)]
struct Class {
    count: f64,
    /// Σ p, then the mean `[m]`.
    mean: Vec<f64>,
    /// Σ log p `[m]`.
    log_sum: Vec<f64>,
    /// Σ over samples of Σ_k p log p.
    negative_entropy: f64,
}

/// First of two passes over samples that come in batches: class means and the sums behind every Γ, in O(C·m) memory.
///
/// Two passes, because CMI is small: as a difference of whole entropies, which one pass could give, it would drown in rounding.
/// The result does not depend on where batches end.
#[derive(Debug, Clone)]
pub struct Means {
    classes: Vec<Class>,
}

/// Second of two passes, over the same samples: how far each lies from its class mean.
#[derive(Debug, Clone)]
pub struct Distances {
    classes: Vec<Class>,
    /// `[C]`: Σ KL(p ‖ s) and how many samples were added to it.
    within: Vec<(f64, f64)>,
}

impl Means {
    /// For distributions over `width` (m) outcomes.
    pub fn new(classes: usize, width: usize) -> Self {
        let empty = Class { count: 0.0, mean: vec![0.0; width], log_sum: vec![0.0; width], negative_entropy: 0.0 };
        Self { classes: vec![empty; classes] }
    }

    /// Adds a sample: its distribution `p [m]`, which sums to 1, and its class.
    pub fn add(&mut self, p: &[f64], label: usize) {
        let class = &mut self.classes[label];
        class.count += 1.0;
        class.negative_entropy += dot_log(p, p);
        for ((mean, log_sum), &p) in class.mean.iter_mut().zip(&mut class.log_sum).zip(p) {
            *mean += p;
            *log_sum += p.max(FLOOR).ln();
        }
    }

    /// Ends the first pass.
    pub fn finish(self) -> Distances {
        let mut classes = self.classes;
        for class in classes.iter_mut().filter(|class| class.count > 0.0) {
            class.mean.iter_mut().for_each(|mean| *mean /= class.count);
        }
        let within = vec![(0.0, 0.0); classes.len()];
        Distances { classes, within }
    }
}

impl Distances {
    /// Adds a sample again.
    pub fn add(&mut self, p: &[f64], label: usize) {
        let (sum, count) = &mut self.within[label];
        *sum += divergence(p, &self.classes[label].mean);
        *count += 1.0;
    }

    /// What both passes found. Classes without samples are left out, also of the divisor C.
    ///
    /// # Panics
    /// The second pass saw other samples than the first.
    pub fn measure(&self, variant: Gamma) -> Concentration {
        let again = self.within.iter().map(|(_, count)| *count);
        assert!(again.eq(self.classes.iter().map(|class| class.count)), "both passes must see the same samples");
        let samples: f64 = self.classes.iter().map(|class| class.count).sum();
        let per_class = |(class, (sum, _)): (&Class, &(f64, f64))| (class.count > 0.0).then(|| sum / class.count);
        let cmi_per_class = self.classes.iter().zip(&self.within).map(per_class).collect();
        let cmi = self.within.iter().map(|(sum, _)| sum).sum::<f64>() / samples;

        let present: Vec<&Class> = self.classes.iter().filter(|class| class.count > 0.0).collect();
        let gamma = if present.len() < 2 { 0.0 } else { separation(&present, samples, variant) };
        let undefined = match present.len() {
            0 => Some("there are no samples"),
            1 => Some("all samples are of one class: there is no separation to divide by"),
            _ if gamma <= 0.0 => Some("the classes' distributions are equal: there is no separation to divide by"),
            _ => None,
        };
        let ncmi = if undefined.is_none() { cmi / gamma } else { f64::NAN };
        let centroids = self.classes.iter().map(|class| (class.count > 0.0).then(|| class.mean.clone())).collect();
        Concentration { centroids, cmi, cmi_per_class, gamma, ncmi, undefined, variant }
    }
}

/// Measures `distributions [N][m]` (rows sum to 1) under `labels [N]` with `classes` classes, in O(N·m + C·m) time for every
/// variant. For samples that do not fit into memory together: [`Means`], then [`Distances`].
///
/// Classes without samples are left out, also of the divisor C.
pub fn concentration(distributions: &[Vec<f64>], labels: &[usize], classes: usize, variant: Gamma) -> Concentration {
    let mut means = Means::new(classes, distributions.first().map_or(0, Vec::len));
    distributions.iter().zip(labels).for_each(|(p, &label)| means.add(p, label));
    let mut distances = means.finish();
    distributions.iter().zip(labels).for_each(|(p, &label)| distances.add(p, label));
    distances.measure(variant)
}

/// Sums over pairs of different classes are sums over all pairs less those within a class, and both factor.
fn separation(present: &[&Class], samples: f64, variant: Gamma) -> f64 {
    let width = present[0].mean.len();
    let log_total: Vec<f64> = (0..width).map(|k| present.iter().map(|class| class.log_sum[k]).sum()).collect();
    // The class's mean · Σ log p over the samples of other classes.
    let cross = |class: &Class| (0..width).map(|k| class.mean[k] * (log_total[k] - class.log_sum[k])).sum::<f64>();
    match variant {
        Gamma::Centroid => {
            let one = |class: &&Class| (samples - class.count) * dot_log(&class.mean, &class.mean) - cross(class);
            present.iter().map(one).sum::<f64>() / (samples * present.len() as f64)
        }
        Gamma::PairCrossEntropy => -present.iter().map(|class| class.count * cross(class)).sum::<f64>() / (samples * samples),
        Gamma::PairDivergence => {
            let one = |class: &&Class| (samples - class.count) * class.negative_entropy - class.count * cross(class);
            present.iter().map(one).sum::<f64>() / (samples * samples)
        }
    }
}

/// Σ p log q.
fn dot_log(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * q.max(FLOOR).ln()).sum()
}

/// KL(p ‖ q) in nats.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p.max(FLOOR) / q.max(FLOOR)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Vec<Vec<f64>>, Vec<usize>) {
        let rows = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]];
        (rows.map(|row| row.to_vec()).to_vec(), vec![0, 0, 1, 1, 2])
    }

    #[test]
    fn the_three_variants_of_a_worked_example() {
        let (rows, labels) = example();
        for (variant, gamma, ncmi) in [
            (Gamma::Centroid, 0.453_312_434, 0.027_456_660),
            (Gamma::PairCrossEntropy, 0.979_189_498, 0.012_710_967),
            (Gamma::PairDivergence, 0.432_458_210, 0.028_780_689),
        ] {
            let found = concentration(&rows, &labels, 3, variant);
            assert!((found.cmi - 0.012_446_445).abs() < 1e-9, "{variant:?}: {found:?}");
            assert!((found.gamma - gamma).abs() < 1e-9, "{variant:?}: {found:?}");
            assert!((found.ncmi - ncmi).abs() < 1e-9, "{variant:?}: {found:?}");
        }
        let within = concentration(&rows, &labels, 3, Gamma::Centroid).cmi_per_class;
        assert!((within[0].unwrap() - (0.007_246_87 + 0.006_670_84) / 2.0).abs() < 1e-8);
        assert_eq!(within[2], Some(0.0), "a class of one sample contributes nothing");
    }

    /// Every definition spelt out over samples and pairs of samples.
    fn by_definition(rows: &[Vec<f64>], labels: &[usize], classes: usize, variant: Gamma) -> (f64, f64) {
        let (n, width) = (rows.len() as f64, rows[0].len());
        let members = |class: usize| rows.iter().zip(labels).filter(move |(_, label)| **label == class).map(|(row, _)| row);
        let present: Vec<usize> = (0..classes).filter(|&class| members(class).count() > 0).collect();
        let mean = |class: usize| (0..width).map(|k| members(class).map(|p| p[k]).sum::<f64>() / members(class).count() as f64).collect();
        let means: Vec<Vec<f64>> = (0..classes).map(mean).collect();
        let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        let entropy = |p: &[f64], q: &[f64]| -p.iter().zip(q).map(|(p, q)| p * q.ln()).sum::<f64>();
        let cmi = rows.iter().zip(labels).map(|(p, &label)| kl(p, &means[label])).sum::<f64>() / n;
        let pairs = |term: &dyn Fn(&[f64], &[f64]) -> f64| {
            let apart = |i: usize| (0..rows.len()).filter(move |&j| labels[i] != labels[j]).map(move |j| (i, j));
            (0..rows.len()).flat_map(apart).map(|(i, j)| term(&rows[i], &rows[j])).sum::<f64>() / (n * n)
        };
        let gamma = match variant {
            Gamma::Centroid => {
                let others =
                    |(p, label): (&Vec<f64>, &usize)| present.iter().filter(|c| *c != label).map(|&c| kl(&means[c], p)).sum::<f64>();
                rows.iter().zip(labels).map(others).sum::<f64>() / (n * present.len() as f64)
            }
            Gamma::PairCrossEntropy => pairs(&entropy),
            Gamma::PairDivergence => pairs(&kl),
        };
        (cmi, gamma)
    }

    #[test]
    fn batches_give_what_the_definitions_give() {
        // Class 3 of 5 never occurs; rows of 6 positive numbers are scaled to sum 1.
        let labels: Vec<usize> = (0..40).map(|i| [0, 1, 2, 4][i * i % 7 % 4]).collect();
        let odds = |i: usize, k: usize| 0.05 + ((i * 13 + k * 7) % 11) as f64 + if k == labels[i] { 9.0 } else { 0.0 };
        let row = |i: usize| (0..6).map(|k| odds(i, k) / (0..6).map(|k| odds(i, k)).sum::<f64>()).collect();
        let rows: Vec<Vec<f64>> = (0..40).map(row).collect();
        let mut means = Means::new(5, 6);
        let batches = || rows.chunks(7).zip(labels.chunks(7)).map(|(rows, labels)| rows.iter().zip(labels));
        batches().flatten().for_each(|(p, &label)| means.add(p, label));
        let mut distances = means.finish();
        batches().flatten().for_each(|(p, &label)| distances.add(p, label));
        for variant in [Gamma::Centroid, Gamma::PairCrossEntropy, Gamma::PairDivergence] {
            let (found, (cmi, gamma)) = (distances.measure(variant), by_definition(&rows, &labels, 5, variant));
            assert!((found.cmi - cmi).abs() < 1e-13 && (found.gamma - gamma).abs() < 1e-12, "{found:?} {cmi} {gamma}");
            assert_eq!(found, concentration(&rows, &labels, 5, variant));
        }
    }

    #[test]
    #[should_panic(expected = "both passes must see the same samples")]
    fn a_second_pass_over_other_samples_is_a_bug() {
        let mut means = Means::new(2, 2);
        means.add(&[0.5, 0.5], 0);
        let mut distances = means.finish();
        distances.add(&[0.5, 0.5], 1);
        distances.measure(Gamma::Centroid);
    }

    #[test]
    fn an_absent_class_changes_nothing() {
        let (rows, labels) = example();
        let (three, four) = (concentration(&rows, &labels, 3, Gamma::Centroid), concentration(&rows, &labels, 4, Gamma::Centroid));
        assert_eq!((three.ncmi, four.cmi_per_class[3]), (four.ncmi, None));
    }

    #[test]
    fn without_separation_there_is_a_reason_and_no_infinity() {
        let found = concentration(&[vec![0.9, 0.1], vec![0.8, 0.2]], &[0, 0], 2, Gamma::Centroid);
        assert_eq!(found.gamma, 0.0);
        assert!(found.ncmi.is_nan() && found.undefined.is_some());
    }

    #[test]
    fn exact_zeros_stay_finite() {
        let found = concentration(&[vec![1.0, 0.0], vec![0.0, 1.0]], &[0, 1], 2, Gamma::Centroid);
        assert!(found.cmi == 0.0 && found.gamma.is_finite() && found.ncmi == 0.0);
    }
}
