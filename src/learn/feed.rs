//! Batches made ahead: while the model computes on one, a thread of its own reads, changes and puts together the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, anyhow};
use tch::Device;

use crate::datasets::{Augment, Dataset};
use crate::ground::batch::Batch;
use crate::torch::gpu;

/// Batches that wait for the model; one more is being made. Bounds the memory to this many batches beside the model's own.
const AHEAD: usize = 2;

/// Batches in the order asked for.
pub(super) struct Feed {
    made: Receiver<Result<Batch>>,
    device: Device,
}

impl Feed {
    /// The next batch, on the device.
    ///
    /// # Errors
    /// A sample that cannot be made, named. More batches than were asked for.
    pub(super) fn next(&mut self) -> Result<Batch> {
        let Batch { inputs, mask, targets, rows } = self.made.recv().context("no batch is left")??;
        let there = |tensor| gpu::upload(tensor, self.device);
        Ok(Batch { inputs: there(&inputs)?, mask: mask.as_ref().map(there).transpose()?, targets: there(&targets)?, rows })
    }
}

/// Runs `work` with the batches of `rows`, which are the dataset's `batch` of each of them: what is made ahead changes no number.
///
/// # Errors
/// Those of `work`.
pub(super) fn feed<T>(
    dataset: &dyn Dataset,
    rows: &[Vec<usize>],
    augment: Option<Augment>,
    device: Device,
    work: impl FnOnce(&mut Feed) -> Result<T>,
) -> Result<T> {
    let (sender, made) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        // The thread ends with its rows, or when nobody listens any more: after an error, an interruption, a panic.
        scope.spawn(move || rows.iter().try_for_each(|rows| sender.send(batch(dataset, rows, augment, device))));
        let mut feed = Feed { made, device };
        work(&mut feed)
    })
}

/// A batch on the processor, ready for the way to the device.
fn batch(dataset: &dyn Dataset, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
    let made = catch_unwind(AssertUnwindSafe(|| dataset.batch(rows, augment, Device::Cpu)));
    let mut batch = made.map_err(|_| anyhow!("a batch could not be made: a bug, see the panic above"))??;
    // Bags differ in size, and libtorch keeps the pinned memory of each size for good.
    if batch.mask.is_none() {
        batch.inputs = gpu::pin(&batch.inputs, device)?;
    }
    Ok(batch)
}
