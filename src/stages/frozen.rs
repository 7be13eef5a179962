//! A frozen encoder on a device: pixels in, half-precision vectors out, the same bytes at any number of threads.
//!
//! On a GPU a whole batch is one call. On a processor each thread takes a few tiles at a time with libtorch's own
//! threads off: no waiting for one another inside a layer, maps that stay in the cache, and a result that depends on the
//! tiles alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rayon::prelude::*;
use tch::nn::VarStore;
use tch::{Device, Kind};

use super::Machine;
use crate::config::Config;
use crate::encoders::{self, Encoder, Normalisation};
use crate::ground::seed;
use crate::store::bag::Origin;
use crate::store::{digest, weights};
use crate::tiling::stream::TileBatch;

/// Tiles that a processor thread embeds at once. Measured with the default encoder on one core: 63 tiles/s of 1 or 2, 46
/// of 4 to 16, 38 of 32, where the system spends a third of the time on handing out memory for the maps.
const TILES_AT_ONCE: usize = 2;

/// The encoder and all that says what it is.
pub(super) struct Frozen {
    encoder: Shared,
    normalisation: Normalisation,
    device: Device,
    threads: rayon::ThreadPool,
    /// Side of the tiles that it wants, pixels.
    pub(super) input_px: u32,
    /// D
    pub(super) width: usize,
    /// What is written into every bag.
    pub(super) origin: Origin,
}

struct Shared(Box<dyn Encoder>);

// SAFETY: a frozen encoder only reads its tensors, and libtorch allows any number of threads to read a tensor; reference
// counts are atomic and the gradient mode is per thread. tch leaves `Sync` out because of operations that write.
unsafe impl Sync for Shared {}

impl Frozen {
    /// Builds the network and loads `file`, or the encoder's own weight file, or draws random weights where the settings say so.
    ///
    /// # Errors
    /// A weight file that is missing, damaged or another network's.
    pub(super) fn new(config: &Config, file: Option<&Path>, machine: &Machine) -> Result<Self> {
        let settings = &config.extract.encoder;
        let name = settings.name();
        let store = VarStore::new(machine.device);
        seed::seed_torch(config.seed, "encoder");
        let mut encoder = settings.build(&store.root());
        let weights = if config.extract.random_weights {
            ensure!(file.is_none(), "a weight file and random weights exclude each other");
            tracing::warn!("extract: {name} with random weights, as asked; its features know nothing of images");
            random(config)
        } else {
            let path = weight_file(name, file)?;
            let weights = weights::load(&path)?;
            weights::load_into(&store, &weights.tensors, settings.unused()).with_context(|| format!("'{}' for {name}", path.display()))?;
            weights.sha256
        };
        encoder.freeze();
        let threads = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).start_handler(|_| tch::set_num_threads(1)).build();
        Ok(Self {
            width: encoder.width() as usize,
            encoder: Shared(encoder),
            normalisation: settings.normalisation(),
            device: machine.device,
            threads: threads.context("cannot start the worker threads")?,
            input_px: settings.input_px(),
            origin: Origin { encoder: name.to_owned(), weights },
        })
    }

    /// Vectors of a batch, `[B,D]` row by row.
    ///
    /// # Errors
    /// A number that half precision cannot hold.
    pub(super) fn embed(&self, batch: &TileBatch) -> Result<Vec<f16>> {
        if batch.count == 0 {
            return Ok(Vec::new()); // nothing could be read; libtorch refuses empty pictures
        }
        let values = if self.device == Device::Cpu {
            let tile_bytes = batch.pixels.len() / batch.count.max(1);
            let parts = self.threads.install(|| {
                let parts = batch.pixels.par_chunks((TILES_AT_ONCE * tile_bytes).max(1));
                parts.map(|pixels| self.forward(pixels, pixels.len() / tile_bytes)).collect::<Result<Vec<_>>>()
            });
            parts?.concat()
        } else {
            self.forward(&batch.pixels, batch.count)?
        };
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "{} gave numbers that half precision cannot hold in tiles {} to {}; check the weights",
            self.origin.encoder,
            batch.first,
            batch.first + batch.status.len() - 1
        );
        Ok(values)
    }

    fn forward(&self, pixels: &[u8], count: usize) -> Result<Vec<f16>> {
        let side = (pixels.len() / count.max(1) / 3).isqrt() as u32;
        let embedding = tch::no_grad(|| {
            let mut images = encoders::prepare(pixels, count, side, &self.normalisation, self.device);
            if side != self.input_px {
                // METHOD: bilinear with antialiasing, as Pillow shrinks; only where the settings allow it.
                images = images.internal_upsample_bilinear2d_aa([i64::from(self.input_px); 2], false, None, None);
            }
            self.encoder.0.embed(&images, false).to_kind(Kind::Half).to_device(Device::Cpu)
        });
        Ok(Vec::try_from(embedding.flatten(0, -1))?)
    }
}

/// What the bags will name as their weights, without building anything.
///
/// # Errors
/// A weight file that is missing.
pub(super) fn weights_name(config: &Config, file: Option<&Path>) -> Result<String> {
    if config.extract.random_weights { Ok(random(config)) } else { digest::file(&weight_file(config.extract.encoder.name(), file)?) }
}

fn random(config: &Config) -> String {
    format!("random, seed {}", config.seed)
}

fn weight_file(encoder: &str, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let path = weights::path_in(&weights::folder(), encoder);
    if !path.is_file() {
        bail!(
            "no weights for {encoder}: '{}' is not there; run `wsi weights import FILE --encoder {encoder}`, give --weights FILE, or ask for --random-weights",
            path.display()
        );
    }
    Ok(path)
}
