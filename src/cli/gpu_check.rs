//! `wsi gpu-check`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::MachineArguments;
use crate::stages::gpu_check::{self, Settings};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// JSON file for what is found
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Encoder to check, with random weights; may be repeated (ResNet-50, ViT-S/16 and ViT-L/16)
    #[arg(long = "encoder", value_name = "NAME", default_values_t = ["resnet50", "lunit-vits16", "uni"].map(str::to_owned))]
    encoders: Vec<String>,
    /// Distance of the tiles of the throughput's slide in pixels; fewer pixels, more tiles
    #[arg(long, value_name = "PX", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    step_px: u32,
    /// Seconds that the loop of an encoder alone runs
    #[arg(long, value_name = "S", default_value_t = 5)]
    loop_seconds: u64,
    /// Folder of CIFAR-100 in its binary layout [default: images made up]
    #[arg(long, value_name = "DIR")]
    cifar: Option<PathBuf>,
    /// Images that are made up
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    images: usize,
    /// Seconds after which no new check is begun
    #[arg(long, value_name = "S", default_value_t = 420)]
    limit: u64,
    /// How the card is called, for the JSON
    #[arg(long, value_name = "TEXT")]
    card: Option<String>,
    #[command(flatten)]
    machine: MachineArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let settings = Settings {
            encoders: self.encoders,
            step_px: self.step_px,
            loop_for: Duration::from_secs(self.loop_seconds),
            cifar: self.cifar,
            images: self.images,
            limit: Duration::from_secs(self.limit),
            card: self.card,
        };
        gpu_check::run(&settings, &self.out, &self.machine.machine()?)
    }
}
