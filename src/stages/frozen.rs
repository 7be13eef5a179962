//! A frozen encoder on a device, with its weights and all that bags say of it.
//!
//! On a GPU a whole batch is one call. On a processor each thread takes a few tiles at a time with libtorch's own
//! threads off: no waiting for one another inside a layer, maps that stay in the cache, and a result that depends on the
//! tiles alone (`extract::embed`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::Machine;
use crate::config::Config;
use crate::encoders::exported::{self, Exported};
use crate::encoders::preprocess::Preprocess;
use crate::encoders::{Encoder, EncoderSettings, EncoderSpec};
use crate::ground::seed;
use crate::ground::units::Size;
use crate::store::bag::Origin;
use crate::store::{digest, weights};
use crate::torch::autocast::autocast;

/// The encoder and all that says what it is.
pub(super) struct Frozen {
    encoder: Shared,
    input: Preprocess,
    pub(super) device: Device,
    /// Those that embed, on a processor.
    pub(super) threads: rayon::ThreadPool,
    /// Tiles that a thread of them embeds at once.
    pub(super) tiles_at_once: usize,
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
        let spec = &config.extract.encoder;
        let name = &spec.name;
        let (mut encoder, weights) = network(config, file, machine.device)?;
        encoder.freeze();
        let threads = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).start_handler(|_| tch::set_num_threads(1)).build();
        Ok(Self {
            width: encoder.width() as usize,
            tiles_at_once: encoder.tiles_at_once(),
            encoder: Shared(encoder),
            input: spec.input.clone(),
            device: machine.device,
            threads: threads.context("cannot start the worker threads")?,
            input_px: spec.px()?,
            origin: Origin { encoder: name.clone(), weights, computed: None },
        })
    }

    /// Tiles `[count, P, P, 3]` as the network's input on its device, `[count,3,px,px]`, f32.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn prepare(&self, pixels: &[u8], count: usize) -> Result<Tensor> {
        let side = (pixels.len() / count.max(1) / 3).isqrt() as u32;
        tch::no_grad(|| self.input.apply(pixels, count, Size { width: side, height: side }, self.device, Kind::Float))
    }

    /// Vectors `[count,D]` of what [`Self::prepare`] gave, on the device, computed in `kind`.
    ///
    /// # Errors
    /// libtorch's, for a kind that the device cannot compute in.
    pub(super) fn encode(&self, images: &Tensor, kind: Kind) -> Result<Tensor> {
        Ok(tch::no_grad(|| autocast(self.device, kind, || self.encoder.0.embed(images, false)))?)
    }
}

/// The network with its weights, and what the bags will name as such.
fn network(config: &Config, file: Option<&Path>, device: Device) -> Result<(Box<dyn Encoder>, String)> {
    let EncoderSpec { name, architecture, .. } = &config.extract.encoder;
    if matches!(architecture, EncoderSettings::Exported(_)) {
        ensure!(!config.extract.random_weights, "the exported network {name} has its own weights; leave --random-weights out");
        let path = weight_file(&config.extract.encoder, file)?;
        let sha256 = digest::file(&path)?;
        return Ok((Box::new(Exported::load(&path, config.extract.encoder.px()?, device)?), sha256));
    }
    architecture.check(config.extract.encoder.px()?).with_context(|| format!("the encoder '{name}'"))?;
    let build = |device| -> Result<(VarStore, Box<dyn Encoder>)> {
        let store = VarStore::new(device);
        seed::seed_torch(config.seed, "encoder");
        let encoder = architecture.build(&store.root())?;
        Ok((store, encoder))
    };
    let (mut store, encoder) = build(device)?;
    if config.extract.random_weights {
        ensure!(file.is_none(), "a weight file and random weights exclude each other");
        tracing::warn!("extract: {name} with random weights, as asked; its features know nothing of images");
        if device != Device::Cpu {
            // A seed gives other numbers on a GPU: bags must not tell where they were made.
            store.copy(&build(Device::Cpu)?.0)?;
        }
        return Ok((encoder, random(config)));
    }
    let path = weight_file(&config.extract.encoder, file)?;
    let weights = weights::load(&path)?;
    let tensors = weights::encoder_of(weights.tensors);
    weights::load_into(&store, &tensors, architecture.unused()).with_context(|| format!("'{}' for {name}", path.display()))?;
    Ok((encoder, weights.sha256))
}

/// What the bags will name as their weights, without building anything.
///
/// # Errors
/// A weight file that is missing.
pub(super) fn weights_name(config: &Config, file: Option<&Path>) -> Result<String> {
    if config.extract.random_weights { Ok(random(config)) } else { digest::file(&weight_file(&config.extract.encoder, file)?) }
}

fn random(config: &Config) -> String {
    format!("random, seed {}", config.seed)
}

pub(super) fn weight_file(encoder: &EncoderSpec, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let name = &encoder.name;
    let folder = weights::folder();
    if matches!(encoder.architecture, EncoderSettings::Exported(_)) {
        let mut places = exported::ENDINGS.map(|ending| folder.join(format!("{name}.{ending}"))).into_iter();
        let found = places.find(|path| path.is_file());
        return found.with_context(|| {
            format!("neither {name}.pt nor {name}.pt2 is in '{}'; put it there, or give --weights FILE", folder.display())
        });
    }
    let path = weights::path_in(&folder, name);
    if !path.is_file() {
        bail!(
            "no weights for {name}: '{}' is not there; run `wsi weights import FILE --encoder {name}`, give --weights FILE, or ask for --random-weights",
            path.display()
        );
    }
    Ok(path)
}
