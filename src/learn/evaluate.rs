//! The only evaluation: one pass in evaluation mode, without gradient, in the order of the rows asked for.

use anyhow::Result;
use tch::{Device, Kind, Tensor, no_grad};

use super::feed::feed;
use super::{Learner, finite};
use crate::datasets::{Augment, Dataset};
use crate::ground::batch::Output;
use crate::ground::interrupt;
use crate::metrics::auc::{OneVsRest, macro_mean};
use crate::metrics::classification::{Confusion, LabelSet, argmax};

/// What the model makes of some rows; all tensors on the CPU, row i belongs to the i-th row asked for.
pub struct Evaluated {
    /// `[n,E]`
    pub embeddings: Tensor,
    /// `[n,…]`, for objectives with a head.
    pub head: Option<Tensor>,
    /// `[n,m]`: logarithm of the objective's output distribution.
    pub log_distributions: Tensor,
    /// `[n]`, i64.
    pub targets: Tensor,
}

/// Runs the model over `rows`; several ranks share the batches, and all get all rows.
///
/// # Errors
/// A sample that cannot be read or whose input or embedding is not finite, or an interruption.
pub fn evaluate(learner: &Learner, dataset: &dyn Dataset, rows: &[usize], batch_size: usize, device: Device) -> Result<Evaluated> {
    evaluate_changed(learner, dataset, rows, None, batch_size, device, &|_| ())
}

/// [`evaluate`] on randomly changed samples; `seen` is told the number of samples after each batch.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_changed(
    learner: &Learner,
    dataset: &dyn Dataset,
    rows: &[usize],
    augment: Option<Augment>,
    batch_size: usize,
    device: Device,
    seen: &dyn Fn(usize),
) -> Result<Evaluated> {
    let mut parts: [Vec<Tensor>; 4] = Default::default();
    let batches: Vec<&[usize]> = rows.chunks(batch_size).collect();
    let own: Vec<&[usize]> =
        batches.iter().enumerate().filter(|(index, _)| learner.ranks.runs(*index, batches.len())).map(|(_, rows)| *rows).collect();
    dataset.announce(&own.concat());
    let own: Vec<Vec<usize>> = own.into_iter().map(<[usize]>::to_vec).collect();
    feed(dataset, &own, augment, device, |feed| {
        let _no_gradient = tch::no_grad_guard();
        for rows in &own {
            interrupt::check()?;
            let batch = feed.next()?;
            let output = learner.model.forward(&batch, false);
            finite::check_output(dataset, &batch, &output)?;
            let distribution = learner.loss.log_distribution(&output);
            let found = [Some(output.embedding), output.head, Some(distribution), Some(batch.targets)];
            for (part, tensor) in parts.iter_mut().zip(found) {
                part.extend(tensor.map(|tensor| tensor.to_device(Device::Cpu)));
            }
            seen(rows.len());
        }
        Ok(())
    })?;
    let lengths: Vec<i64> = batches.iter().map(|rows| rows.len() as i64).collect();
    let whole = |own: &Vec<Tensor>| learner.ranks.collect_batches(own, &lengths);
    let [embeddings, head, distributions, targets] = &parts;
    Ok(Evaluated {
        embeddings: whole(embeddings)?,
        head: if head.is_empty() { None } else { Some(whole(head)?) },
        log_distributions: whole(distributions)?,
        targets: whole(targets)?,
    })
}

impl Evaluated {
    /// Probabilities `[n][C]` by the objective's own decision rule.
    pub fn probabilities(&self, learner: &Learner) -> Vec<Vec<f64>> {
        rows(&no_grad(|| learner.loss.probabilities(&self.output(learner.variables.device()))))
    }

    /// As one output of the model, without attention.
    pub fn output(&self, device: Device) -> Output {
        Output {
            embedding: self.embeddings.to_device(device),
            head: self.head.as_ref().map(|head| head.to_device(device)),
            attention: None,
        }
    }

    /// Class indices.
    pub fn targets(&self) -> Vec<usize> {
        (0..self.targets.size()[0]).map(|row| self.targets.int64_value(&[row]) as usize).collect()
    }
}

/// A matrix as plain rows.
pub fn rows(matrix: &Tensor) -> Vec<Vec<f64>> {
    let width = matrix.size()[1] as usize;
    let values = matrix.to_device(Device::Cpu).to_kind(Kind::Double).contiguous().flatten(0, -1);
    let mut flat = vec![0.0; values.numel()];
    values.copy_data(&mut flat, values.numel());
    flat.chunks(width.max(1)).map(<[f64]>::to_vec).collect()
}

/// Macro-F1 and macro-AUC of probabilities `[n][C]`.
pub fn macro_scores(targets: &[usize], probabilities: &[Vec<f64>], classes: usize) -> (f64, f64) {
    let decided: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    let f1 = Confusion::new(targets, &decided, classes).macro_f1(LabelSet::Observed);
    (f1, macro_mean(&OneVsRest::new(targets, probabilities).per_class()))
}
