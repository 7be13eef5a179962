//! Smooth random fields: value noise on a lattice, from integer hashes, so that a place's value needs no memory.

/// Value noise, one lattice a seed.
#[derive(Clone, Copy)]
pub(super) struct Noise(pub(super) u32);

impl Noise {
    /// 0–1, continuous; a lattice point every 1.0.
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (u, v) = (ease(x - left), ease(y - top));
        let (column, row) = (left as i32, top as i32);
        let upper = mix(self.point(column, row), self.point(column + 1, row), u);
        let lower = mix(self.point(column, row + 1), self.point(column + 1, row + 1), u);
        mix(upper, lower, v)
    }

    /// 0–1 at a lattice point.
    fn point(self, column: i32, row: i32) -> f32 {
        let mut hash = self.0 ^ (column as u32).wrapping_mul(0x9E37_79B1) ^ (row as u32).wrapping_mul(0x85EB_CA77);
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D);
        hash = (hash ^ (hash >> 12)).wrapping_mul(0x297A_2D39);
        hash ^= hash >> 15;
        (hash >> 8) as f32 / (1 << 24) as f32
    }
}

/// 3t² − 2t³: no creases at lattice lines.
pub(super) fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}
