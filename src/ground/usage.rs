//! What the process has used so far: memory at most, bytes read, processor time. Linux tells it; elsewhere nothing is known.

use std::time::Duration;

/// Most memory that the process ever held, or held since [`restart_peak_memory`], bytes.
pub fn peak_memory() -> Option<u64> {
    field("/proc/self/status", "VmHWM:").map(|kib| kib << 10)
}

/// Lets [`peak_memory`] count from now on, where the system can; says whether it does.
pub fn restart_peak_memory() -> bool {
    // What was freed before would count for what comes.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: glibc gives free pages back to the system; nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0);
    }
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Bytes that the process read by system calls, also from the kernel's cache.
pub fn bytes_read() -> Option<u64> {
    field("/proc/self/io", "rchar:")
}

fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// Processor time of the calling thread, which does not count while another runs in its place.
pub fn thread_time() -> Duration {
    const THREAD_CPUTIME: i32 = 3;
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: glibc's function on 64-bit Linux, with a clock that it documents and a place for its answer.
    unsafe { clock_gettime(THREAD_CPUTIME, &mut time) };
    Duration::new(time.seconds.unsigned_abs(), time.nanoseconds.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_known_and_grows() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
        drop(std::hint::black_box(vec![1u8; 256 << 20]));
        let with_it = peak_memory();
        // A container may forbid it.
        assert!(!restart_peak_memory() || peak_memory() < with_it, "what was given back before does not count");
        let before = thread_time();
        let mut sum = 0u64;
        while thread_time() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        let busy = thread_time();
        std::thread::sleep(Duration::from_millis(30));
        assert!(sum > 0 && thread_time() < busy + Duration::from_millis(20), "sleep is no work");
    }
}
