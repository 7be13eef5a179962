//! Memory that is there and that this process may take, and other limits on it.

use super::{Finding, Patient, bytes, number, ok, variable, warning};
use crate::ground::memory;

/// What `tile` takes a thread at most; see `stages::tile`.
const A_THREAD: u64 = 1_100_000_000;

/// Open files that are enough for every stage: libraries, two slides of many files, a bag.
const FILES: u64 = 1024;

pub(super) fn check(_: &Patient) -> Vec<Finding> {
    vec![free(), limits()]
}

fn free() -> Finding {
    const CHECK: &str = "memory";
    let (Some(free), Some(machine)) = (memory::free(), memory::machine()) else {
        return warning(CHECK, "this system does not tell", "watch it by hand");
    };
    let limit = memory::limit().filter(|&limit| limit < machine);
    let granted = limit.map_or(String::new(), |limit| format!("; control groups allow {}", bytes(limit)));
    let seen = format!("{} free of {}{granted}", bytes(free), bytes(machine));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    // Slurm counts in MiB.
    let of_job = number("SLURM_MEM_PER_NODE").map(|mib| mib << 20).filter(|_| variable("SLURM_JOB_ID").is_some());
    match of_job {
        Some(of_job) if limit.is_none() && of_job < free => warning(
            CHECK,
            format!("{seen}; the job has {}", bytes(of_job)),
            "nothing holds the process to its share, and the scheduler may end it: give --threads, and WSI_BAGS=stream in training",
        ),
        _ if free < threads * A_THREAD => {
            let few = (free / A_THREAD).max(1);
            warning(CHECK, seen, format!("tiling takes up to 1.1 GB a thread: give --threads {few}, or ask for more memory"))
        }
        _ => ok(CHECK, seen),
    }
}

/// What `ulimit` has set for this process.
fn limits() -> Finding {
    const CHECK: &str = "limits";
    let soft = |resource| {
        let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a place for the answer; on a failure it stays without a limit.
        unsafe { libc::getrlimit(resource, &mut limit) };
        (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    };
    let (files, address, size) = (soft(libc::RLIMIT_NOFILE), soft(libc::RLIMIT_AS), soft(libc::RLIMIT_FSIZE));
    let seen = files.map_or("open files without limit".to_owned(), |files| format!("{files} open files"));
    match (address, size) {
        (Some(address), _) => warning(
            CHECK,
            format!("{seen}; {} of addresses (ulimit -v)", bytes(address)),
            "libtorch maps more than it uses: lift it, or limit memory by control groups",
        ),
        (_, Some(size)) => warning(CHECK, format!("{seen}; files of {} at most (ulimit -f)", bytes(size)), "bags may be larger: lift it"),
        _ if files.is_some_and(|files| files < FILES) => warning(CHECK, seen, format!("raise it: ulimit -n {FILES}")),
        _ => ok(CHECK, seen),
    }
}
