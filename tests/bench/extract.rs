//! Family `extract`: the whole way from slides to bags, beside the network alone in eager PyTorch (`reference/extract.py`) on images that
//! are in memory already, with as many threads; and how much of our own way is the network.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use wsi::config::Config;
use wsi::slides;
use wsi::stages::{Machine, Selection, extract, synth, tile};
use wsi::synth::CohortSettings;
use wsi::torch::linear;

use crate::median;
use crate::peer::Peer;

/// An encoder.
struct Case {
    /// For rows and for PyTorch.
    id: &'static str,
    /// What the settings call it.
    name: &'static str,
    /// Multiplications and additions of an image of 224 px, both counted, in convolutions, layers and attention.
    work: f64,
}

const CASES: [Case; 3] = [
    Case { id: "resnet50-trunc", name: "resnet50-trunc", work: 6.56e9 },
    Case { id: "vit-s16", name: "lunit-vits16", work: 9.20e9 },
    Case { id: "efficientnet-lite0", name: "efficientnet-lite0", work: 0.77e9 },
];

/// Batch sizes that PyTorch tries, each with both layouts; it is measured with the best pair, and with the usual batch.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const USUAL_BATCH: usize = 32;
const LAYOUTS: [&str; 2] = ["contiguous", "channels-last"];
/// Images of a turn of PyTorch.
const IMAGES: usize = 128;
/// Turns of each side, taken alternately.
const TURNS: usize = 3;

/// All rows of the family; without PyTorch, which only `./run bench` installs, none.
pub(super) fn rows(threads: usize) -> Result<Vec<Value>> {
    let Some(torch) = std::env::var_os("WSI_BENCH_TORCH") else {
        println!("extract: skipped, there is no PyTorch to compare with; start it with ./run bench extract");
        return Ok(Vec::new());
    };
    let scratch = tempfile::tempdir()?;
    let machine = Machine { device: Device::Cpu, threads };
    let (slides, of) = slides(scratch.path(), &machine)?;
    let tiles = scratch.path().join("tiles");
    let inputs = tile::Inputs { slides: slides.clone(), roi: None, selection: Selection::default() };
    tile::run(&Config::default(), &inputs, &tiles, &machine)?;
    let limit = multiplications(threads)?;
    let mut rows = Vec::new();
    for case in &CASES {
        let bench = Bench { case, slides: &slides, of: &of, tiles: &tiles, scratch: scratch.path(), machine: &machine, limit };
        rows.extend(bench.rows(&torch)?);
    }
    Ok(rows)
}

/// A folder of slides: every sixth of the 48 lung slides, both centres and all classes, or synthetic ones; and what they are.
fn slides(scratch: &Path, machine: &Machine) -> Result<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("WSI_TEST_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from).join("lung-mil/slides");
    let folder = scratch.join("slides");
    if data.is_dir() {
        std::fs::create_dir(&folder)?;
        let chosen: Vec<_> = slides::list(&data)?.into_iter().step_by(6).collect();
        for slide in &chosen {
            let path = std::fs::canonicalize(&slide.path)?;
            std::os::unix::fs::symlink(&path, folder.join(path.file_name().context("a slide's file name")?))?;
        }
        return Ok((folder, format!("{} lung slides", chosen.len())));
    }
    synth::run(&CohortSettings::default(), &scratch.join("cohort"), machine)?;
    Ok((scratch.join("cohort/slides"), "synthetic slides".into()))
}

struct Bench<'a> {
    case: &'a Case,
    slides: &'a Path,
    /// What the slides are.
    of: &'a str,
    tiles: &'a Path,
    scratch: &'a Path,
    machine: &'a Machine,
    /// Multiplications and additions a second.
    limit: f64,
}

impl Bench<'_> {
    fn rows(&self, torch: &OsStr) -> Result<Vec<Value>> {
        let Case { id, name, work } = *self.case;
        let threads = self.machine.threads;
        let mut peer = Torch { peer: Peer::start(torch, "extract.py", &[threads.to_string()])?, network: id };
        let best = peer.best(&BATCHES)?;
        let usual = peer.best(&[USUAL_BATCH])?;
        let alone = Alone::new(name, threads)?;
        alone.rate(2 * threads)?;
        let (mut ours, mut network, mut theirs, mut at_usual, mut tiles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0);
        for turn in 0..TURNS {
            let (rate, count) = self.slides_to_bags(turn)?;
            tiles = count;
            ours.push(rate);
            theirs.push(peer.rate(best, IMAGES)?);
            network.push(alone.rate(count)?);
            at_usual.push(peer.rate(usual, IMAGES)?);
        }
        let (ours, network, theirs, at_usual) = (median(ours), median(network), median(theirs), median(at_usual));
        let limit = self.limit / work;
        let note = format!(
            "{tiles} tiles of {}, {threads} threads, f32; slides to bags against PyTorch 2.11.0 eager with images in memory, at its best: batch {}, {}; at batch {USUAL_BATCH}, {}: {at_usual:.1} tiles/s, {:.2} times; limit: {:.2} GFLOP a tile at the {:.0} GFLOP/s of a large oneDNN product, {limit:.0} tiles/s; median of {TURNS} alternating turns",
            self.of,
            best.1,
            best.0,
            usual.0,
            ours / at_usual,
            work * 1e-9,
            self.limit * 1e-9
        );
        let mut whole = super::row(&format!("extract.{id}"), ours, theirs, "tiles/s", &note);
        whole["limit_ratio"] = (ours / limit).into();
        let note = format!(
            "slides to bags against our network alone, images in memory, {} at once; {:.1} % of the time is not network",
            alone.at_once,
            100.0 * (1.0 - ours / network)
        );
        Ok(vec![whole, super::row(&format!("extract.overhead.{id}"), ours, network, "tiles/s", &note)])
    }

    /// `wsi extract`, with random weights: tiles a second by the clock, and how many there were.
    fn slides_to_bags(&self, turn: usize) -> Result<(f64, usize)> {
        let name = self.case.name;
        let config = Config::load(None, &["extract.random-weights=true".into(), format!("extract.encoder.name={name}")])?;
        let selection = Selection::default();
        let inputs =
            extract::Inputs { slides: self.slides.to_owned(), tiles: self.tiles.to_owned(), weights: None, selection, scratch: None };
        let started = Instant::now();
        let summary = extract::run(&config, &inputs, &self.scratch.join(format!("{name}-{turn}")), self.machine)?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(summary.failed.is_empty(), "slides failed: {:?}", summary.failed);
        let tiles = summary.figures["tiles"].as_u64().context("a number of tiles")? as usize;
        Ok((tiles as f64 / seconds, tiles))
    }
}

/// Our network, called as `wsi extract` calls it, on images that are there.
struct Alone {
    encoder: Shared,
    images: Tensor,
    at_once: usize,
    threads: rayon::ThreadPool,
}

struct Shared(Box<dyn wsi::encoders::Encoder>);

// SAFETY: as in `stages::frozen`: a frozen encoder only reads its tensors.
unsafe impl Sync for Shared {}

impl Shared {
    fn embed(&self, images: &Tensor) -> Tensor {
        tch::no_grad(|| self.0.embed(images, false))
    }
}

impl Alone {
    fn new(name: &str, threads: usize) -> Result<Self> {
        let spec = wsi::encoders::EncoderSpec::built_in(name)?;
        let store = VarStore::new(Device::Cpu);
        let mut encoder = spec.architecture.build(&store.root())?;
        encoder.freeze();
        let at_once = encoder.tiles_at_once();
        let side = i64::from(spec.px()?);
        let images = Tensor::randn([at_once as i64, side, side, 3], (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2]);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| tch::set_num_threads(1)).build()?;
        Ok(Self { encoder: Shared(encoder), images, at_once, threads })
    }

    /// Tiles a second, of so many.
    fn rate(&self, tiles: usize) -> Result<f64> {
        let calls = tiles.div_ceil(self.at_once);
        // A tensor for each call: they are not to be shared between threads.
        let images: Vec<_> = (0..calls).map(|_| self.images.shallow_clone()).collect();
        let encoder = &self.encoder;
        let started = Instant::now();
        self.threads.install(|| {
            images.into_par_iter().for_each(|images| {
                let _ = encoder.embed(&images);
            });
        });
        Ok((calls * self.at_once) as f64 / started.elapsed().as_secs_f64())
    }
}

/// The network in PyTorch.
struct Torch {
    peer: Peer,
    network: &'static str,
}

/// Layout and batch size.
type Way = (&'static str, usize);

impl Torch {
    /// Images a second.
    fn rate(&mut self, (layout, batch): Way, images: usize) -> Result<f64> {
        let seconds: f64 = self.peer.ask(&format!("{} {layout} {batch} {images}", self.network))?.parse()?;
        Ok(images as f64 / seconds)
    }

    /// The fastest way with one of the batch sizes, each tried on a quarter of a turn's images after one call to warm up.
    fn best(&mut self, batches: &[usize]) -> Result<Way> {
        let mut best = (0.0, (LAYOUTS[0], batches[0]));
        for layout in LAYOUTS {
            for &batch in batches {
                self.rate((layout, batch), batch)?;
                let rate = self.rate((layout, batch), IMAGES / 4)?;
                if rate > best.0 {
                    best = (rate, (layout, batch));
                }
            }
        }
        Ok(best.1)
    }
}

/// Multiplications and additions a second of oneDNN's product of two large matrices, one on each thread.
fn multiplications(threads: usize) -> Result<f64> {
    const SIDE: i64 = 1024;
    const CALLS: usize = 20;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| tch::set_num_threads(1)).build()?;
    let rates = pool.broadcast(|_| {
        let x = Tensor::randn([SIDE, SIDE], (Kind::Float, Device::Cpu));
        let weight = linear::pack(&x, SIDE)?;
        let _ = linear::linear(&x, &weight, None, false)?;
        let started = Instant::now();
        for _ in 0..CALLS {
            let _ = linear::linear(&x, &weight, None, false)?;
        }
        anyhow::Ok((2 * SIDE.pow(3) * CALLS as i64) as f64 / started.elapsed().as_secs_f64())
    });
    rates.into_iter().sum()
}
