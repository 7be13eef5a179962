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
struct Class {
    count: f64,
    /// Σ p, then the mean `[m]`.
    mean: Vec<f64>,
    /// Σ log p `[m]`.
    log_sum: Vec<f64>,
    /// Σ over samples of Σ_k p log p.
    negative_entropy: f64,
}

/// Measures `distributions [N][m]` (rows sum to 1) under `labels [N]` with `classes` classes, in O(N·m + C·m) for every variant.
///
/// Classes without samples are left out, also of the divisor C.
pub fn concentration(distributions: &[Vec<f64>], labels: &[usize], classes: usize, variant: Gamma) -> Concentration {
    let width = distributions.first().map_or(0, Vec::len);
    let samples = labels.len() as f64;
    let empty = || Class { count: 0.0, mean: vec![0.0; width], log_sum: vec![0.0; width], negative_entropy: 0.0 };
    let mut of: Vec<Class> = (0..classes).map(|_| empty()).collect();
    for (p, &label) in distributions.iter().zip(labels) {
        let class = &mut of[label];
        class.count += 1.0;
        class.negative_entropy += dot_log(p, p);
        for ((mean, log_sum), &p) in class.mean.iter_mut().zip(&mut class.log_sum).zip(p) {
            *mean += p;
            *log_sum += p.max(FLOOR).ln();
        }
    }
    for class in of.iter_mut().filter(|class| class.count > 0.0) {
        class.mean.iter_mut().for_each(|mean| *mean /= class.count);
    }

    // Σ over a class of KL(p ‖ s), sample by sample: the result is small and would drown in sums of whole entropies.
    let mut within = vec![0.0; classes];
    for (p, &label) in distributions.iter().zip(labels) {
        within[label] += divergence(p, &of[label].mean);
    }
    let cmi_per_class = of.iter().zip(&within).map(|(class, sum)| (class.count > 0.0).then(|| sum / class.count)).collect();
    let cmi = within.iter().sum::<f64>() / samples;

    let present: Vec<&Class> = of.iter().filter(|class| class.count > 0.0).collect();
    let gamma = if present.len() < 2 { 0.0 } else { separation(&present, samples, variant) };
    let undefined = match present.len() {
        0 => Some("there are no samples"),
        1 => Some("all samples are of one class: there is no separation to divide by"),
        _ if gamma <= 0.0 => Some("the classes' distributions are equal: there is no separation to divide by"),
        _ => None,
    };
    let ncmi = if undefined.is_none() { cmi / gamma } else { f64::NAN };
    let centroids = of.into_iter().map(|class| (class.count > 0.0).then_some(class.mean)).collect();
    Concentration { centroids, cmi, cmi_per_class, gamma, ncmi, undefined, variant }
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
