//! The door: parse, run, print one error, return an exit code.
//!
//! 0 done · 1 failed · 2 wrong usage · 75 interrupted, the same command continues.

use std::io::IsTerminal;
use std::process::ExitCode;

use wsi::ground::interrupt::{self, Interrupted};
use wsi::ground::{libtorch, memory};

fn main() -> ExitCode {
    let listening = interrupt::listen();
    memory::keep_what_is_freed();
    let cli = wsi::cli::Cli::given();
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .init();
    let outcome = libtorch::choose().and_then(|()| Ok(listening?)).and_then(|()| cli.run());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if error.is::<Interrupted>() { ExitCode::from(75) } else { ExitCode::FAILURE }
        }
    }
}
