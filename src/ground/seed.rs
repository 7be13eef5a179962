//! One seed, many named streams: a stream's numbers depend on the seed and its name alone, never on what else was drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The stream called `name` of `seed`. Names in use are listed in `docs/notation.md`.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// Seeds libtorch's global generator (dropout, initial weights) from the stream called `name`.
pub fn seed_torch(seed: u64, name: &str) {
    use rand::RngCore;
    tch::manual_seed((stream(seed, name).next_u64() >> 1) as i64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn a_stream_depends_on_seed_and_name_only() {
        let first = |seed, name| stream(seed, name).next_u64();
        assert_eq!(first(1, "split"), first(1, "split"));
        assert_ne!(first(1, "split"), first(2, "split"));
        assert_ne!(first(1, "split"), first(1, "order"));
    }
}
