//! Rows `tile.stage.lung` and `.pool`: `wsi tile` on the lung slides with the preset `tcga-like`, beside CLAM's algorithm in Python with
//! OpenSlide and OpenCV (`reference/tissue.py`) and that preset's own pixels. Both find tissue, lay the grid and write coordinates and
//! pictures. The first reference tries its tiles in a plain loop, the second in a pool of processes for each contour, as CLAM's script.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tch::Device;
use wsi::config::Config;
use wsi::slides;

use wsi::stages::{Machine, Selection, tile};

/// Turns of each side, taken alternately.
const TURNS: usize = 5;

/// The rows; without the slides, or the Python packages that only `./run bench` installs, none.
pub(super) fn rows(threads: usize) -> Result<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("WSI_TEST_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let (folder, Some(packages)) = (data.join("lung-mil/slides"), std::env::var_os("WSI_BENCH_SLIDES")) else {
        println!("tile.stage.lung: skipped, there is no OpenCV to compare with; start it with ./run bench tile");
        return Ok(Vec::new());
    };
    if !folder.is_dir() {
        println!("tile.stage.lung: skipped: no test data");
        return Ok(Vec::new());
    }
    let config = Config::load(Some(&root.join("configs/tissue/tcga-like.toml")), &[])?;
    let count = slides::list(&folder)?.len();
    let mut peer = Peer::start(&packages, &folder, &config, threads)?;
    let scratch = tempfile::tempdir()?;
    let turn = |name: String, threads: usize| {
        let started = Instant::now();
        let inputs = tile::Inputs { slides: folder.clone(), roi: None, selection: Selection::default() };
        let summary = tile::run(&config, &inputs, &scratch.path().join(name), &Machine { device: Device::Cpu, threads })?;
        ensure!(summary.failed.is_empty(), "slides failed: {:?}", summary.failed);
        Ok((started.elapsed().as_secs_f64(), summary.figures["tiles"].as_u64().unwrap_or(0)))
    };
    let (mut all, mut one, mut plain, mut pool) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut our_tiles, mut their_tiles) = (0, 0);
    for number in 0..TURNS {
        let (seconds, tiles) = turn(format!("all-{number}"), threads)?;
        all.push(seconds);
        our_tiles = tiles;
        one.push(turn(format!("one-{number}"), 1)?.0);
        let (seconds, tiles) = peer.turn("plain", &scratch.path().join(format!("plain-{number}")))?;
        plain.push(seconds);
        their_tiles = tiles;
        pool.push(peer.turn("pool", &scratch.path().join(format!("pool-{number}")))?.0);
    }
    let median = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[TURNS / 2]
    };
    let (all, one, plain, pool) = (median(&mut all), median(&mut one), median(&mut plain), median(&mut pool));
    let row = |id: &str, theirs: f64, reference: &str| {
        let note = format!(
            "{count} slides: {all:.2} s on {threads} threads ({one:.2} s on one) against {theirs:.2} s, {our_tiles} and {their_tiles} tiles, \
             median of {TURNS} alternating turns; ours also digests the slides, writes thumbnails and contours, and syncs every file; \
             reference: CLAM's algorithm in Python, {reference}, OpenCV on {threads} threads"
        );
        super::row(id, count as f64 / all, count as f64 / theirs, "slides/s", &note)
    };
    Ok(vec![
        row("tile.stage.lung", plain, "tiles in a plain loop"),
        row("tile.stage.lung.pool", pool, "tiles in a pool of processes for each contour, as its script does"),
    ])
}

/// The Python process.
struct Peer {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(packages: &std::ffi::OsStr, folder: &Path, config: &Config, threads: usize) -> Result<Self> {
        // Level-0 pixels of a tile, which the peer must be told slide by slide: it knows no micrometres.
        let (mut side, mut unit) = (BTreeMap::new(), BTreeMap::new());
        for slide in slides::list(folder)? {
            let mpp = slides::open(&slide.path)?.geometry().mpp.context("a lung slide states its pixel size")?.mean();
            side.insert(slide.id.clone(), (f64::from(config.tile.tile_px) * config.tile.mpp / mpp).round() as u32);
            unit.insert(slide.id, (128.0 / mpp).round() as u32);
        }
        let parameters = json!({"saturation": 8, "median": 7, "close": 4, "tissue": 16, "hole": 4, "holes": 8, "side": side, "unit": unit});
        let mut process = Command::new("python3")
            .env("PYTHONPATH", packages)
            .env_remove("LD_LIBRARY_PATH")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/reference/tissue.py"))
            .args([folder.as_os_str(), threads.to_string().as_ref(), parameters.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        // It ends when its input closes.
        Ok(Self {
            orders: process.stdin.take().context("its input")?,
            answers: BufReader::new(process.stdout.take().context("its output")?),
        })
    }

    /// Seconds and tiles of a pass into the folder `out`.
    fn turn(&mut self, way: &str, out: &Path) -> Result<(f64, u64)> {
        writeln!(self.orders, "{way} {}", out.display())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let (seconds, tiles) = answer.trim().split_once(' ').context("the Python side ended; see above")?;
        Ok((seconds.parse()?, tiles.parse()?))
    }
}
