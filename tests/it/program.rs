//! The real program as a user calls it.

use std::process::{Command, Output};

/// Runs `wsi` with the arguments.
pub fn wsi<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsi")).args(arguments).output().expect("the program starts")
}

/// What it said on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
