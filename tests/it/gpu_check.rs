//! `./run gpu-check` on a processor, with little of everything: it works the day a GPU is there.

use std::path::Path;
use std::process::Command;

#[test]
fn gpu_check_compares_and_measures_and_leaves_one_json() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("found.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/gpu-check.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg(&json)
        .env("WSI", env!("CARGO_BIN_EXE_wsi"))
        .env("LIBTORCH", std::env::var_os("LIBTORCH").unwrap_or_default())
        .env("DEVICE", "cpu")
        .env("GPU_CHECK_ARGUMENTS", "--encoder resnet18 --step-px 224 --loop-seconds 0 --images 64")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&found["device"], &found["left_out"]), (&"cpu".into(), &serde_json::Value::Null), "{found}");
    let number = |path: &str| found.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("{path}: {found}"));
    // The processor against itself: the same bytes in f32, and bfloat16's error in bfloat16.
    assert_eq!((number("/parity.resnet18/f32/cosine_min"), number("/parity.resnet18/f32/largest_deviation")), (1.0, 0.0));
    assert!(number("/parity.resnet18/bf16/cosine_min") > 0.999);
    for what in ["bags", "images"] {
        for loss in ["cross-entropy", "ncmi"] {
            let key = |name: &str| format!("/training.{what}.{loss}/{name}");
            assert_eq!(number(&key("gradient_deviation")), 0.0);
            assert!(number(&key("steps")) >= 1.0 && number(&key("loss_on_device")).is_finite());
        }
    }
    assert!(number("/throughput.resnet18/tiles_per_second") > 0.0 && number("/throughput.resnet18/encoder_alone/tiles_per_second") > 0.0);
    assert!(number("/cifar.epoch/bf16.64/images_per_second") > 0.0);
    let text = found.to_string();
    assert!(!text.contains(std::env::temp_dir().to_str().unwrap()), "no path of this machine: {text}");
}
