//! Slurm's own programs, called with a limit: a controller that is gone keeps them waiting for minutes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a program may take; `WSI_SLURM_WAIT`, in seconds, changes it.
const WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// What a program of Slurm prints.
///
/// # Errors
/// A program that is not there, does not answer in time, or refuses; then its own words are repeated.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    let limit = wait()?;
    let mut child = Command::new(program)
        .args(arguments)
        // Lists of an array's jobs are cut off otherwise.
        .env("SLURM_BITSTR_LEN", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start '{program}'; Slurm's programs must be on the PATH: call wsi on a login node"))?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // What could not be read is missing from the message, no more.
            let _ = from.map(|mut from| from.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(out.map(|pipe| Box::new(pipe) as _));
    let errors = read(errors.map(|pipe| Box::new(pipe) as _));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for '{program}'"))? {
            break status;
        }
        if started.elapsed() > limit {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            bail!(
                "Slurm does not answer: '{program}' was given {} s (WSI_SLURM_WAIT); try again when its controller is back",
                limit.as_secs()
            );
        }
        std::thread::sleep(LOOK);
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (out, errors) = (text(out), text(errors));
    if !status.success() {
        let said = errors.lines().chain(out.lines()).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        bail!("{program}: {}", if said.is_empty() { status.to_string() } else { said });
    }
    Ok(out)
}

fn wait() -> Result<Duration> {
    let Ok(text) = std::env::var("WSI_SLURM_WAIT") else { return Ok(WAIT) };
    let seconds = text.parse().ok().filter(|seconds: &u64| *seconds > 0);
    Ok(Duration::from_secs(seconds.with_context(|| format!("WSI_SLURM_WAIT must be a number of seconds, not '{text}'"))?))
}
