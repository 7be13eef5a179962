//! Student's t distribution, for intervals over a handful of seeds. Source: Abramowitz and Stegun 26.7.3 and 26.7.4.

/// The t with 95 % of the distribution of `freedom` degrees of freedom between −t and t.
///
/// # Panics
/// No degree of freedom.
pub fn two_sided_95(freedom: usize) -> f64 {
    assert!(freedom > 0, "one value has no spread");
    // 12.7 with one degree of freedom is the largest.
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if between(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Share of the distribution between −t and t.
fn between(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    // Terms in powers of the cosine, each from the former one.
    let (mut term, mut power) = if odd { (cosine, 1) } else { (1.0, 0) };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    while power + 4 <= freedom {
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
        sum += term;
    }
    if odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_values() {
        for (freedom, t) in [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (10, 2.2281), (30, 2.0423), (120, 1.9799)] {
            assert!((two_sided_95(freedom) - t).abs() < 1e-4, "{freedom}: {}", two_sided_95(freedom));
        }
    }
}
