//! `--nproc N`: this program N times on this machine, each copy one rank; ends with their exit code.

use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::PREFIX;
use crate::ground::interrupt::{self, Interrupted};
use crate::torch::c10d::Store;

/// Between two looks at the ranks.
const LOOK: Duration = Duration::from_millis(20);
/// After one rank has failed the others have this long to say what they saw, and then this long to end when asked to.
const GRACE: Duration = Duration::from_secs(2);
const ASKED: Duration = Duration::from_secs(8);

/// Exit code of an interruption.
const INTERRUPTED: i32 = 75;

/// The copies, ended with this value.
struct Ranks(Vec<Child>);

/// Runs this very call `size` times, with the variables that torchrun sets, and waits for all. Serves the store that they meet at, on the
/// loopback only. SIGTERM and SIGINT are passed on, once, to all. `gpus` is 0 where a processor trains.
///
/// # Errors
/// A rank failed: the others are ended within seconds. `Interrupted`, if that was why they ended.
pub fn launch(size: usize, gpus: usize) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (places, what) = if gpus == 0 { (processors, "processor(s)") } else { (gpus, "GPU(s)") };
    if size > places {
        tracing::warn!("--nproc {size}: there are {places} {what} for them; ranks that share one take turns, and fewer ranks are faster");
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot open a port on the loopback for the ranks to meet at")?;
    let port = listener.local_addr()?.port();
    let _store = Store::serve(listener, PREFIX, Duration::from_secs(60)).context("cannot serve the store that the ranks meet at")?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let parent = std::process::id();
    let mut ranks = Ranks(Vec::new());
    for rank in 0..size {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
        command.env("WORLD_SIZE", size.to_string()).env("LOCAL_WORLD_SIZE", size.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command.env("TORCHELASTIC_USE_AGENT_STORE", "True").env_remove("TORCHELASTIC_RESTART_COUNT");
        // A group of their own, or Ctrl-C would reach them twice: from the terminal and from here.
        command.process_group(0);
        end_with_parent(&mut command, parent);
        ranks.0.push(command.spawn().with_context(|| format!("cannot start rank {rank} of {size}"))?);
    }
    ranks.watch()
}

impl Ranks {
    fn watch(&mut self) -> Result<()> {
        let size = self.0.len();
        let mut asked_to_stop = false;
        let mut interrupted = false;
        let mut ended: Vec<Option<ExitStatus>> = vec![None; size];
        // The rank that failed first, and when.
        let mut failed: Option<(usize, Instant)> = None;
        while ended.iter().any(Option::is_none) {
            for (rank, child) in self.0.iter_mut().enumerate() {
                if ended[rank].is_some() {
                    continue;
                }
                ended[rank] = child.try_wait().with_context(|| format!("cannot wait for rank {rank}"))?;
                let Some(status) = ended[rank].filter(|status| !status.success()) else { continue };
                if status.code() == Some(INTERRUPTED) {
                    // The others stop after the same step; rank 0 may take its time to save.
                    interrupted = true;
                } else {
                    failed.get_or_insert((rank, Instant::now()));
                }
            }
            let asked = interrupt::check().is_err();
            let grace_is_over = failed.is_some_and(|(_, at)| at.elapsed() > GRACE);
            if !asked_to_stop && (asked || grace_is_over) {
                asked_to_stop = true;
                self.signal(&ended, libc::SIGTERM);
            }
            if failed.is_some_and(|(_, at)| at.elapsed() > GRACE + ASKED) {
                self.signal(&ended, libc::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        let Some((rank, _)) = failed else { return if interrupted { Err(Interrupted.into()) } else { Ok(()) } };
        match ended[rank].and_then(|status| status.signal()) {
            Some(signal) => {
                bail!("rank {rank} of {size} was ended by signal {signal}, and the others ended after it; the same command continues")
            }
            None => bail!("rank {rank} of {size} failed, and the others ended after it; its message is above"),
        }
    }

    /// To all that have not ended.
    fn signal(&self, ended: &[Option<ExitStatus>], signal: i32) {
        for (child, _) in self.0.iter().zip(ended).filter(|(_, status)| status.is_none()) {
            // SAFETY: a plain system call; the child has not been waited for, so that its number is its own.
            unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Those that have ended say so, and the others have nothing left to save.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Has the kernel send SIGTERM to a child whose parent was killed.
fn end_with_parent(command: &mut Command, parent: u32) {
    let signal: libc::c_ulong = libc::SIGTERM as libc::c_ulong;
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // It may have been killed before that.
            if libc::getppid() as u32 == parent { Ok(()) } else { Err(std::io::ErrorKind::Interrupted.into()) }
        });
    }
}
