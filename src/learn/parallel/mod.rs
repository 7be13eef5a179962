//! Data parallel training: W processes with one model, each with its share of every batch. `docs/parallel.md` has what is the same
//! as in one process and what is not.
//!
//! The objective is that of the *global* batch. Each rank runs the model on its own samples; the outputs of all ranks are then collected,
//! and every rank computes the loss of all of them, with a gradient to its own. So each loss of the family, pairs of samples and running
//! centres included, is what it is in one process, needs no word about ranks, and its state is the same everywhere. The gradients of the
//! ranks' samples are then summed. What crosses per step: the parameters' size in gradients, and B·(E + C) numbers of outputs.
//!
//! A step costs a rank one more copy of the gradients in memory, and the loss of B instead of B/W samples.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

use crate::aggregators::Term;
use crate::ground::batch::Output;
use crate::ground::interrupt;
use crate::torch::c10d::{Gloo, Store};

mod hand_over;
pub mod launch;
pub mod meet;
mod place;
mod pulse;

pub use place::Place;
use pulse::Pulse;

/// In front of every key, so that a store may be shared.
const PREFIX: &str = "wsi";
/// How long ranks wait for each other to start, to open the data and to save; `WSI_RANKS_WAIT`, in seconds, changes it.
const WAIT: Duration = Duration::from_secs(1800);
/// Numbers in a bucket of gradients, 25 MB: several are on their way at once.
const BUCKET: usize = 25 << 18;

/// The ranks that train together, as one of them sees it. Cloned, it is the same.
#[derive(Clone, Default)]
pub struct Ranks {
    world: Option<Arc<World>>,
    /// In front of the keys of what is told: ranks that train several models one after the other do not hear what was said about an earlier one.
    about: String,
}

struct World {
    rank: usize,
    size: usize,
    wait: Duration,
    gloo: Arc<Gloo>,
    _pulse: Pulse,
    // Dropped after what goes through it: rank 0 may serve it.
    store: Store,
}

impl Ranks {
    /// One process, which is rank 0.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Meets the other ranks at the store. From then on the process ends within 30 s if another rank shows no sign of life.
    ///
    /// # Errors
    /// A port that is taken, a store or a rank that cannot be reached in time.
    pub fn join(place: &Place) -> Result<Self> {
        let Place { rank, size, ref address, port, serves, ref attempt, .. } = *place;
        let wait = wait()?;
        let prefix = format!("{PREFIX}{attempt}");
        let context = || format!("rank {rank} of {size} cannot meet the others at {address}, port {port}");
        let store = if serves {
            let ip: IpAddr = match &**address {
                "::1" => Ipv6Addr::LOCALHOST.into(),
                _ if place.is_loopback() => Ipv4Addr::LOCALHOST.into(),
                _ => Ipv4Addr::UNSPECIFIED.into(),
            };
            let listener = TcpListener::bind((ip, port)).with_context(|| format!("{}; choose another MASTER_PORT", context()))?;
            Store::serve(listener, &prefix, wait)
        } else {
            Store::connect(address, port, &prefix, wait)
        };
        let store = store.map_err(|error| first_line(&error)).with_context(context)?;
        let gloo = Gloo::open(&store, rank, size, &place.reach(), wait).map_err(|error| first_line(&error)).with_context(context)?;
        // All are there from here on.
        let _pulse = Pulse::start(store.another().map_err(|error| first_line(&error)).with_context(context)?, rank, size);
        let world = World { rank, size, wait, gloo: Arc::new(gloo), _pulse, store };
        Ok(Self { world: Some(Arc::new(world)), about: String::new() })
    }

    /// The same ranks about one of several trainings, by its name: all of them go through the same trainings in the same order.
    #[must_use]
    pub fn about(&self, name: &str) -> Self {
        Self { world: self.world.clone(), about: format!("{name}/") }
    }

    /// From 0.
    pub fn rank(&self) -> usize {
        self.world.as_ref().map_or(0, |world| world.rank)
    }

    /// W
    pub fn size(&self) -> usize {
        self.world.as_ref().map_or(1, |world| world.size)
    }

    /// Their collectives; `None` for one process.
    pub(super) fn group(&self) -> Option<&Arc<Gloo>> {
        self.world.as_ref().map(|world| &world.gloo)
    }

    /// Whether this is rank 0, which writes and speaks for all.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The samples of a batch that this rank runs the model on: every W-th.
    pub fn share(&self, batch: &[usize]) -> Vec<usize> {
        batch.iter().copied().skip(self.rank()).step_by(self.size()).collect()
    }

    /// Between two steps: whether any rank was asked to stop, so that all stop at the same step.
    ///
    /// # Errors
    /// `Interrupted`; another rank is gone.
    pub(super) fn check_interrupt(&self) -> Result<()> {
        let asked = interrupt::check();
        let Some(world) = &self.world else { return Ok(asked?) };
        let mut count = [Tensor::from(i64::from(asked.is_err()))];
        world.gloo.sum(&mut count).map_err(|error| world.lost_between_steps(&error))?;
        if count[0].int64_value(&[]) > 0 { Err(interrupt::Interrupted.into()) } else { Ok(()) }
    }

    /// What rank 0 decides.
    ///
    /// # Errors
    /// Another rank is gone.
    pub(super) fn of_lead(&self, decision: bool) -> Result<bool> {
        let Some(world) = &self.world else { return Ok(decision) };
        let mut decided = [Tensor::from(i64::from(decision))];
        world.gloo.broadcast(&mut decided).map_err(|error| world.lost_between_steps(&error))?;
        Ok(decided[0].int64_value(&[]) == 1)
    }

    /// Gives every tensor the values that it has on rank 0; all ranks name tensors of the same shapes.
    ///
    /// # Errors
    /// Another rank is gone.
    pub fn follow(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let Some(world) = &self.world else { return Ok(()) };
        no_grad(|| {
            let mut copies: Vec<Tensor> = tensors.values().map(sent).collect();
            world.gloo.broadcast(&mut copies).map_err(|error| world.lost(&error))?;
            for (tensor, copy) in tensors.values().zip(&copies) {
                tensor.shallow_clone().copy_(copy);
            }
            Ok(())
        })
    }

    /// The outputs and targets of the whole batch, in the batch's order, from those of each rank's share. Gradients flow to this rank's own rows.
    ///
    /// `samples` (B) are in the batch; `views` (V) of each stand view after view, here and in the result.
    ///
    /// # Errors
    /// Another rank is gone.
    pub(super) fn collect(&self, own: &Output, targets: &Tensor, views: usize, samples: usize) -> Result<(Output, Tensor)> {
        let (views, samples) = (views as i64, samples as i64);
        let Some(world) = &self.world else {
            let same =
                Output { embedding: own.embedding.shallow_clone(), head: own.head.as_ref().map(Tensor::shallow_clone), attention: None };
            return Ok((same, targets.shallow_clone()));
        };
        let (rank, size) = (world.rank as i64, world.size as i64);
        let places: Vec<i64> =
            (0..views).flat_map(|view| (rank..samples).step_by(size as usize).map(move |row| view * samples + row)).collect();
        let places = Tensor::from_slice(&places).to_device(targets.device());
        let whole = |own: &Tensor| -> Result<Tensor> {
            let all = world.interleave(own, views, samples)?.to_device(own.device());
            Ok(if own.requires_grad() { all.index_copy(0, &places, own) } else { all })
        };
        let head = own.head.as_ref().map(whole).transpose()?;
        Ok((
            Output { embedding: whole(&own.embedding)?, head, attention: None },
            world.interleave(targets, views, samples)?.to_device(targets.device()),
        ))
    }

    /// An aggregator's own terms, which are means over this rank's bags, as its part of the mean over all: `share` of the batch is its own. With the
    /// sum that they add to the loss beside other ranks'; 0 for one process.
    pub(super) fn weigh(&self, terms: Vec<Term>, share: f64) -> (Vec<Term>, f64) {
        if self.size() == 1 {
            return (terms, 0.0);
        }
        let terms: Vec<Term> = terms.into_iter().map(|(name, term)| (name, term * share)).collect();
        let sum = terms.iter().map(|(_, term)| term.double_value(&[])).sum();
        (terms, sum)
    }

    /// Sums the gradients over the ranks, and `amount` as well, which is returned. A parameter without a gradient on every rank stays without.
    ///
    /// # Errors
    /// Another rank is gone.
    pub(super) fn sum_gradients(&self, parameters: &BTreeMap<String, Tensor>, amount: f64) -> Result<f64> {
        let Some(world) = &self.world else { return Ok(amount) };
        let numbers: Vec<f64> = parameters.values().map(|p| f64::from(u8::from(p.grad().defined()))).chain([amount]).collect();
        let mut numbers = [Tensor::from_slice(&numbers)];
        world.sum(&mut numbers)?;
        let numbers = Vec::<f64>::try_from(&numbers[0])?;
        let used: Vec<&Tensor> =
            parameters.values().zip(&numbers).filter(|(_, count)| **count > 0.0).map(|(parameter, _)| parameter).collect();
        for parameter in used.iter().filter(|parameter| !parameter.grad().defined()) {
            // Makes a gradient of zeros.
            (*parameter * 0.0).sum(None::<Kind>).backward();
        }
        let mut gradients: Vec<Tensor> = used.iter().map(|parameter| parameter.grad()).collect();
        no_grad(|| world.sum_in_buckets(&mut gradients))?;
        Ok(numbers[parameters.len()])
    }

    /// Gives running statistics of batch normalisation the mean over the ranks, where each normalises its own images.
    ///
    /// METHOD: a running mean is linear in the batches' means, so that it becomes that of all ranks' samples; the variance lacks what the
    /// ranks' means differ by.
    ///
    /// # Errors
    /// Another rank is gone.
    pub(super) fn average_statistics(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let Some(world) = &self.world else { return Ok(()) };
        let is_statistic = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
        let mut statistics: Vec<Tensor> = tensors.iter().filter(|(name, _)| is_statistic(name)).map(|(_, t)| t.shallow_clone()).collect();
        no_grad(|| {
            world.sum_in_buckets(&mut statistics)?;
            for statistic in &mut statistics {
                let _ = statistic.g_div_scalar_(world.size as f64);
            }
            Ok(())
        })
    }

    /// Which batches of an evaluation this rank runs: every W-th, or all of them where there are fewer than ranks.
    pub(super) fn runs(&self, batch: usize, batches: usize) -> bool {
        batches < self.size() || batch % self.size() == self.rank()
    }

    /// All rows of an evaluation in their order, from the batches that [`Ranks::runs`] gave to each rank; `lengths` are those of all batches.
    ///
    /// # Errors
    /// Another rank is gone.
    pub(super) fn collect_batches(&self, own: &[Tensor], lengths: &[i64]) -> Result<Tensor> {
        let own = Tensor::cat(own, 0);
        let Some(world) = self.world.as_ref().filter(|world| lengths.len() >= world.size) else { return Ok(own) };
        let of = |rank: usize| lengths.iter().skip(rank).step_by(world.size);
        let most: i64 = (0..world.size).map(|rank| of(rank).sum()).max().unwrap_or(0);
        let mut block = Tensor::zeros([&[most], &own.size()[1..]].concat(), (own.kind(), Device::Cpu));
        block.narrow(0, 0, own.size()[0]).copy_(&own);
        let all = world.gloo.gather(&block).map_err(|error| world.lost_between_steps(&error))?;
        let mut taken = vec![0; world.size];
        let batches: Vec<Tensor> = lengths
            .iter()
            .enumerate()
            .map(|(batch, &length)| {
                let rank = batch % world.size;
                taken[rank] += length;
                all.get(rank as i64).narrow(0, taken[rank] - length, length)
            })
            .collect();
        block = Tensor::cat(&batches, 0);
        Ok(block)
    }

    /// Sets a key of the store to a tree.
    ///
    /// # Errors
    /// The store is gone.
    pub fn tell(&self, key: &str, value: &Value) -> Result<()> {
        let key = &self.key(key);
        self.world.as_ref().map_or(Ok(()), |world| world.ask(|store| store.set(key, value.to_string().as_bytes())))
    }

    /// The tree that another rank has set a key to, once it has.
    ///
    /// # Errors
    /// The store is gone, or nobody sets the key.
    pub fn told(&self, key: &str) -> Result<Value> {
        let key = &self.key(key);
        let world = self.world.as_ref().context("a process that trains alone has nobody to be told by")?;
        Ok(serde_json::from_slice(&world.ask(|store| store.get(key, world.wait))?)?)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.about)
    }

    fn count(&self, key: &str) -> Result<i64> {
        let key = &self.key(key);
        self.world.as_ref().map_or(Ok(0), |world| world.ask(|store| store.add(key, 1)))
    }

    /// Waits until all ranks have counted.
    fn wait_for_count(&self, key: &str) -> Result<()> {
        let Some(world) = &self.world else { return Ok(()) };
        let (started, key) = (std::time::Instant::now(), &self.key(key));
        while world.ask(|store| store.add(key, 0))? < world.size as i64 {
            ensure!(started.elapsed() < world.wait, "not all {} ranks came within {} s", world.size, world.wait.as_secs());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl World {
    fn ask<T>(&self, question: impl FnOnce(&Store) -> Result<T, tch::TchError>) -> Result<T> {
        question(&self.store).map_err(|error| self.lost(&error))
    }

    /// An error of the store or of Gloo, in words.
    fn lost(&self, error: &tch::TchError) -> Error {
        anyhow!("another rank has ended or cannot be reached; its own message says why ({})", first_line(error))
    }

    /// The same where nothing of a step is half done: if all were asked to stop and another rank was faster, this one was interrupted too.
    fn lost_between_steps(&self, error: &tch::TchError) -> Error {
        interrupt::check().map_or_else(Error::from, |()| self.lost(error))
    }

    fn sum(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.gloo.sum(tensors).map_err(|error| self.lost(&error))
    }

    /// Each tensor becomes the sum over the ranks. They travel side by side in flat copies.
    fn sum_in_buckets(&self, tensors: &mut [Tensor]) -> Result<()> {
        let mut groups: Vec<Vec<&mut Tensor>> = Vec::new();
        let mut filled = BUCKET;
        for tensor in tensors {
            if filled >= BUCKET {
                groups.push(Vec::new());
                filled = 0;
            }
            filled += tensor.numel();
            groups.last_mut().expect("one was just made").push(tensor);
        }
        let flat = |group: &Vec<&mut Tensor>| {
            let parts: Vec<Tensor> = group.iter().map(|tensor| tensor.reshape([-1])).collect();
            sent(&Tensor::cat(&parts, 0))
        };
        let mut buckets: Vec<Tensor> = groups.iter().map(flat).collect();
        self.sum(&mut buckets)?;
        for (group, bucket) in groups.into_iter().zip(&buckets) {
            let mut from = 0;
            for tensor in group {
                let count = tensor.numel() as i64;
                tensor.copy_(&bucket.narrow(0, from, count).view(&tensor.size()[..]));
                from += count;
            }
        }
        Ok(())
    }

    /// `[V·b,…]` of each rank, whose j-th sample is the batch's number `rank + j·W`, to `[V·B,…]` on the processor. Without gradient.
    fn interleave(&self, own: &Tensor, views: i64, samples: i64) -> Result<Tensor> {
        let rest = own.size()[1..].to_vec();
        let shape = |front: &[i64]| [front, &rest].concat();
        let size = self.size as i64;
        let most = (samples + size - 1) / size;
        let share = own.size()[0] / views;
        let block = Tensor::zeros(shape(&[views, most]), (own.kind(), Device::Cpu));
        no_grad(|| block.narrow(1, 0, share).copy_(&own.view(&shape(&[views, share])[..])));
        let all = self.gloo.gather(&block).map_err(|error| self.lost(&error))?; // [W,V,b,…]
        let order: Vec<i64> = [1, 2, 0].into_iter().chain(3..all.dim() as i64).collect();
        Ok(all.permute(order).reshape(shape(&[views, most * size])).narrow(1, 0, samples).reshape(shape(&[views * samples])))
    }
}

/// A contiguous copy on the processor, as Gloo wants it.
///
/// Gloo's own way for tensors of a GPU is this copy as well.
fn sent(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu).contiguous().copy()
}

fn wait() -> Result<Duration> {
    let Ok(text) = std::env::var("WSI_RANKS_WAIT") else { return Ok(WAIT) };
    let seconds = text.parse().ok().filter(|seconds: &u64| *seconds > 0);
    Ok(Duration::from_secs(seconds.with_context(|| format!("WSI_RANKS_WAIT must be a number of seconds, not '{text}'"))?))
}

/// libtorch's messages go on with a trace of addresses.
fn first_line(error: &tch::TchError) -> Error {
    let text = error.to_string();
    anyhow!("{}", text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given"))
}
