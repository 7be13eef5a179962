//! MNIST bags: pictures of handwritten digits, drawn into bags; a bag is positive if one of them is a 9. Source: Ilse et al. 2018, §4.2.
//!
//! The digits are those of the MNIST test set, in its IDX layout: `t10k-images-idx3-ubyte.gz`, `t10k-labels-idx1-ubyte.gz`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::{Augment, Dataset, padding};
use crate::encoders::Normalisation;
use crate::ground::batch::{Batch, Input};
use crate::ground::seed;

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;

/// Settings of `[train.mnist-bags]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MnistBagsSettings {
    /// Bags of the part `train`.
    pub train_bags: usize,
    /// Bags of the part `test`.
    pub test_bags: usize,
    /// Mean number of digits in a bag.
    pub size: f64,
    /// Standard deviation of that number, which is rounded and at least 1.
    pub size_deviation: f64,
    /// The digit that makes a bag positive.
    pub positive: u8,
    /// Share of the digits that only bags of the part `test` are drawn from; the others are for `train`.
    pub test_digits: f64,
}

impl Default for MnistBagsSettings {
    fn default() -> Self {
        Self { train_bags: 200, test_bags: 1000, size: 10.0, size_deviation: 2.0, positive: 9, test_digits: 0.5 }
    }
}

impl MnistBagsSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.train_bags > 0 && self.test_bags > 0, "train.mnist-bags: train-bags and test-bags must be at least 1");
        ensure!(self.size >= 1.0 && self.size_deviation >= 0.0, "train.mnist-bags: size must be at least 1 and size-deviation at least 0");
        ensure!(self.positive <= 9, "train.mnist-bags.positive is {}, but a digit is 0 to 9", self.positive);
        ensure!(self.test_digits > 0.0 && self.test_digits < 1.0, "train.mnist-bags.test-digits must lie between 0 and 1");
        Ok(())
    }
}

/// The two files in a folder: images and labels.
pub fn files(folder: &Path) -> [PathBuf; 2] {
    ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"].map(|name| folder.join(name))
}

/// All bags, those of the part `train` first; every bag is its own group.
pub struct MnistBags {
    classes: Vec<String>,
    ids: Vec<String>,
    targets: Vec<i64>,
    part: Vec<String>,
    /// Numbers of digits, a bag.
    bags: Vec<Vec<usize>>,
    /// 784 bytes a digit.
    pixels: Vec<u8>,
}

impl MnistBags {
    /// Reads the digits of a folder and draws bags. Streams: `mnist-bags/digits` parts the digits, `mnist-bags/train` and
    /// `mnist-bags/test` draw.
    ///
    /// METHOD: digits are drawn with replacement, as in the released code of the paper, whose "variance 2" is the standard deviation
    /// of the size. There, training bags are drawn from MNIST's 60,000 training digits; here, from the half of 10,000 that no test bag
    /// sees.
    ///
    /// # Errors
    /// A file that is missing, no gzip, not of this layout or too short, files that do not belong together, a label beyond 9, a part
    /// in which every bag has the same class: each named.
    pub fn read(folder: &Path, settings: &MnistBagsSettings, seed: u64) -> Result<Self> {
        settings.check()?;
        let [images, labels] = files(folder);
        let pixels = idx(&images, &[SIDE, SIDE])?;
        let digits = idx(&labels, &[])?;
        ensure!(
            pixels.len() == digits.len() * PIXELS,
            "'{}' has {} images, '{}' has {} labels; take both from one source",
            images.display(),
            pixels.len() / PIXELS,
            labels.display(),
            digits.len()
        );
        if let Some(place) = digits.iter().position(|&digit| digit > 9) {
            bail!("'{}': label {} is {}, but a digit is 0 to 9; copy the file again", labels.display(), place + 1, digits[place]);
        }
        let mut order: Vec<usize> = (0..digits.len()).collect();
        order.shuffle(&mut seed::stream(seed, "mnist-bags/digits"));
        let for_test = (settings.test_digits * order.len() as f64).round() as usize;
        ensure!(for_test > 0 && for_test < order.len(), "'{}' has too few digits for two parts", labels.display());
        let (test, train) = order.split_at(for_test);
        let mut all = Self {
            classes: ["negative", "positive"].map(str::to_owned).to_vec(),
            ids: Vec::new(),
            targets: Vec::new(),
            part: Vec::new(),
            bags: Vec::new(),
            pixels,
        };
        all.draw("train", settings.train_bags, train, &digits, settings, seed)?;
        all.draw("test", settings.test_bags, test, &digits, settings, seed)?;
        Ok(all)
    }

    fn draw(&mut self, part: &str, bags: usize, from: &[usize], digits: &[u8], settings: &MnistBagsSettings, seed: u64) -> Result<()> {
        let mut random = seed::stream(seed, &format!("mnist-bags/{part}"));
        let before = self.targets.len();
        for index in 0..bags {
            let size = (settings.size + settings.size_deviation * normal(&mut random)).round().max(1.0) as usize;
            let bag: Vec<usize> = (0..size).map(|_| from[random.random_range(0..from.len())]).collect();
            self.targets.push(i64::from(bag.iter().any(|&digit| digits[digit] == settings.positive)));
            self.ids.push(format!("{part}/{index:05}"));
            self.part.push(part.to_owned());
            self.bags.push(bag);
        }
        let drawn = &self.targets[before..];
        ensure!(
            drawn.contains(&0) && drawn.contains(&1),
            "MNIST bags: all {bags} bags of the part '{part}' are {}; set more of train.mnist-bags.{part}-bags, or another size",
            self.classes[drawn[0] as usize]
        );
        Ok(())
    }
}

/// A standard normal number, by Box and Muller's transform of two uniform ones.
fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

/// The bytes of a gzipped IDX file whose items have these sides; its header is a type, the number of sides, and each side in four bytes.
fn idx(path: &Path, sides: &[usize]) -> Result<Vec<u8>> {
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot read '{}'; give the folder of the MNIST test set", path.display()))?;
    let mut bytes = Vec::new();
    GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .with_context(|| format!("'{}' is not a whole gzip file; copy it again", path.display()))?;
    let header = 4 * (2 + sides.len());
    let unsigned_bytes = 8;
    ensure!(
        bytes.len() >= header && bytes[..4] == [0, 0, unsigned_bytes, 1 + sides.len() as u8],
        "'{}' does not begin as an IDX file of bytes with {} sides; copy it again",
        path.display(),
        1 + sides.len()
    );
    let side = |index: usize| {
        let at = 4 * (1 + index);
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
    };
    for (index, &wanted) in sides.iter().enumerate() {
        ensure!(side(1 + index) == wanted, "'{}': items have a side of {}, digits have {wanted}", path.display(), side(1 + index));
    }
    let wanted = side(0) * sides.iter().product::<usize>();
    ensure!(
        bytes.len() - header == wanted,
        "'{}' holds {} bytes after its header, which promises {wanted}; copy it again",
        path.display(),
        bytes.len() - header
    );
    Ok(bytes.split_off(header))
}

impl Dataset for MnistBags {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn groups(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, name: &str) -> Option<Vec<String>> {
        (name == "part").then(|| self.part.clone())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn input(&self) -> Input {
        Input::ImageBags
    }

    /// Grey values stand in all three channels; digits are not changed at random.
    fn batch(&self, rows: &[usize], _augment: Option<Augment>, device: Device) -> Result<Batch> {
        let pixels = |row: &usize| self.bags[*row].iter().flat_map(|digit| &self.pixels[digit * PIXELS..][..PIXELS]).copied().collect();
        let bags: Vec<Vec<u8>> = rows.iter().map(pixels).collect();
        let mut batch = padding::padded(&bags, PIXELS, rows, &self.targets, device);
        let [bags, longest] = [batch.inputs.size()[0], batch.inputs.size()[1]];
        let Normalisation { mean, std } = Normalisation::MNIST;
        let grey = (batch.inputs / 255.0 - mean[0]) / std[0];
        batch.inputs = grey.view([bags, longest, 1, SIDE as i64, SIDE as i64]).expand([-1, -1, 3, -1, -1], false);
        Ok(batch)
    }
}
