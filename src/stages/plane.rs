//! Principal components as a plane to look at embeddings on.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::learn::evaluate::rows;
use crate::render::figures::{self, Axes, Cloud};

/// The two directions in which some rows differ most.
pub(super) struct Plane {
    middle: Tensor,
    /// `[E,2]`
    directions: Tensor,
    /// Share of the variance along each.
    pub shares: [f64; 2],
}

impl Plane {
    /// Of `rows [n,E]`, n and E at least 1, in double precision.
    pub(super) fn of(rows: &Tensor) -> Self {
        let middle = rows.mean_dim(0, true, Kind::Double);
        let (_, values, directions) = (rows - &middle).svd(true, true);
        let variances = values.square();
        let total = variances.sum(Kind::Double).double_value(&[]).max(f64::MIN_POSITIVE);
        let directions = directions.narrow(1, 0, directions.size()[1].min(2));
        // The sign of a direction means nothing; one is chosen, so that equal runs give equal pictures.
        let largest = directions.gather(0, &directions.abs().argmax(0, true), false);
        let share = |index: i64| if index < variances.size()[0] { variances.double_value(&[index]) / total } else { 0.0 };
        Self { middle, directions: directions * largest.sign(), shares: [share(0), share(1)] }
    }

    /// Points `[k,E]` on the plane.
    pub(super) fn place(&self, points: &Tensor) -> Vec<(f64, f64)> {
        let placed = (points - &self.middle).matmul(&self.directions);
        rows(&placed).into_iter().map(|row| (row[0], row.get(1).copied().unwrap_or(0.0))).collect()
    }

    /// As inline SVG.
    pub(super) fn draw(&self, clouds: &[Cloud], title: &str, alt: &str) -> Result<String> {
        let [x, y] = [0, 1].map(|index| format!("component {}, {:.0} % of the variance", index + 1, 100.0 * self.shares[index]));
        figures::plane(clouds, &Axes { title, x: &x, y: &y, doubling: false }, alt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_is_found_and_its_sign_is_fixed() {
        // Points on a line in three dimensions.
        let rows = Tensor::from_slice(&[0.0, 0.0, 1.0, -3.0, 0.0, 1.0, 3.0, 0.0, 1.0]).view([3, 3]);
        let plane = Plane::of(&rows);
        assert!((plane.shares[0] - 1.0).abs() < 1e-12);
        let placed = plane.place(&rows);
        assert!((placed[2].0 - 3.0).abs() < 1e-12 && (placed[1].0 + 3.0).abs() < 1e-12, "{placed:?}");
    }
}
