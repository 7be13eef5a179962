//! Who holds leases, and whether it lives.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What `<token>.alive` says. No host: the job's number tells a cluster's users where it runs, and the number of a machine's boot,
/// made anew each time, tells processes of that machine that it is theirs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Slurm's job or, within an array, `<array>_<task>`.
    pub job: Option<String>,
    /// Slurm's array, which its tasks share.
    pub array: Option<String>,
    pub pid: u32,
    /// When the process started, in the kernel's ticks: numbers of processes come again.
    pub started: Option<u64>,
    pub boot: String,
    /// Which processes its number counts among; containers have their own.
    pub pids: String,
    /// Seconds without a sign after which it is gone.
    pub expires: f64,
}

impl Owner {
    pub(super) fn this(expires: Duration) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let array = variable("SLURM_ARRAY_JOB_ID");
        let job = match (&array, variable("SLURM_ARRAY_TASK_ID")) {
            (Some(array), Some(task)) => Some(format!("{array}_{task}")),
            _ => variable("SLURM_JOB_ID"),
        };
        let pid = std::process::id();
        Self { job, array, pid, started: started(pid), boot: boot(), pids: pids(), expires: expires.as_secs_f64() }
    }

    /// In words.
    pub(super) fn name(&self) -> String {
        match (&self.job, self.is_near()) {
            (Some(job), _) => format!("job {job}"),
            (None, true) => format!("process {}", self.pid),
            (None, false) => format!("process {} of another machine", self.pid),
        }
    }

    /// Whether this process can see it.
    fn is_near(&self) -> bool {
        !self.boot.is_empty() && self.boot == boot() && self.pids == pids()
    }

    /// Whether it is known to have ended.
    fn has_ended(&self) -> bool {
        // Where it cannot be looked at it may belong to somebody else.
        self.is_near() && (is_gone(self.pid) || started(self.pid).is_some_and(|started| Some(started) != self.started))
    }
}

/// Who holds the token, in words, if it lives; `lease` is the time of a lease of its, which counts while it has no token yet, and `now`
/// the file server's.
pub(super) fn alive(folder: &Path, token: &str, lease: SystemTime, now: SystemTime) -> Result<Option<String>> {
    if token.is_empty() {
        let fresh = now.duration_since(lease).unwrap_or_default() <= super::expires()?;
        return Ok(fresh.then(|| "another process".to_owned()));
    }
    let Some((owner, seen)) = read(folder, token)? else { return Ok(None) };
    let age = now.duration_since(seen).unwrap_or_default();
    Ok((age.as_secs_f64() <= owner.expires && !owner.has_ended()).then(|| owner.name()))
}

/// What a holder says of itself, and when it last showed that it lives.
pub(super) fn read(folder: &Path, token: &str) -> Result<Option<(Owner, SystemTime)>> {
    let path = folder.join(format!("{token}.alive"));
    let read = || -> std::io::Result<_> {
        // Opening is what makes a network's client ask its server.
        let mut file = File::open(&path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok((text, file.metadata()?.modified()?))
    };
    match read() {
        // One that cannot be understood is of a process that is no more: it is written whole before there is a lease.
        Ok((text, seen)) => Ok(serde_json::from_slice(&text).ok().map(|owner| (owner, seen))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read '{}'", path.display())),
    }
}

/// When a process of this machine started, as far as it can be seen.
fn started(pid: u32) -> Option<u64> {
    fields(pid)?.get(19)?.parse().ok()
}

/// Whether there is no such process, or only a trace that its parent has not looked at.
fn is_gone(pid: u32) -> bool {
    // SAFETY: signal 0 is none; only whether it could be sent is asked.
    let absent = unsafe { libc::kill(pid as i32, 0) } != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    absent || fields(pid).is_some_and(|fields| matches!(&*fields[0], "Z" | "X"))
}

/// What `/proc` says of a process, from its state on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces.
    let fields: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
    (!fields.is_empty()).then_some(fields)
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pids() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_machine_is_known_to_have_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut owner = Owner::this(Duration::from_secs(120));
        assert!(!owner.has_ended());
        (owner.pid, owner.started) = (child.id(), started(child.id()));
        assert!(owner.started.is_some() && !owner.has_ended());
        child.kill().unwrap();
        while !owner.has_ended() {
            std::thread::yield_now(); // also before its parent has looked at it
        }
        child.wait().unwrap();
        assert!(owner.has_ended());
        owner.boot = "another".into();
        assert!(!owner.has_ended(), "nobody here can say");
    }
}
