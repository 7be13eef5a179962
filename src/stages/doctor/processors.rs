//! Processors: those that are there, those that this process may use, and what else decides on threads.

use super::{Finding, Patient, number, ok, variable, warning};

/// Numbers of threads that other programs' set-ups leave behind.
const COUNTS: [&str; 3] = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"];

/// What ties threads to processors, so that pools of several libraries meet on the same ones.
const PINS: [&str; 3] = ["OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"];

pub(super) fn check(_: &Patient) -> Vec<Finding> {
    let granted = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let present = std::fs::read_to_string("/sys/devices/system/cpu/present").ok().and_then(|list| count(&list));
    let mut findings = vec![processors(granted, present.unwrap_or(granted))];
    if variable("SLURM_JOB_ID").is_some() {
        findings.extend(slurm(granted, number("SLURM_CPUS_PER_TASK"), number("SLURM_CPUS_ON_NODE")));
    }
    findings.push(threads(granted));
    findings
}

fn processors(granted: u64, present: u64) -> Finding {
    let seen = format!("{granted} of {present} for this process, by its affinity and its control groups");
    match granted {
        1 if present > 1 => warning("processors", seen, "ask the scheduler for more (Slurm: --cpus-per-task)"),
        _ => ok("processors", seen),
    }
}

/// Processors in a list such as `0-3,8`.
fn count(list: &str) -> Option<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.trim().parse::<u64>().ok()?.checked_sub(first.trim().parse().ok()?)? + 1)
    };
    list.trim().split(',').map(range).sum()
}

/// What Slurm was asked for against what this process may use.
fn slurm(granted: u64, a_task: Option<u64>, on_node: Option<u64>) -> Option<Finding> {
    const CHECK: &str = "processors of Slurm";
    let asked = a_task.or(on_node)?;
    let seen = format!("the job has {asked}, this process may use {granted}");
    Some(if granted < asked {
        warning(CHECK, seen, "srun does not take --cpus-per-task from sbatch: give it to srun, too, or set SRUN_CPUS_PER_TASK")
    } else if granted > on_node.unwrap_or(asked).max(asked) {
        warning(CHECK, seen, format!("nothing holds the process to its share: give --threads {asked}"))
    } else {
        ok(CHECK, seen)
    })
}

fn threads(granted: u64) -> Finding {
    const CHECK: &str = "thread variables";
    let counts: Vec<(&str, u64)> = COUNTS.into_iter().filter_map(|name| Some((name, number(name)?))).collect();
    // What it is set to may be a list of processors, or `false`.
    let pins: Vec<&str> =
        PINS.into_iter().filter(|name| variable(name).is_some_and(|value| !value.eq_ignore_ascii_case("false"))).collect();
    let seen: Vec<String> =
        counts.iter().map(|(name, count)| format!("{name}={count}")).chain(pins.iter().map(|&name| name.to_owned())).collect();
    let seen = if seen.is_empty() { "none is set".to_owned() } else { seen.join(", ") };
    let too_many = counts.iter().any(|(_, count)| *count > granted);
    match (pins.is_empty(), too_many) {
        (false, _) => warning(CHECK, seen, "it ties threads of several pools to the same processors: unset it"),
        (true, true) => warning(CHECK, seen, format!("more threads than the {granted} processors: unset it; --threads decides")),
        (true, false) => ok(CHECK, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::doctor::Level;

    #[test]
    fn a_list_of_processors_is_counted() {
        assert_eq!([count("0-1\n"), count("0"), count("0-3,8,10-11")], [Some(2), Some(1), Some(7)]);
        assert_eq!([count(""), count("x"), count("3-1")], [None; 3]);
    }

    #[test]
    fn a_job_that_gets_less_or_takes_more_than_its_share_is_told() {
        assert_eq!(slurm(16, Some(16), Some(16)).unwrap().level, Level::Ok);
        assert!(slurm(1, Some(16), Some(16)).unwrap().advice.contains("SRUN_CPUS_PER_TASK"));
        assert!(slurm(64, Some(16), Some(16)).unwrap().advice.contains("--threads 16"));
        assert_eq!(slurm(16, Some(4), Some(16)).unwrap().level, Level::Ok, "a step may hold several tasks");
        assert!(slurm(4, None, None).is_none());
    }
}
