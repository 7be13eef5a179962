//! A slide of 100,000 × 100,000 px: time for a gigapixel, and the peak memory of the stage and of the stream.
//!
//! Each is measured in a process of its own, because the kernel's peak never falls.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tch::Device;
use wsi::config::Config;
use wsi::ground::units::{Coord, Size};
use wsi::slides;
use wsi::stages::{Machine, Selection, tile};
use wsi::store::coords;
use wsi::synth::{CohortSettings, cohort, render};
use wsi::tiling::stream;

use crate::bigtiff::{Levels, Picture, bigtiff};

/// The word after which this program does one thing with the slide and prints seconds, megapixels and peak memory.
pub(crate) const MEMORY: &str = "--memory-of-tile";

const SIDE: u32 = 100_000;
/// Level-0 pixels of the part that is streamed, from the first row on: ours, OpenSlide's.
const STREAMED: [f64; 2] = [1e9, 0.1e9];
const THREADS: usize = 2;

/// Seconds, megapixels and megabytes of one process.
struct Measured {
    seconds: f64,
    megapixels: f64,
    peak: f64,
}

pub(super) fn rows() -> Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let slide = folder.path().join("giant.tif");
    let tissue = folder.path().join("tissue.tif");
    std::fs::write(&tissue, render(&cohort(&CohortSettings::default())?[2], 0)?)?;
    let picture = slides::open(&tissue)?.read(Coord { x: 512, y: 512 }, Size { width: 1024, height: 1024 }, 0)?;
    std::fs::write(&slide, bigtiff(&Picture::repeated(SIDE, SIDE, &picture), &Levels::Chained(vec![1, 4, 16]), None))?;

    let nothing = measure("nothing", &slide, folder.path())?;
    let stage = measure("openslide", &slide, &folder.path().join("openslide"))
        .and_then(|openslide| Ok((measure("auto", &slide, &folder.path().join("auto"))?, openslide)))?;
    let ours = measure("stream", &slide, &folder.path().join("auto"))?;
    let openslide = measure("stream", &slide, &folder.path().join("openslide"))?;
    let row = |id: &str, (ours, openslide): (&Measured, &Measured), what: &str| {
        let rate = |measured: &Measured| measured.megapixels / measured.seconds;
        let note = format!(
            "{SIDE}x{SIDE} px, {THREADS} threads, {what}: {:.2} s against {:.2} s a gigapixel of level 0, peak memory {:.0} MB against {:.0} MB, of which the program itself {:.0} MB; reference: the same through OpenSlide",
            1000.0 / rate(ours),
            1000.0 / rate(openslide),
            ours.peak,
            openslide.peak,
            nothing.peak
        );
        json!({"id": id, "ours": rate(ours), "reference": rate(openslide), "unit": "Mpx/s", "ratio": rate(ours) / rate(openslide), "limit_ratio": null, "note": note})
    };
    Ok(vec![
        row("tile.stage.giant", (&stage.0, &stage.1), "the stage `wsi tile`"),
        row("tile.stream.giant", (&ours, &openslide), "the tile stream"),
    ])
}

fn measure(what: &str, slide: &Path, out: &Path) -> Result<Measured> {
    let found = Command::new(std::env::current_exe()?).arg(MEMORY).arg(what).args([slide, out]).output()?;
    let said = String::from_utf8(found.stdout)?;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [seconds, megapixels, peak] = numbers[..] else {
        bail!("measuring '{what}' of the giant slide: {said}{}", String::from_utf8_lossy(&found.stderr));
    };
    Ok(Measured { seconds, megapixels, peak })
}

/// Does what is named to the slide: `auto` and `openslide` run the stage into a folder with that reader, `stream` reads
/// the tiles that a stage has planned there, `nothing` does nothing.
pub(crate) fn print_memory(arguments: &[String]) -> Result<()> {
    let [what, slide, out] = arguments else { bail!("{MEMORY} wants what, a slide and a folder") };
    let (slide, out) = (Path::new(slide), Path::new(out));
    let started = Instant::now();
    let megapixels = match what.as_str() {
        "nothing" => 0.0,
        "stream" => streamed(slide, out)?,
        reader => {
            let config = Config::load(None, &[format!("tile.reader=\"{reader}\"")])?;
            let machine = Machine { device: Device::Cpu, threads: THREADS };
            let summary =
                tile::run(&config, &tile::Inputs { slides: slide.to_owned(), roi: None, selection: Selection::default() }, out, &machine)?;
            if !summary.failed.is_empty() {
                bail!("{:?}", summary.failed);
            }
            f64::from(SIDE) * f64::from(SIDE) * 1e-6
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel says nothing of peak memory")?;
    let kilobytes: f64 = peak.split_whitespace().next().context("VmHWM without a number")?.parse()?;
    println!("{seconds} {megapixels} {}", kilobytes / 1024.0);
    Ok(())
}

/// Megapixels of level 0 under the tiles that were read.
fn streamed(slide: &Path, out: &Path) -> Result<f64> {
    let mut plan = coords::read(&out.join("patches/giant_patches.h5"))?;
    let of_a_tile = f64::from(plan.window.side_level0_px).powi(2);
    let most = STREAMED[usize::from(plan.window.reader == wsi::ground::reader::Reader::OpenSlide)];
    plan.coords.truncate((most / of_a_tile) as usize);
    let slide = slides::open_with(slide, plan.window.reader.into())?;
    stream::for_each_batch(slide.as_ref(), &plan, 32, THREADS, |_| Ok(()))?;
    Ok(plan.coords.len() as f64 * of_a_tile * 1e-6)
}
