//! What bags say of the slides behind them, so that one slide under two names is recognised, whoever wrote the bag.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;

use super::{bag, coords};
use crate::ground::fingerprint::Fingerprint;
use crate::ground::units::Coord;

/// One bag's slide. Each of them is `None` where the bag does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Fast digest of the slide's bytes.
    pub slide: Option<String>,
    /// Digest of the features; only where another bag has as many tiles of the same width.
    pub features: Option<String>,
    /// Digest of the coordinates; only where another bag has as many tiles, and where their outline is the tissue's own.
    pub coords: Option<String>,
    /// What the slide looks like from afar.
    pub fingerprint: Option<Fingerprint>,
}

/// METHOD: a whole canvas or a bar of tiles has the same coordinates on every slide of that size; with this many empty places in
/// the lattice that the tiles span, equal coordinates are no coincidence.
const EMPTY_PLACES: usize = 64;

/// The slides behind `folder/<id>.h5`, in the order of `ids`.
///
/// # Errors
/// A bag that is missing or damaged; names it.
pub fn read(folder: &Path, ids: &[String]) -> Result<Vec<Identity>> {
    let paths: Vec<PathBuf> = ids.iter().map(|id| folder.join(format!("{id}.h5"))).collect();
    let shapes = paths.par_iter().map(|path| bag::read_shape(path)).collect::<Result<Vec<_>>>()?;
    let (mut of_shape, mut of_length) = (BTreeMap::new(), BTreeMap::new());
    for &shape in &shapes {
        *of_shape.entry(shape).or_insert(0) += 1;
        *of_length.entry(shape.0).or_insert(0) += 1;
    }
    let one = |(path, shape): (&PathBuf, &(usize, usize))| identity(path, of_shape[shape] > 1, of_length[&shape.0] > 1);
    paths.par_iter().zip(&shapes).map(one).collect()
}

fn identity(path: &Path, features_matter: bool, coords_matter: bool) -> Result<Identity> {
    let header = bag::read_header(path)?;
    let mut found = Identity::default();
    if coords_matter && let Some(coords) = bag::read_coords(path)?.filter(|coords| outlined(coords)) {
        found.coords = Some(coords::digest_of(&coords));
    }
    match header {
        Some(header) => {
            found.slide = is_digest(&header.slide_digest).then_some(header.slide_digest);
            found.features = features_matter.then_some(header.features_digest);
            found.fingerprint = header.fingerprint;
        }
        None if features_matter => found.features = Some(bag::features_digest(&bag::read_features(path)?.values)),
        None => {}
    }
    Ok(found)
}

/// Whether it is a sha256; a made-up bag may say `none`.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the tiles leave enough of their lattice empty for an outline of their own.
fn outlined(coords: &[Coord]) -> bool {
    let distinct = |of: fn(&Coord) -> i64| coords.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
    distinct(|at| at.x) * distinct(|at| at.y) >= coords.len() + EMPTY_PLACES
}
