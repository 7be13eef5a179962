//! SIGTERM, SIGINT and SIGUSR1 set a flag, and so does the end of the time that a scheduler gave; stages look at it between two items,
//! commit what is whole and leave with exit code 75.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static DEADLINE: OnceLock<Instant> = OnceLock::new();

/// How long before the end of a job's time its work stops: enough for the longest batch and one save.
const BEFORE_THE_END: Duration = Duration::from_secs(60);

/// The work stopped because it was asked to; what is committed stays and the same command continues it.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted; run the same command again to continue")
    }
}

impl std::error::Error for Interrupted {}

/// Starts listening. A second SIGTERM or SIGINT ends the program at once, as the shell expects; SIGUSR1, by which schedulers warn of what
/// is to come, only asks, however often. Within a Slurm job that knows its end (`SLURM_JOB_END_TIME`) the work also stops a minute before it.
pub fn listen() -> std::io::Result<()> {
    let flag = FLAG.get_or_init(Default::default);
    let before = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 75, Arc::clone(&before))?;
        signal_hook::flag::register(signal, Arc::clone(&before))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(flag))?;
    let ends = std::env::var("SLURM_JOB_END_TIME").ok().and_then(|text| text.parse().ok());
    if let Some(left) = ends.and_then(|ends| left(ends, SystemTime::now())) {
        DEADLINE.get_or_init(|| Instant::now() + left);
    }
    Ok(())
}

/// What is left for work of a job that ends `ends` seconds after 1970; `None` where that is so far away that no clock counts it.
fn left(ends: u64, now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    let left = Duration::from_secs(ends).saturating_sub(now).saturating_sub(BEFORE_THE_END);
    Instant::now().checked_add(left).map(|_| left)
}

/// Asks for an end, as a signal does.
pub fn ask() {
    FLAG.get_or_init(Default::default).store(true, Ordering::Relaxed);
}

/// `Err(Interrupted)` once a signal has arrived or the time is over.
pub fn check() -> Result<(), Interrupted> {
    let asked = FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed));
    let over = DEADLINE.get().is_some_and(|&deadline| Instant::now() >= deadline);
    if asked || over { Err(Interrupted) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stops_a_minute_before_the_end() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(left(1600, now), Some(Duration::from_secs(540)));
        assert_eq!(left(1030, now), Some(Duration::ZERO), "less than a minute is left");
        assert_eq!(left(900, now), Some(Duration::ZERO), "it is over already");
        assert_eq!(left(u64::MAX, now), None, "a job without end");
    }
}
