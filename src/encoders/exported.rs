//! A network that somebody exported as a file, for architectures that are not here: TorchScript (`torch.jit.save`, `.pt`) or an exported
//! program (`torch.export.save`, `.pt2`).
//!
//! Such a file is a program, run by libtorch: take it from people whose code you would run.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{CModule, Device, Kind, TchError, Tensor};

use super::Encoder;
use crate::torch::program::Program;

/// Settings of an exported network: none, the file says everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExportedSettings {}

/// Endings of the files.
pub const ENDINGS: [&str; 2] = ["pt", "pt2"];

/// What is said where such a network would have to be built or trained.
pub(super) const NO_FILE: &str =
    "an exported network is not built from settings and cannot be trained; give `wsi extract` the file: --encoder FILE.pt or FILE.pt2";

/// A loaded network that takes `[B,3,P,P]` and gives `[B,D]`.
pub struct Exported {
    network: Network,
    width: i64,
}

enum Network {
    Script(CModule),
    Program(Program),
}

impl Network {
    fn run(&self, images: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Script(module) => module.forward_ts(&[images]),
            Self::Program(program) => program.run(images),
        }
    }
}

impl Exported {
    /// Loads the file and tries it on black images of `input_px` pixels a side.
    ///
    /// # Errors
    /// A file of neither kind; a network that does not take such images, or gives something other than one vector for each.
    pub fn load(path: &Path, input_px: u32, device: Device) -> Result<Self> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let network = match path.extension().and_then(|ending| ending.to_str()) {
            Some("pt2") => {
                ensure!(
                    device == Device::Cpu,
                    "'{file}' runs on the processor alone (--device cpu); for a GPU export it as TorchScript (.pt)"
                );
                Network::Program(Program::load(path).with_context(|| {
                    format!(
                        "'{file}' is no program of `torch.export.save`; what AOTInductor compiled holds machine code and is not run here"
                    )
                })?)
            }
            _ => Network::Script(script(path, device).with_context(|| {
                format!(
                    "'{file}' is no TorchScript module of `torch.jit.save`; a state dict wants `wsi weights import` and an architecture"
                )
            })?),
        };
        let side = i64::from(input_px);
        let mut width = None;
        // One image and two: a network that was traced on a batch of one may have that number built in.
        for count in [1, 2] {
            let images = Tensor::zeros([count, 3, side, side], (Kind::Float, device));
            let vectors = tch::no_grad(|| network.run(&images)).with_context(|| {
                format!("'{file}' fails on images [{count}, 3, {side}, {side}]; extract.encoder.input says which side it gets")
            })?;
            match vectors.size()[..] {
                [rows, wide] if rows == count && wide > 0 && width.is_none_or(|width| width == wide) => width = Some(wide),
                ref shape => {
                    bail!("'{file}' gives {shape:?} for images [{count}, 3, {side}, {side}]; it must give one vector each, [{count}, D]")
                }
            }
        }
        Ok(Self { network, width: width.unwrap_or_default() })
    }
}

fn script(path: &Path, device: Device) -> Result<CModule> {
    // The optimising executor rewrites a module while it runs, after the first calls: features would depend on the order of tiles.
    tch::jit::f_set_profiling_mode(false)?;
    tch::jit::f_set_graph_executor_optimize(false)?;
    let mut module = CModule::load_on_device(path, device)?;
    module.f_set_eval()?;
    Ok(module)
}

impl Encoder for Exported {
    fn embed(&self, images: &Tensor, _train: bool) -> Tensor {
        self.network.run(images).expect("images of the side that it was tried with")
    }

    fn width(&self) -> i64 {
        self.width
    }

    /// As many as it was tried with.
    fn tiles_at_once(&self) -> usize {
        2
    }

    fn freeze(&mut self) {}
}
