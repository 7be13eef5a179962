//! What an encoder is, as data: an architecture, the images that it wants, and where its weights come from. One TOML file an encoder.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::Kind;
use toml::{Table, Value};

use super::EncoderSettings;
use super::preprocess::Preprocess;
use crate::ground::units::Size;

/// Settings of `[extract.encoder]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EncoderSpec {
    /// What bags call it, and the name of its weight file.
    pub name: String,
    /// The network.
    pub architecture: EncoderSettings,
    /// What is done to tiles before it sees them. A tile that already has its side is only normalised.
    pub input: Preprocess,
    /// What it computes in on a GPU where `extract.precision` is `auto`.
    #[serde(default)]
    pub gpu_precision: GpuPrecision,
    /// Where its weights come from; changes no feature.
    #[serde(default)]
    pub weights: Published,
}

/// Numbers of the forward pass on a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuPrecision {
    /// Single.
    F32,
    /// Half.
    #[default]
    F16,
    /// bfloat16, for networks whose numbers leave the range of half precision.
    Bf16,
}

impl GpuPrecision {
    /// The kind of number.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// Published weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Published {
    /// Their licence.
    pub licence: String,
    /// Where to ask for them: nothing is ever downloaded.
    pub source: String,
    /// The file to import.
    pub file: String,
    /// Its sha256, or the beginning of it that its name states; empty where nobody stated one.
    pub sha256: String,
}

impl EncoderSpec {
    /// The encoder that is meant where none is named.
    pub const DEFAULT: &'static str = "efficientnet-lite0";

    /// Names of all that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The one called `name` that comes with the program.
    ///
    /// # Errors
    /// No such name.
    pub fn built_in(name: &str) -> Result<Self> {
        let mut section = Table::from_iter([("name".to_owned(), Value::from(name))]);
        Self::complete(&mut section)?;
        Value::Table(section).try_into().with_context(|| format!("the encoder '{name}' that comes with the program"))
    }

    /// Side of the square that the network sees, pixels.
    ///
    /// # Errors
    /// An input that cannot be made, or has no side: neither `crop` nor `resize`.
    pub fn px(&self) -> Result<u32> {
        let Preprocess { crop, resize, .. } = &self.input;
        let at = || format!("the encoder '{}': [extract.encoder.input]", self.name);
        self.input.check().with_context(at)?;
        ensure!(crop.is_some() || resize.is_some(), "{} says no side; give it `crop` or `resize`, in pixels", at());
        let Size { width, height } = self.input.size(Size { width: 1, height: 1 });
        ensure!(width == height, "{} makes images of {width} × {height} px of square tiles; a square is wanted", at());
        Ok(width)
    }

    /// What identifies it: all that can change a feature.
    pub fn identity(&self) -> serde_json::Value {
        serde_json::json!({"name": self.name, "architecture": self.architecture, "input": self.input, "gpu-precision": self.gpu_precision})
    }

    /// Puts what comes with the program under the settings of `section`, which names an encoder or describes one of its own.
    ///
    /// # Errors
    /// A name that is not known, without an architecture; an architecture without a name; a name that cannot be a file's.
    pub fn complete(section: &mut Table) -> Result<()> {
        let has = |part: &str, key: &str| section.get(part).is_some_and(|part| part.get(key).is_some());
        let (architecture, input) = (has("architecture", "name"), has("input", "mean") && has("input", "std"));
        ensure!(
            section.contains_key("name") || !architecture,
            "settings: [extract.encoder] describes a network of its own; give it a `name`, which its bags and its weight file will have"
        );
        let name =
            section.get("name").map_or(Some(Self::DEFAULT), Value::as_str).context("settings: extract.encoder.name is not a name")?;
        let plain = |letter: char| !letter.is_control() && !"/\\".contains(letter);
        ensure!(
            !name.is_empty() && !name.starts_with('.') && name.chars().all(plain),
            "an encoder cannot be called '{}': its weights lie in a file of that name",
            name.escape_debug()
        );
        if architecture && input {
            return Ok(()); // described in full, whatever it is called
        }
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => {
                let mut spec: Table = text.parse().with_context(|| format!("configs/encoders/{known}.toml"))?;
                spec.insert("name".to_owned(), Value::from(*known));
                spec = over(spec, std::mem::take(section));
                *section = spec;
                Ok(())
            }
            None if section.contains_key("architecture") => Ok(()),
            None => bail!(
                "no encoder is called '{name}'{}; `wsi encoders` lists them; your own wants its [extract.encoder.architecture]",
                near(name).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default()
            ),
        }
    }
}

impl Default for EncoderSpec {
    fn default() -> Self {
        Self::built_in(Self::DEFAULT).expect("the default comes with the program")
    }
}

/// `above` over `below`, table by table; another architecture replaces the former one whole.
fn over(mut below: Table, above: Table) -> Table {
    for (key, value) in above {
        let merged = match (below.remove(&key), value) {
            (Some(Value::Table(former)), Value::Table(new)) => {
                // Another architecture, or another way of saying a size.
                let other = new.get("name").is_some_and(|name| former.get("name") != Some(name)) || key == "to";
                Value::Table(if other { new } else { over(former, new) })
            }
            (_, value) => value,
        };
        below.insert(key, merged);
    }
    below
}

fn near(name: &str) -> Option<&'static str> {
    EncoderSpec::names()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}

macro_rules! built_in {
    ($($name:literal)+) => { &[$(($name, include_str!(concat!("../../configs/encoders/", $name, ".toml")))),+] };
}

/// Every encoder that comes with the program: its name and its file.
const BUILT_IN: &[(&str, &str)] = built_in![
    "efficientnet-lite0"
    "resnet18"
    "resnet34"
    "resnet50"
    "resnet50-trunc"
    "resnet101"
    "resnet152"
    "lunit-vits16"
    "lunit-vits8"
    "uni"
    "uni2-h"
    "virchow"
    "virchow2"
    "gigapath"
    "phikon"
    "phikon-v2"
    "h-optimus-0"
    "h-optimus-1"
    "hibou-b"
    "hibou-l"
    "midnight"
    "kaiko-vits8"
    "kaiko-vits16"
    "kaiko-vitb8"
    "kaiko-vitb16"
    "kaiko-vitl14"
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_encoder_is_whole() {
        for name in EncoderSpec::names() {
            let spec = EncoderSpec::built_in(name).unwrap();
            assert_eq!((spec.name.as_str(), spec.px().unwrap()), (name, 224));
            assert!(!spec.weights.licence.is_empty() && !spec.weights.source.is_empty(), "{name} says whose weights it takes");
        }
    }

    #[test]
    fn settings_go_over_what_comes_with_the_program() {
        let mut section: Table = "name = 'resnet18'\ninput.crop = 96".parse().unwrap();
        EncoderSpec::complete(&mut section).unwrap();
        let spec: EncoderSpec = Value::Table(section).try_into().unwrap();
        assert_eq!((spec.px().unwrap(), spec.input.mean[0], spec.architecture.name()), (96, 0.485, "resnet18"));
    }

    fn completed(text: &str) -> Result<EncoderSpec> {
        let mut section: Table = text.parse()?;
        EncoderSpec::complete(&mut section)?;
        Ok(Value::Table(section).try_into()?)
    }

    #[test]
    fn a_description_in_full_takes_nothing_from_a_namesake() {
        let mine = "architecture.name = 'resnet18'\ninput = { resize = { to = { short = 32 } }, mean = [0, 0, 0], std = [1, 1, 1] }";
        let spec = completed(&format!("name = 'resnet50'\n{mine}")).unwrap();
        assert_eq!((spec.px().unwrap(), spec.input.crop, spec.weights.licence.as_str()), (32, None, ""));
        assert!(completed(mine).unwrap_err().to_string().contains("give it a `name`"));
        for name in ["../../x", "a/b", ".x", ""] {
            assert!(completed(&format!("name = '{name}'\n{mine}")).unwrap_err().to_string().contains("cannot be called"), "{name}");
        }
        let stretched = completed("name = 'resnet18'\ninput.resize.to.stretch = [96, 96]\ninput.crop = 96").unwrap();
        assert_eq!(stretched.px().unwrap(), 96);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let error = EncoderSpec::built_in("resnet50-trunk").unwrap_err().to_string();
        assert!(error.contains("'resnet50-trunc'"), "{error}");
    }
}
