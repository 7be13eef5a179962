//! One verb a file: open the run folder, do the work, close it. A stage reads files and writes files; nothing else joins two stages.

pub mod bags;
mod counts;
mod course;
mod data;
pub mod doctor;
pub mod encoders;
pub mod exhibits;
pub mod extract;
mod frozen;
pub mod gpu_check;
pub mod heatmap;
mod plane;
pub mod probe;
pub mod pseudonymise;
pub mod report;
mod selection;
pub mod show;
pub mod synth;
pub mod tile;
pub mod train;
pub mod verify;
pub mod view;
mod watch;
pub mod weights;
mod worklist;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::Device;

use crate::config::Config;
use crate::datasets::Dataset;
use crate::ground::batch::Input;
use crate::learn::parallel::Place;
use crate::store::files;
use crate::store::run::{Run, Summary};
use crate::store::table::{self, Cells};
use crate::torch::autocast::exact_single;

pub use data::Data;
pub use selection::Selection;

/// Where a stage runs. Never part of a digest: the machine does not change the result.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Where tensors live.
    pub device: Device,
    /// Worker threads for decoding.
    pub threads: usize,
}

impl Machine {
    /// `device` as `ground::device::parse` reads it; `threads` 0 takes every processor this process may use: its affinity mask, and no more
    /// than the quota of its control groups, version 1 or 2.
    ///
    /// # Errors
    /// An unknown device, or one that is not there.
    pub fn new(device: &str, threads: usize) -> Result<Self> {
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { device: crate::ground::device::parse(device)?, threads: if threads == 0 { available } else { threads } })
    }
}

impl Machine {
    /// One rank's part: the processors are divided among the ranks that share them, and each takes a GPU of its own where there are several.
    pub fn for_rank(self, place: Option<&Place>) -> Self {
        let Some(place) = place else { return self };
        let device = match self.device {
            Device::Cuda(0) => Device::Cuda(place.local_rank % self.gpus().max(1)),
            other => other,
        };
        Self { device, threads: (self.threads / place.local_size).max(1) }
    }

    /// How many GPUs ranks on this machine find: all where the first is asked for, and one where another is.
    pub fn gpus(self) -> usize {
        match self.device {
            Device::Cuda(0) => tch::Cuda::device_count() as usize,
            Device::Cuda(_) => 1,
            _ => 0,
        }
    }

    /// Lets libtorch use every thread of this machine.
    fn use_threads(&self) {
        tch::set_num_threads(self.threads as i32);
    }

    /// Lets libtorch use one thread per million numbers of a batch of bags, or every thread for images.
    ///
    /// Small batches finish sooner on one thread than several threads need to meet, most of all beside other jobs.
    fn use_threads_for(&self, dataset: &dyn Dataset, batch_size: usize) -> Result<()> {
        self.use_threads();
        // f32 is what was asked for.
        exact_single()?;
        // Most batches of images are of one size, for which a GPU's library may try which of its algorithms is fastest.
        tch::Cuda::cudnn_set_benchmark(dataset.input() == Input::Images);
        if matches!(dataset.input(), Input::Bags(_) | Input::ImageBags) {
            let rows: Vec<usize> = (0..dataset.ids().len().min(batch_size)).collect();
            let numbers = dataset.batch(&rows, None, Device::Cpu)?.inputs.numel();
            tch::set_num_threads((numbers >> 20).clamp(1, self.threads.max(1)) as i32);
        }
        Ok(())
    }
}

/// A summary whose items all succeeded, or an error that repeats each failed item: partial failure is not exit 0.
///
/// # Errors
/// Some items failed.
pub fn complete(summary: Summary) -> Result<Summary> {
    if summary.failed.is_empty() {
        return Ok(summary);
    }
    bail!("{} of the {} stage's items failed; the others are complete:\n{}", summary.failed.len(), summary.stage, list(&summary.failed))
}

/// Writes `failed.csv`, which `--only` takes: the items that failed and why; no such file where none did.
fn write_failed(run: &Run, failed: &BTreeMap<String, String>) -> Result<()> {
    let path = run.path("failed.csv");
    if failed.is_empty() {
        return files::remove(&path);
    }
    let text = |cells: Vec<&String>| Cells::Text(cells.into_iter().cloned().collect());
    table::write(&path, vec![("slide_id", text(failed.keys().collect())), ("reason", text(failed.values().collect()))])
}

/// The settings that a run was made with.
fn settings_of(folder: &Path) -> Result<Config> {
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    Config::resolve(text.parse().with_context(|| format!("'{}' is damaged", path.display()))?)
}

/// An error on one line, for tables and summaries.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    on_one_line(&format!("{error:#}"))
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn list(failed: &BTreeMap<String, String>) -> String {
    failed.iter().map(|(item, reason)| format!("  {item}: {reason}")).collect::<Vec<_>>().join("\n")
}
