//! Preprocessing against Pillow and torchvision: the stored names tell library, kernel, antialiasing, crop and what part is stored.

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use wsi::encoders::preprocess::{Interpolation, Library, Preprocess, Resize, Target};
use wsi::ground::units::Size;

use super::case::{Case, Limit, Outcome, each};
use super::fill;

/// Levels, untouched: what `apply` gives with mean 0 and deviation 1 is x/255.
const PLAIN: [[f64; 3]; 2] = [[0.0; 3], [1.0; 3]];

#[test]
fn preprocessing_matches_pillow_and_torchvision() {
    each("parity::preprocessing", "preprocessing", |case| {
        if case.name == "normalize_tables" {
            tables(case)
        } else {
            tile(case)
        }
        Outcome::Compared
    });
}

/// Every grey level under every normalisation.
fn tables(case: &Case) {
    let levels: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
    let limit = Limit::Element { rtol: 0.0, atol: case.tolerance("/abs").unwrap() };
    for name in case.names().filter(|name| !name.contains('.')) {
        let numbers = |part: &str| <[f64; 3]>::try_from(Vec::<f64>::try_from(case.stored(&format!("{name}.{part}"))).unwrap()).unwrap();
        let preprocess = Preprocess { resize: None, crop: None, mean: numbers("mean"), std: numbers("std") };
        let ours = preprocess.apply(&levels, 1, Size { width: 256, height: 1 }, Device::Cpu, Kind::Float).unwrap();
        case.compare(name, &ours.view([3, 256]), limit);
    }
}

struct Tile<'a> {
    case: &'a Case,
    pixels: Vec<u8>,
    size: Size,
}

fn tile(case: &Case) {
    let side = |name: &str| case.hyper()[name].as_u64().unwrap() as u32;
    let size = Size { width: side("W"), height: side("H") };
    let shape = [size.height, size.width, 3].map(i64::from);
    let stored = case.stored("tile");
    if case.name.contains("hash") {
        case.compare("tile", &fill::integers(&case.key("tile"), &shape, 256), Limit::Exact);
    }
    let tile = Tile { case, pixels: Vec::try_from(stored.flatten(0, -1)).unwrap(), size };
    for name in case.names().filter(|name| *name != "tile") {
        tile.compare(name);
    }
}

impl Tile<'_> {
    /// Computes what `name` says and compares; a word that is not known is a problem of the case.
    fn compare(&self, name: &str) {
        let case = self.case;
        let words: Vec<&str> = name.split('_').collect();
        let stored = case.stored(name).size();
        // In bytes: exactly as Pillow; as torchvision's tensors to a level; in numbers: two limits, before and after normalisation.
        let absolute = |atol: f64| Limit::Element { rtol: 0.0, atol };
        match words[..] {
            ["pil", short, _, "shape"] if short.starts_with("short") => {
                let seen = self.preprocess(Some(resize(Target::Short(number(short)), &words)), None, PLAIN).size(self.size);
                case.compare(name, &Tensor::from_slice(&[i64::from(seen.height), i64::from(seen.width)]), Limit::Exact);
            }
            ["pil", ..] => case.compare(name, &as_stored(&levels(&self.seen(&words)).permute([1, 2, 0]), &words, &stored, 0), Limit::Exact),
            ["v2", "uint8", ..] => case.compare(name, &as_stored(&levels(&self.seen(&words)), &words, &stored, 1), absolute(1.0)),
            ["v2", "float", ..] => case.compare(name, &as_stored(&self.seen(&words), &words, &stored, 1), absolute(1e-5)),
            ["pipeline", ..] => case.compare(name, &as_stored(&self.seen(&words), &words, &stored, 1), absolute(5e-5)),
            ["center", "crop"] => {
                let crop = self.apply(&self.preprocess(None, Some(self.target()), PLAIN));
                case.compare(name, &levels(&crop).permute([1, 2, 0]), Limit::Exact);
            }
            ["center", "crop", "larger", ..] => self.larger_crop(name, &stored),
            _ => case.problem(format!("'{name}' says something that the test does not know")),
        }
    }

    /// A crop that is larger than the tile and no square: as a square of its larger side, from which the rest is cut off again.
    fn larger_crop(&self, name: &str, stored: &[i64]) {
        let (height, width) = (self.size.height + 7, self.size.width + 10);
        let square = self.apply(&self.preprocess(None, Some(width), PLAIN));
        // The square's own border above is (width − H) / 2, that of the crop (height − H) / 2, each rounded down.
        let above = (width - self.size.height) / 2 - (height - self.size.height) / 2;
        let crop = square.narrow(1, i64::from(above), i64::from(height));
        self.case.compare(name, &as_stored(&levels(&crop).permute([1, 2, 0]), &["strided"], stored, 0), Limit::Exact);
    }

    /// `[3,H,W]` as the words of a name describe it.
    fn seen(&self, words: &[&str]) -> Tensor {
        let upscale = self.case.hyper()["upscale"].as_u64().unwrap() as u32;
        let (mut target, mut crop, mut normalisation) = (Target::Stretch(self.target(), self.target()), None, PLAIN);
        for (place, word) in words.iter().enumerate() {
            match *word {
                "up" => target = Target::Stretch(upscale, upscale),
                word if word.starts_with("short") => target = Target::Short(number(word)),
                word if word.starts_with("resize") => target = Target::Short(number(word)),
                word if word.starts_with("stretch") => target = Target::Stretch(number(word), number(word)),
                // Of the enlarged picture it is the corner that is stored.
                "crop" if words[place - 1] == "up" => {}
                word if word.starts_with("crop") => crop = Some(number(word)),
                "center" => crop = Some(self.target()),
                "imagenet" => normalisation = self.normalisation("imagenet"),
                "hoptimus" => normalisation = self.normalisation("h_optimus"),
                "pil" | "v2" | "uint8" | "float" | "noantialias" | "bilinear" | "bicubic" | "pipeline" | "rows" | "strided" => {}
                word => self.case.problem(format!("'{}': the test does not know '{word}'", words.join("_"))),
            }
        }
        self.apply(&self.preprocess(Some(resize(target, words)), crop, normalisation))
    }

    fn preprocess(&self, resize: Option<Resize>, crop: Option<u32>, [mean, std]: [[f64; 3]; 2]) -> Preprocess {
        Preprocess { resize, crop, mean, std }
    }

    fn apply(&self, preprocess: &Preprocess) -> Tensor {
        preprocess.apply(&self.pixels, 1, self.size, Device::Cpu, Kind::Float).unwrap().squeeze_dim(0)
    }

    fn target(&self) -> u32 {
        self.case.hyper()["target"].as_u64().unwrap() as u32
    }

    fn normalisation(&self, name: &str) -> [[f64; 3]; 2] {
        let numbers = |value: &Value| std::array::from_fn(|channel| value[channel].as_f64().unwrap());
        let table = &self.case.hyper()[name];
        [numbers(&table["mean"]), numbers(&table["std"])]
    }
}

fn resize(to: Target, words: &[&str]) -> Resize {
    let interpolation = if words.iter().any(|word| word.contains("bicubic")) { Interpolation::Bicubic } else { Interpolation::Bilinear };
    let library = match words[..] {
        ["v2", "uint8", ..] => Library::TorchU8,
        ["v2", "float", ..] => Library::TorchF32,
        _ => Library::Pillow,
    };
    Resize { to, interpolation, library, antialias: !words.contains(&"noantialias") }
}

/// The digits of `short256`, `resize256bicubic`, `crop224`.
fn number(word: &str) -> u32 {
    word.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// x/255 back to x.
fn levels(images: &Tensor) -> Tensor {
    (images * 255.0).round().to_kind(Kind::Uint8)
}

/// The part of `whole` that is stored; its rows are in dimension `row`.
fn as_stored(whole: &Tensor, words: &[&str], stored: &[i64], row: i64) -> Tensor {
    let (height, width) = (whole.size()[row as usize], whole.size()[row as usize + 1]);
    if words.contains(&"rows") {
        return whole.index_select(row, &Tensor::from_slice(&[0, 1, 2, height / 2, height - 2, height - 1]));
    }
    if words.contains(&"up") {
        return whole.narrow(row, 0, stored[row as usize]).narrow(row + 1, 0, stored[row as usize + 1]);
    }
    if words.contains(&"strided") || words.contains(&"center") {
        let step = |side: i64, kept: i64| (side as u64).div_ceil(kept as u64) as i64;
        let (rows, columns) = (step(height, stored[row as usize]), step(width, stored[row as usize + 1]));
        return whole.slice(row, 0, height, rows).slice(row + 1, 0, width, columns);
    }
    whole.shallow_clone()
}
