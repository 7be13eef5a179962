//! Batches of tiles through the frozen network, always in the same shape, halved where the device's memory is too small.
//!
//! On a processor a tile's place in its group follows from its place in the plan, and what is missing is black: the bytes of a vector
//! depend neither on threads nor on where a batch, or an interrupted call, began and ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use rayon::prelude::*;
use tch::{Device, Kind, TchError, Tensor};

use super::super::frozen::Frozen;
use crate::ground::interrupt;
use crate::ground::tile_status::TileStatus;
use crate::ground::usage::thread_time;
use crate::store::values::{Dtype, Values};
use crate::tiling::stream::TileBatch;
use crate::torch::{caught, is_out_of_memory};

/// Vectors, and what they took: seconds of processor time of all threads, on a GPU seconds by the clock.
pub(in crate::stages) struct Embedded {
    /// `[B,D]`
    pub(in crate::stages) values: Values,
    /// From bytes to the network's input.
    pub(in crate::stages) prepare: Duration,
    /// The network.
    pub(in crate::stages) encode: Duration,
}

impl Embedded {
    fn none(dtype: Dtype) -> Self {
        Self { values: Values::with_capacity(dtype, 0), prepare: Duration::ZERO, encode: Duration::ZERO }
    }

    fn extend(&mut self, more: &Self) {
        self.values.extend_from(&more.values, 0);
        self.prepare += more.prepare;
        self.encode += more.encode;
    }
}

/// What turns tiles into vectors.
trait Network: Sync {
    /// `count` tiles, `[count, P, P, 3]`, to `[count,D]`.
    ///
    /// # Errors
    /// [`TooLarge`], when fewer tiles may fit; whatever else the network throws.
    fn embed(&self, pixels: &[u8], count: usize) -> Result<Embedded>;
}

/// The device's memory does not hold so many tiles at once.
#[derive(Debug)]
struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "out of memory on the device")
    }
}

impl std::error::Error for TooLarge {}

struct OnDevice<'a> {
    frozen: &'a Frozen,
    kind: Kind,
    dtype: Dtype,
}

impl OnDevice<'_> {
    fn now(&self) -> Duration {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        if self.frozen.device.is_cuda() { START.elapsed() } else { thread_time() }
    }

    fn read(&self, vectors: &Tensor) -> Result<Values> {
        let vectors = vectors.flatten(0, -1);
        Ok(match self.dtype {
            Dtype::F16 => Values::Half(Vec::try_from(vectors.to_kind(Kind::Half).to_device(Device::Cpu))?),
            Dtype::F32 => Values::Single(Vec::try_from(vectors.to_kind(Kind::Float).to_device(Device::Cpu))?),
        })
    }
}

impl Network for OnDevice<'_> {
    fn embed(&self, pixels: &[u8], count: usize) -> Result<Embedded> {
        let outcome = caught(|| {
            let started = self.now();
            let images = self.frozen.prepare(pixels, count)?;
            let prepared = self.now();
            let values = self.read(&self.frozen.encode(&images, self.kind)?)?;
            Ok(Embedded { values, prepare: prepared - started, encode: self.now() - prepared })
        });
        // What libtorch throws comes as a panic of tch that was caught, or as an error of a function that was asked for one.
        outcome.map_err(anyhow::Error::from).and_then(|embedded| embedded).map_err(|error| told(error, &self.frozen.origin.encoder))
    }
}

/// What the error of an encoder's call means.
fn told(error: anyhow::Error, encoder: &str) -> anyhow::Error {
    match error.downcast::<TchError>() {
        Ok(error) if is_out_of_memory(&error) => TooLarge.into(),
        Ok(error) => anyhow!("{encoder}: libtorch: {}", first_line(&error.to_string())),
        Err(error) => error,
    }
}

/// libtorch adds where in its own code; `\n` stands as two characters in the text of a panic.
fn first_line(text: &str) -> &str {
    text.split(['\n']).next().and_then(|line| line.split("\\n").next()).unwrap_or(text)
}

/// The frozen network as the pipeline sees it; shared by the threads that feed the device.
pub(in crate::stages) struct Embedder<'a> {
    network: Box<dyn Network + 'a>,
    encoder: &'a str,
    /// D
    width: usize,
    dtype: Dtype,
    /// Threads that embed groups of tiles side by side; `None` on a GPU, where a batch is one call.
    threads: Option<&'a rayon::ThreadPool>,
    /// Tiles of one call: a group, or a batch. Smaller once they did not fit the device.
    at_once: AtomicUsize,
    group: usize,
}

impl<'a> Embedder<'a> {
    /// `batch_size` tiles a call on a GPU; the network computes in `kind`, and the vectors are kept as `dtype`.
    pub(in crate::stages) fn new(frozen: &'a Frozen, batch_size: usize, kind: Kind, dtype: Dtype) -> Self {
        let threads = (!frozen.device.is_cuda()).then_some(&frozen.threads);
        let group = if threads.is_some() { frozen.tiles_at_once } else { batch_size };
        Self {
            network: Box::new(OnDevice { frozen, kind, dtype }),
            encoder: &frozen.origin.encoder,
            width: frozen.width,
            dtype,
            threads,
            at_once: AtomicUsize::new(group),
            group,
        }
    }

    /// Tiles of a batch of about `wanted`: whole groups.
    pub(in crate::stages) fn whole_groups(&self, wanted: usize) -> usize {
        if self.threads.is_some() { wanted.next_multiple_of(self.group) } else { wanted }
    }

    /// Vectors of the tiles with pixels, in their order.
    ///
    /// # Errors
    /// A number that half precision cannot hold; a device too small for a single tile; an interruption.
    pub(in crate::stages) fn embed(&self, batch: &TileBatch) -> Result<Embedded> {
        if batch.count == 0 {
            return Ok(Embedded::none(self.dtype));
        }
        let embedded = match self.threads {
            None => self.rows(&batch.pixels, batch.count)?,
            Some(threads) => {
                let groups = groups(batch, self.group);
                let parts = threads.install(|| groups.par_iter().map(|group| self.group(batch, group)).collect::<Result<Vec<_>>>())?;
                let mut whole = Embedded::none(self.dtype);
                parts.iter().for_each(|part| whole.extend(part));
                whole
            }
        };
        ensure!(embedded.values.len() == batch.count * self.width, "{} gave vectors of another width than {}", self.encoder, self.width);
        ensure!(
            embedded.values.fit_half(),
            "{} gave numbers that half precision cannot hold in tiles {} to {}; check the weights",
            self.encoder,
            batch.first,
            batch.first + batch.status.len() - 1
        );
        Ok(embedded)
    }

    /// A group as one call, black where a tile has no pixels.
    fn group(&self, batch: &TileBatch, rows: &[Option<usize>]) -> Result<Embedded> {
        interrupt::check()?;
        let tile_bytes = batch.pixels.len() / batch.count;
        let mut pixels = vec![0; self.group * tile_bytes];
        for (place, row) in pixels.chunks_exact_mut(tile_bytes).zip(rows) {
            if let Some(row) = row {
                place.copy_from_slice(&batch.pixels[row * tile_bytes..][..tile_bytes]);
            }
        }
        let all = self.rows(&pixels, self.group)?;
        let mut kept = Embedded { values: Values::with_capacity(self.dtype, all.values.len()), ..all };
        for place in (0..self.group).filter(|&place| rows[place].is_some()) {
            kept.values.extend_from(&all.values.slice(place * self.width, self.width), 0);
        }
        Ok(kept)
    }

    /// `count` tiles in calls of one shape, the last filled up with black.
    fn rows(&self, pixels: &[u8], count: usize) -> Result<Embedded> {
        let tile_bytes = pixels.len() / count;
        let mut whole = Embedded::none(self.dtype);
        let mut done = 0;
        while done < count {
            let at_once = self.at_once.load(Ordering::Relaxed);
            let now = at_once.min(count - done);
            let part = &pixels[done * tile_bytes..][..now * tile_bytes];
            let outcome = if now == at_once {
                self.network.embed(part, at_once)
            } else {
                let mut filled = part.to_vec();
                filled.resize(at_once * tile_bytes, 0);
                self.network.embed(&filled, at_once)
            };
            match outcome {
                Ok(embedded) => {
                    whole.extend(&Embedded { values: embedded.values.slice(0, now * self.width), ..embedded });
                    done += now;
                }
                // On a processor another size of the calls might be other bytes.
                Err(error) if error.is::<TooLarge>() && self.threads.is_none() => self.halve(at_once)?,
                Err(error) if error.is::<TooLarge>() => bail!("{} has no memory left; give it more, or fewer --threads", self.encoder),
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }

    /// # Errors
    /// One tile was too much.
    fn halve(&self, at_once: usize) -> Result<()> {
        ensure!(
            at_once > 1,
            "the device's memory does not hold {} and one tile; end other programs on it, or take another --device",
            self.encoder
        );
        // Another thread may have halved it meanwhile.
        if self.at_once.compare_exchange(at_once, at_once / 2, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("extract: {at_once} tiles at once do not fit the device's memory; going on with {}", at_once / 2);
        }
        Ok(())
    }
}

/// The batch's tiles in groups: those whose places in the plan, divided by `size`, are equal. At each place the tile's row among those
/// with pixels, or `None`. Groups without pixels are left out.
fn groups(batch: &TileBatch, size: usize) -> Vec<Vec<Option<usize>>> {
    let mut groups: Vec<Vec<Option<usize>>> = Vec::new();
    let (mut row, mut number) = (0, None);
    for (tile, status) in batch.status.iter().enumerate() {
        if *status != TileStatus::Ok {
            continue;
        }
        let position = batch.first + tile;
        if number != Some(position / size) {
            number = Some(position / size);
            groups.push(vec![None; size]);
        }
        if let Some(group) = groups.last_mut() {
            group[position % size] = Some(row);
        }
        row += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// Gives each tile's first byte; remembers how it was called; takes no more than `fits` tiles.
    struct Echo {
        fits: usize,
        calls: std::sync::Mutex<Vec<usize>>,
    }

    impl Network for &Echo {
        fn embed(&self, pixels: &[u8], count: usize) -> Result<Embedded> {
            self.calls.lock().unwrap().push(count);
            ensure!(count <= self.fits, TooLarge);
            let values = pixels.chunks(pixels.len() / count).map(|tile| f16::from_f32(f32::from(tile[0]))).collect();
            Ok(Embedded { values: Values::Half(values), ..Embedded::none(Dtype::F16) })
        }
    }

    fn echo(fits: usize) -> Echo {
        Echo { fits, calls: std::sync::Mutex::default() }
    }

    fn embedder<'a>(network: &'a Echo, threads: Option<&'a rayon::ThreadPool>, group: usize) -> Embedder<'a> {
        let at_once = AtomicUsize::new(group);
        Embedder { network: Box::new(network), encoder: "echo", width: 1, dtype: Dtype::F16, threads, at_once, group }
    }

    /// Tiles of one pixel whose value is their place in the plan; every fifth has none.
    fn batch(first: usize, tiles: usize) -> TileBatch {
        let has_pixels = |position: &usize| position % 5 != 4;
        let status =
            (first..first + tiles).map(|position| if has_pixels(&position) { TileStatus::Ok } else { TileStatus::Blank }).collect();
        let pixels: Vec<u8> = (first..first + tiles).filter(has_pixels).flat_map(|position| [position as u8; 3]).collect();
        TileBatch { first, status, count: pixels.len() / 3, pixels, ..TileBatch::default() }
    }

    fn expected(first: usize, tiles: usize) -> Values {
        Values::Half((first..first + tiles).filter(|position| position % 5 != 4).map(|position| f16::from_f32(position as f32)).collect())
    }

    #[test]
    fn every_call_has_one_shape_and_every_tile_its_row() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (first, tiles) in [(0, 20), (3, 1), (4, 1), (4, 7), (7, 13)] {
            for (threads, group) in [(None, 8), (Some(&threads), 2), (Some(&threads), 3)] {
                let network = echo(100);
                let embedded = embedder(&network, threads, group).embed(&batch(first, tiles)).unwrap();
                assert_eq!(embedded.values, expected(first, tiles), "{tiles} from {first} by {group}");
                assert!(network.calls.lock().unwrap().iter().all(|&count| count == group));
            }
        }
    }

    #[test]
    fn a_tile_has_its_place_in_its_group_wherever_the_batch_begins() {
        let places = |first: usize, tiles: usize| {
            let batch = batch(first, tiles);
            let tile = |row: usize| batch.pixels[3 * row];
            let of = |group: Vec<Option<usize>>| group.into_iter().map(|row| row.map(tile)).collect::<Vec<_>>();
            groups(&batch, 3).into_iter().map(of).collect::<Vec<_>>()
        };
        let whole = places(0, 12);
        assert_eq!(whole, [[Some(0), Some(1), Some(2)], [Some(3), None, Some(5)], [Some(6), Some(7), Some(8)], [None, Some(10), Some(11)]]);
        assert_eq!([places(0, 6), places(6, 6)].concat(), whole);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved_for_good_and_a_tile_that_does_not_is_an_error() {
        let network = echo(4);
        let embedder = embedder(&network, None, 16);
        assert_eq!(embedder.embed(&batch(0, 20)).unwrap().values, expected(0, 20));
        assert_eq!(*network.calls.lock().unwrap(), [16, 8, 4, 4, 4, 4]);
        assert_eq!(embedder.embed(&batch(0, 2)).unwrap().values, expected(0, 2));
        assert_eq!(network.calls.lock().unwrap().last(), Some(&4));

        let network = echo(0);
        let error = self::embedder(&network, None, 16).embed(&batch(0, 20)).err().unwrap().to_string();
        assert!(error.contains("does not hold echo and one tile"), "{error}");
        assert_eq!(*network.calls.lock().unwrap(), [16, 8, 4, 2, 1]);
    }
    #[test]
    fn memory_that_ran_out_is_told_from_other_errors_however_it_comes() {
        let thrown = |text: &str| anyhow::Error::from(TchError::Torch(text.to_owned()));
        assert!(told(thrown("CUDA out of memory. Tried to allocate 2.00 GiB."), "x").is::<TooLarge>());
        assert_eq!(
            told(thrown("shapes differ\nException raised from …"), "x").to_string(),
            "x: libtorch: Internal torch error: shapes differ"
        );
        assert!(told(interrupt::Interrupted.into(), "x").is::<interrupt::Interrupted>());
    }
}
