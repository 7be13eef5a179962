//! `wsi view`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stages::{Machine, view};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Tile, probe and heatmap runs, folders that hold some, or slides (a folder, a file, a table)
    #[arg(required = true, value_name = "RUN|SLIDES")]
    given: Vec<PathBuf>,
    /// The slides behind the runs: a folder, a slide or a table
    #[arg(long, value_name = "DIR|FILE|CSV")]
    slides: Option<PathBuf>,
    /// What people drew on the slides: a folder of files named by slide (GeoJSON, XML of ASAP)
    #[arg(long, value_name = "DIR")]
    annotations: Option<PathBuf>,
    /// Port on this machine's own address; 0 takes one that is free
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Requests that are worked at at once; 0 takes every processor this process may use
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// Where one of these is set, the browser is on another machine.
const ELSEWHERE: [&str; 2] = ["SSH_CONNECTION", "SLURM_JOB_ID"];

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let machine = Machine::new("cpu", self.threads)?;
        let inputs = view::Inputs { given: self.given, slides: self.slides, annotations: self.annotations, port: self.port };
        let tunnel = |port: u16| {
            if ELSEWHERE.iter().any(|name| std::env::var_os(name).is_some()) {
                say(&format!("On your own machine: ssh -N -L {port}:127.0.0.1:{port} <this machine>"));
            }
        };
        view::run(&inputs, machine.threads, tunnel, |link| say(&format!("Open once, in one browser: {link}")))
    }
}

/// A line on standard output, at once: a pipe would keep it. A reader that has gone ends nothing.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
