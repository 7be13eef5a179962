//! NVIDIA's driver, the GPUs that it has, and those that libtorch sees.

use tch::Device;

use super::libraries::multiplies;
use super::{Finding, Patient, bytes, error, ok, warning};
use crate::ground::libtorch;
use crate::ground::nvidia::{self, Driver, Gpu};

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The oldest driver that runs programs of a CUDA release, by its first number, as NVIDIA's release notes have it.
const OLDEST_DRIVERS: [(i64, &str); 3] = [(11, "450.80"), (12, "525.60"), (13, "580.65")];

/// Below this share of its memory free, somebody else works on a GPU.
const FREE: f64 = 0.9;

pub(super) fn check(_: &Patient) -> Vec<Finding> {
    let driver = match nvidia::driver() {
        Ok(Some(driver)) => driver,
        // An image with the library may run where there is no driver.
        Ok(None) | Err(_) if !nvidia::is_loaded() => return vec![ok("GPU driver", "no NVIDIA driver: networks run on processors")],
        Ok(None) => {
            return vec![warning(
                "GPU driver",
                "its module is loaded, but its libraries are not to be found",
                "in a container, start it with its option for NVIDIA GPUs (apptainer --nv)",
            )];
        }
        Err(wrong) => {
            return vec![warning("GPU driver", wrong, "its library and its module may differ: restart the machine after an update")];
        }
    };
    let half = libtorch::load_cuda();
    // libtorch panics where it is asked for the version of a half that is not there.
    let built_for = half.then(|| tch::utils::has_cudart().then(tch::utils::version_cudart)).flatten();
    let mut findings = vec![version(&driver.version, built_for), gpus(&driver)];
    findings.extend(chosen(variable().as_deref(), driver.gpus.len()));
    findings.push(through_libtorch(&driver, half));
    findings
}

fn variable() -> Option<String> {
    std::env::var(VISIBLE).ok()
}

fn version(driver: &str, built_for: Option<i64>) -> Finding {
    // CUDA counts in thousands: 13000 is 13.0.
    let Some(cuda) = built_for.filter(|&version| version > 0) else { return ok("GPU driver", driver) };
    let seen = format!("{driver}; libtorch uses CUDA {}.{}", cuda / 1000, cuda % 1000 / 10);
    match OLDEST_DRIVERS.iter().find(|(major, _)| *major == cuda / 1000) {
        Some((_, oldest)) if numbers(driver) < numbers(oldest) => error(
            "GPU driver",
            format!("{seen}, which needs driver {oldest}"),
            "ask for a newer driver, or take a libtorch for an older CUDA",
        ),
        _ => ok("GPU driver", seen),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').take(2).filter_map(|part| part.parse().ok()).collect()
}

fn gpus(driver: &Driver) -> Finding {
    let one = |gpu: &Gpu| {
        let divided = if gpu.divided { ", divided (MIG)" } else { "" };
        format!("{}, {} of {} free{divided}", gpu.name, bytes(gpu.free), bytes(gpu.memory))
    };
    let seen = driver.gpus.iter().map(one).collect::<Vec<_>>().join("; ");
    let busy = driver.gpus.iter().filter(|gpu| !gpu.divided && (gpu.free as f64) < FREE * gpu.memory as f64).count();
    match (driver.gpus.len(), busy) {
        (0, _) => warning("GPUs", "a driver, but no GPU is handed to this process", "ask the scheduler for one (Slurm: --gpus=1)"),
        (_, 0) => ok("GPUs", seen),
        _ => warning("GPUs", seen, "somebody else uses one of them: choose another with --device cuda:N"),
    }
}

/// What the variable chooses: numbers, GPUs by their ids, instances by theirs.
fn chosen(value: Option<&str>, gpus: usize) -> Option<Finding> {
    let value = value?.trim();
    let wrong = |item: &str| match item.parse::<i64>() {
        Ok(index) => index < 0 || index >= gpus as i64,
        Err(_) => !item.starts_with("GPU-") && !item.starts_with("MIG-"),
    };
    let items: Vec<&str> = value.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let kind = |item: &&str| if item.starts_with("MIG-") { "instance" } else { "GPU" };
    Some(match (items.first(), items.iter().position(|&item| wrong(item))) {
        (None, _) => warning(VISIBLE, "it is empty: every GPU is hidden", "unset it where a GPU is wanted"),
        // CUDA stops reading at the first that it does not know.
        (_, Some(0)) => {
            warning(VISIBLE, format!("its first entry is no GPU of the {gpus} here: every GPU is hidden"), "correct or unset it")
        }
        (_, Some(at)) => {
            warning(VISIBLE, format!("its entry {} is no GPU of the {gpus} here: that and what follows is hidden", at + 1), "correct it")
        }
        (Some(first), None) => ok(VISIBLE, format!("{} {}{}", items.len(), kind(first), if items.len() == 1 { "" } else { "s" })),
    })
}

fn through_libtorch(driver: &Driver, half: bool) -> Finding {
    const CHECK: &str = "GPUs of libtorch";
    if !half {
        return match driver.gpus.len() {
            0 => ok(CHECK, "a libtorch for processors"),
            gpus => warning(
                CHECK,
                format!("a libtorch for processors, beside {gpus} GPUs: they stay idle"),
                "name a PyTorch of the same version with CUDA in WSI_LIBTORCH (docs/install.md)",
            ),
        };
    }
    let seen = tch::Cuda::device_count();
    let wrong: Vec<String> =
        (0..seen).filter_map(|index| Some(format!("cuda:{index}: {}", multiplies(Device::Cuda(index as usize)).err()?))).collect();
    match (seen, wrong.is_empty()) {
        (0, _) if driver.gpus.is_empty() => ok(CHECK, "none"),
        (0, _) => warning(CHECK, format!("none of {}", driver.gpus.len()), format!("check the driver and {VISIBLE}")),
        (_, true) => ok(CHECK, format!("{seen}, each multiplies matrices rightly")),
        (_, false) => error(CHECK, wrong.join("; "), "choose another with --device; have the GPU looked at"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::doctor::Level;

    #[test]
    fn the_variable_may_hold_numbers_ids_and_instances() {
        let level = |value, gpus| chosen(Some(value), gpus).unwrap().level;
        for value in ["0", "0,1", " 1 ", "GPU-8f3a", "MIG-1,MIG-2"] {
            assert_eq!(level(value, 2), Level::Ok, "{value}");
        }
        for value in ["", "-1", "2", "0,2", "0,-1,1", "NoDevFiles"] {
            assert_eq!(level(value, 2), Level::Warning, "{value}");
        }
        assert!(chosen(None, 2).is_none());
        assert_eq!(chosen(Some("MIG-1,MIG-2"), 1).unwrap().seen, "2 instances");
    }

    #[test]
    fn an_old_driver_is_refused_by_its_number() {
        assert_eq!(version("550.54.15", Some(13_000)).level, Level::Error);
        assert_eq!(version("580.65.06", Some(13_000)).level, Level::Ok);
        assert_eq!(version("550.54.15", Some(12_080)).seen, "550.54.15; libtorch uses CUDA 12.8");
        assert_eq!(version("1.2", None).level, Level::Ok);
    }
}
