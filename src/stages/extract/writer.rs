//! The thread that writes: saved rows of the slide in work, and bags, while the network goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use anyhow::Result;

use super::account::{Account, Step};
use super::pipeline::Extraction;
use crate::ground::plan::Plan;
use crate::store::bag;
use crate::store::part::{Part, Rows};

/// What is to be done for the slide that was begun last.
pub(super) enum Task {
    /// The next slide: its place in the list, and where its rows wait.
    Begin(usize, Part),
    /// More of its rows are to be on the disk.
    Save(Rows),
    /// All of them: its bag.
    Bag(PathBuf, Arc<Plan>, Rows),
    /// It failed, and its rows are of no use.
    Drop,
}

/// What became of a task: a bag is on the disk, or a file could not be written.
pub(super) struct Written {
    pub(super) index: usize,
    pub(super) outcome: Result<()>,
}

/// Works until nobody has a task. After a failure the rest of the slide's tasks are left.
pub(super) fn work(extraction: &Extraction, tasks: Receiver<Task>, account: &Account, report: &Sender<Written>) {
    let origin = &extraction.frozen.origin;
    let mut slide: Option<(usize, Part)> = None;
    for task in tasks {
        account.timed(Step::Write, || match task {
            Task::Begin(index, part) => slide = Some((index, part)),
            Task::Save(rows) => {
                if let Some((index, part)) = &mut slide
                    && let Err(error) = extraction.leases.check().and_then(|()| part.append(&rows))
                {
                    // The receiver is gone only when the extraction has ended already.
                    let _ = report.send(Written { index: *index, outcome: Err(error) });
                    slide = None;
                }
            }
            Task::Bag(path, plan, rows) => {
                if let Some((index, part)) = slide.take() {
                    let write = || bag::write_values(&path, &plan, &rows.values, rows.width, origin, Some(&rows.seen));
                    let written = extraction.leases.check().and_then(|()| write()).and_then(|()| part.remove());
                    let _ = report.send(Written { index, outcome: written });
                }
            }
            Task::Drop => {
                if let Some((index, part)) = slide.take()
                    && let Err(error) = part.remove()
                {
                    let _ = report.send(Written { index, outcome: Err(error) });
                }
            }
        });
    }
}
