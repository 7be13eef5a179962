//! A Python process beside this one: it takes orders, one a line, and answers each with one line.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

pub(super) struct Peer {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `reference/SCRIPT` with the packages in the folder `packages`.
    pub(super) fn start(packages: &OsStr, script: &str, arguments: &[String]) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/reference").join(script);
        let mut process = Command::new("python3")
            .env("PYTHONPATH", packages)
            // Its libraries are those of its own wheels, its allocator is as they leave it.
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("THP_MEM_ALLOC_ENABLE")
            .args(["-W", "ignore"])
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let (orders, answers) = (process.stdin.take().context("its input")?, process.stdout.take().context("its output")?);
        Ok(Self { process, orders, answers: BufReader::new(answers) })
    }

    pub(super) fn ask(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("the Python side ended at '{order}': {}", self.process.wait()?);
        }
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
