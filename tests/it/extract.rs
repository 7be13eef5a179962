//! `wsi extract` and `wsi weights`: bags that say what they are, the same bytes after a kill, wrong weights refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use half::f16;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use wsi::encoders::{EncoderSettings, Normalisation, prepare};
use wsi::ground::seed;
use wsi::ground::units::{Coord, Size};
use wsi::slides;
use wsi::store::weights::{self, Metadata};
use wsi::store::{bag, coords};
use wsi::synth::{CohortSettings, cohort, render};
use wsi::tiling::stream::for_each_batch;

use crate::data::test_data;
use crate::program::{said, wsi};

/// Synthetic slides and their tile run inside one folder.
pub struct Cohort {
    folder: tempfile::TempDir,
}

impl Cohort {
    pub fn new(slides: usize) -> Self {
        let cohort_folder = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(cohort_folder.path("slides")).unwrap();
        for slide in cohort(&CohortSettings::default()).unwrap().iter().take(slides) {
            std::fs::write(cohort_folder.path("slides").join(format!("{}.tif", slide.slide_id)), render(slide, 0).unwrap()).unwrap();
        }
        let output = wsi(["tile".as_ref(), "--slides".as_ref(), cohort_folder.path("slides").as_os_str(), "--out".as_ref()]
            .into_iter()
            .chain([cohort_folder.path("tiles").as_os_str()]));
        assert!(output.status.success(), "{}", said(&output));
        cohort_folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `wsi extract` into `out`, with no weight files but those given.
    pub fn extract(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
        command.arg("extract").arg("--slides").arg(self.path("slides")).arg("--tiles").arg(self.path("tiles"));
        command.arg("--out").arg(self.path(out)).args(["--device", "cpu"]).args(more).env("WSI_WEIGHTS", self.path("weights"));
        command
    }

    /// Another plan of the first slide: squares that overlap, so that it has many.
    fn dense() -> Self {
        let cohort = Self::new(1);
        std::fs::remove_dir_all(cohort.path("tiles")).unwrap();
        let output = wsi(["tile", "--step-px", "112", "--slides"].map(std::ffi::OsStr::new).into_iter().chain([
            cohort.path("slides").as_os_str(),
            "--out".as_ref(),
            cohort.path("tiles").as_os_str(),
        ]));
        assert!(output.status.success(), "{}", said(&output));
        cohort
    }

    /// The journal of the only slide's rows.
    fn part(&self, out: &str) -> Option<PathBuf> {
        let mut names = std::fs::read_dir(self.path(out).join("bags")).ok()?.map(|entry| entry.unwrap().path());
        names.find(|path| path.extension().is_some_and(|extension| extension == "part"))
    }

    fn figures(&self, out: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.path(out).join("run.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["figures"].clone()
    }

    /// Tiles that each continued call found saved.
    fn resumed(&self, out: &str) -> Vec<u64> {
        let log = std::fs::read_to_string(self.path(out).join("log.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["event"] == "resume").map(|line| line["tiles"].as_u64().unwrap()).collect()
    }

    pub fn bags(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.path(out).join("bags")) else { return BTreeMap::new() };
        let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "h5"));
        files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())).collect()
    }
}

const RANDOM: [&str; 3] = ["--encoder", "resnet18", "--random-weights"];

pub fn succeeded(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "stdout carries data only");
    output
}

/// Runs what must fail with 1 and returns what it said.
pub fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_killed_extraction_continues_to_the_same_bytes_at_any_thread_count() {
    let cohort = Cohort::new(4);
    succeeded(cohort.extract("whole", &[&RANDOM[..], &["--threads", "2"]].concat()));
    let whole = cohort.bags("whole");
    assert_eq!(whole.len(), 4);

    let mut child = cohort.extract("killed", &[&RANDOM[..], &["--threads", "1"]].concat()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while cohort.bags("killed").is_empty() && started.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let left = cohort.bags("killed");
    assert!(!left.is_empty() && left.len() < whole.len(), "killed in the middle: {} bags", left.len());
    assert!(!cohort.path("killed").join("run.json").exists(), "an interrupted run does not look finished");

    succeeded(cohort.extract("killed", &[&RANDOM[..], &["--threads", "1"]].concat()));
    assert!(cohort.bags("killed") == whole, "the bags differ from those of the uninterrupted run");
    let again = said(&succeeded(cohort.extract("killed", &RANDOM)));
    assert!(again.contains("nothing to do"), "{again}");
}

#[test]
fn a_slide_killed_in_its_middle_goes_on_where_it_was() {
    let cohort = Cohort::dense();
    succeeded(cohort.extract("whole", &RANDOM));
    let tiles = cohort.figures("whole")["tiles"].as_u64().unwrap();
    assert_eq!(cohort.figures("whole")["tiles_embedded"].as_u64(), Some(tiles));
    for (kills, batch_size) in [(1, "2"), (3, "4")] {
        let out = format!("killed-{kills}");
        let command = || {
            let mut command = cohort.extract(&out, &[&RANDOM[..], &["--batch-size", batch_size]].concat());
            command.env("WSI_SAVE_EVERY", "0").stderr(Stdio::null());
            command
        };
        let size = || cohort.part(&out).and_then(|path| path.metadata().ok()).map_or(0, |data| data.len());
        for _ in 0..kills {
            let before = size();
            let mut child = command().spawn().unwrap();
            let started = Instant::now();
            while size() <= before + 5000 && started.elapsed() < Duration::from_secs(120) {
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            assert!(size() > before && cohort.bags(&out).is_empty(), "killed in the middle");
        }
        // Another batch size and number of threads from there on.
        succeeded(cohort.extract(&out, &[&RANDOM[..], &["--batch-size", "32", "--threads", "5"]].concat()));
        assert!(cohort.bags(&out) == cohort.bags("whole"), "the bag differs from that of the uninterrupted run");
        assert_eq!(cohort.part(&out), None);
        let resumed = cohort.resumed(&out);
        assert!(resumed.len() == kills && resumed.is_sorted() && resumed[0] > 0, "{resumed:?}");
        assert_eq!(cohort.figures(&out)["tiles_embedded"].as_u64(), Some(tiles - resumed[kills - 1]), "no row is made twice");
    }
}

#[test]
fn a_terminated_extraction_saves_its_rows_and_says_how_to_go_on() {
    let cohort = Cohort::dense();
    succeeded(cohort.extract("whole", &RANDOM));
    let mut wait = Duration::from_millis(300);
    while cohort.part("ended").is_none() {
        let mut command = cohort.extract("ended", &[&RANDOM[..], &["--batch-size", "2", "--threads", "1"]].concat());
        let child = command.env("WSI_SAVE_EVERY", "3600").stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(wait);
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let terminated = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", said(&output));
        assert!(said(&output).contains("run the same command again") && terminated.elapsed() < Duration::from_secs(20));
        wait = wait.mul_f64(1.3); // it may not have had a row yet
    }
    // What another recipe left under the same name is of no use here.
    let (part, moved) = (cohort.part("ended").unwrap(), cohort.path("moved/bags"));
    succeeded(cohort.extract("moved", &[&RANDOM[..], &["--set", "seed=7", "--shard", "2/2"]].concat()));
    std::fs::create_dir_all(&moved).unwrap();
    std::fs::copy(&part, moved.join(part.file_name().unwrap())).unwrap();
    succeeded(cohort.extract("moved", &[&RANDOM[..], &["--set", "seed=7"]].concat()));
    assert!(cohort.resumed("moved").is_empty() && cohort.part("moved").is_none());
    assert!(cohort.bags("moved") != cohort.bags("whole"), "other weights");

    succeeded(cohort.extract("ended", &RANDOM));
    assert!(cohort.bags("ended") == cohort.bags("whole"), "the bag differs from that of the uninterrupted run");
    assert_eq!((cohort.resumed("ended").len(), cohort.part("ended")), (1, None));
}

#[test]
fn features_depend_on_neither_threads_nor_batches() {
    let cohort = Cohort::new(1);
    for encoder in ["resnet18", "efficientnet-lite0", "resnet50-trunc", "lunit-vits16"] {
        let mut first = None;
        for (threads, batch_size) in [("1", "32"), ("1", "1"), ("2", "7"), ("5", "1000"), ("5", "1"), ("2", "32")] {
            let out = format!("{encoder}-{threads}-{batch_size}");
            let words = ["--encoder", encoder, "--random-weights", "--threads", threads, "--batch-size", batch_size];
            succeeded(cohort.extract(&out, &words));
            let bags = cohort.bags(&out);
            let first = first.get_or_insert_with(|| bags.clone());
            assert!(*first == bags, "{encoder}: {threads} threads and batches of {batch_size} give other bytes");
        }
    }
}

#[test]
fn features_are_kept_in_single_precision_where_asked_and_convert_to_themselves() {
    let cohort = Cohort::new(1);
    succeeded(cohort.extract("half", &RANDOM));
    succeeded(cohort.extract("single", &[&RANDOM[..], &["--set", "extract.dtype=f32"]].concat()));
    let (id, _) = cohort.bags("half").pop_first().unwrap();
    let path = |out: &str| cohort.path(out).join(format!("bags/{id}.h5"));
    let single = bag::read_single(&path("single")).unwrap().unwrap();
    let (half, read) = (bag::read(&path("half")).unwrap(), bag::read(&path("single")).unwrap());
    assert_eq!(half.features, read.features, "training sees the same");
    assert!(single.iter().any(|&value| f16::from_f32(value).to_f32() != value), "more than half precision holds");
    let shown = wsi(["bags".as_ref(), "show".as_ref(), cohort.path("single").as_os_str()]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\tf32\t"), "{}", said(&shown));
    let (single_run, copy) = (cohort.path("single"), cohort.path("copy"));
    let words = ["bags", "convert", single_run.to_str().unwrap(), "--to", "wsi", "--out", copy.to_str().unwrap()];
    let output = wsi(words);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bag::read_single(&path("copy")).unwrap().unwrap(), single);
    assert!(refused(cohort.extract("wrong", &[&RANDOM[..], &["--set", "extract.dtype=f64"]].concat())).contains("f64"));
}

#[test]
fn bfloat16_computes_nearly_the_same_and_half_precision_wants_a_gpu() {
    let cohort = Cohort::new(1);
    succeeded(cohort.extract("single", &RANDOM));
    succeeded(cohort.extract("brain", &[&RANDOM[..], &["--set", "extract.precision=bf16"]].concat()));
    assert_eq!(cohort.figures("brain")["precision"], "bfloat16");
    let (id, _) = cohort.bags("single").pop_first().unwrap();
    let features = |out: &str| bag::read(&cohort.path(out).join(format!("bags/{id}.h5"))).unwrap().features;
    let (single, brain) = (features("single"), features("brain"));
    for (a, b) in single.values.chunks(single.width).zip(brain.values.chunks(brain.width)) {
        let dot = |a: &[f16], b: &[f16]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
        assert!(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() > 0.999);
    }
    let half = refused(cohort.extract("half", &[&RANDOM[..], &["--set", "extract.precision=f16"]].concat()));
    assert!(half.contains("needs a GPU") && !cohort.path("half").exists(), "{half}");
}

#[test]
fn a_plan_without_tiles_is_an_empty_bag() {
    let cohort = Cohort::new(2);
    let file = std::fs::read_dir(cohort.path("tiles/patches")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut plan = coords::read(&file).unwrap();
    (plan.coords, plan.tissue) = (Vec::new(), Vec::new());
    coords::write(&file, &plan).unwrap();
    let output = succeeded(cohort.extract("out", &RANDOM));
    assert!(said(&output).contains(&format!("{} has no tiles; its bag is empty", plan.slide_id)), "{}", said(&output));
    let bag = bag::read(&cohort.path("out").join(format!("bags/{}.h5", plan.slide_id))).unwrap();
    assert_eq!((bag.features.tiles, bag.features.width, bag.coords.len()), (0, 512, 0));
    assert_eq!(cohort.bags("out").len(), 2);
    let shown = wsi(["bags".as_ref(), "show".as_ref(), cohort.path("out").as_os_str()]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains(&format!("{}\twsi\t0\t512", plan.slide_id)));
    succeeded(cohort.extract("out", &RANDOM));

    let labels = cohort.path("labels.csv");
    let ids: Vec<String> = cohort.bags("out").into_keys().collect();
    std::fs::write(&labels, format!("slide_id,patient_id,label\n{},p1,a\n{},p2,b\n", ids[0], ids[1])).unwrap();
    let mut train = Command::new(env!("CARGO_BIN_EXE_wsi"));
    train.arg("train").arg("--data").arg(cohort.path("out")).arg("--labels").arg(&labels).arg("--out").arg(cohort.path("train"));
    let said = refused(train);
    assert!(said.contains(&format!("slide '{}': its bag has no tiles", plan.slide_id)), "{said}");
}

#[test]
fn a_run_says_where_its_time_went_and_how_many_processors_it_may_use() {
    let cohort = Cohort::new(1);
    let plain = cohort.extract("out", &RANDOM);
    let mut bound = Command::new("taskset");
    bound.args(["-c", "0"]).arg(plain.get_program()).args(plain.get_args());
    bound.env("WSI_WEIGHTS", cohort.path("weights"));
    let said = said(&succeeded(bound));
    assert!(said.contains("the limit was to encode") && said.contains("MB of memory"), "{said}");
    let time = &cohort.figures("out")["time"];
    assert_eq!(time["threads"], 1, "from the affinity mask");
    for step in ["read", "shrink", "prepare", "encode", "write"] {
        assert!(time[step]["seconds"].as_f64().unwrap() >= 0.0, "{step}: {time}");
    }
    assert!(time["encode"]["tiles_per_second"].as_f64().unwrap() > 1.0 && time["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{time}");
    let slide = std::fs::read_dir(cohort.path("slides")).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
    assert!(time["bytes_read"].as_u64().unwrap() > slide / 4, "{time}");
    let share = time["not_encoder"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&share), "{time}");
}

#[test]
fn a_bag_holds_the_vectors_of_its_tiles_and_says_what_it_is() {
    let cohort = Cohort::new(1);
    succeeded(cohort.extract("out", &[&RANDOM[..], &["--set", "seed=7"]].concat()));
    let (id, _) = cohort.bags("out").pop_first().unwrap();
    let bag = bag::read(&cohort.path("out").join(format!("bags/{id}.h5"))).unwrap();
    let plan = coords::read(&cohort.path("tiles").join(format!("patches/{id}_patches.h5"))).unwrap();
    assert_eq!(bag.coords, plan.coords);
    let header = bag.header.as_ref().unwrap();
    assert_eq!((header.slide_id.as_str(), header.tiles, header.width), (id.as_str(), plan.coords.len(), 512));
    assert_eq!((header.origin.encoder.as_str(), header.origin.weights.as_str()), ("resnet18", "random, seed 7"));
    assert_eq!((&header.window, &header.slide_digest), (&plan.window, &plan.slide_digest));

    // The same network, trained layers instead of folded ones, on the same pixels.
    let settings = EncoderSettings::named("resnet18").unwrap();
    let store = VarStore::new(Device::Cpu);
    seed::seed_torch(7, "encoder");
    let encoder = settings.build(&store.root()).unwrap();
    let slide = slides::open(&cohort.path("slides").join(&plan.slide_file)).unwrap();
    let mut expected = Vec::new();
    for_each_batch(slide.as_ref(), &plan, 16, 2, |batch| {
        let images = prepare(&batch.pixels, batch.count, 224, &Normalisation::IMAGENET, Device::Cpu);
        expected.push(tch::no_grad(|| encoder.embed(&images, false)));
        Ok(())
    })
    .unwrap();
    let expected = Tensor::cat(&expected, 0);
    let found = Tensor::from_slice::<f16>(&bag.features.values).to_kind(Kind::Float).reshape_as(&expected);
    let difference = (&found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    assert!(difference < 1e-3, "relative difference {difference}, more than half precision explains");

    // No path of this machine in anything that was written.
    for file in ["run.json", "slides.csv", "config.toml", "log.jsonl", "recipe.json"] {
        let text = std::fs::read_to_string(cohort.path("out").join(file)).unwrap();
        assert!(!text.contains(cohort.folder.path().to_str().unwrap()), "{file}: {text}");
    }
}

#[test]
fn colours_reach_the_encoder_in_order() {
    let Some(data) = test_data("colours_reach_the_encoder_in_order") else { return };
    let normalisation = Normalisation::IMAGENET;
    let side = 200;
    let read = |file: &str, at: Coord| {
        let slide = slides::open(&data.join("slides").join(file)).unwrap();
        let pixels = slide.read(at, Size { width: side, height: side }, 0).unwrap().into_raw();
        prepare(&pixels, 1, side, &normalisation, Device::Cpu)
    };
    // A slide whose true colours are known from a picture that another decoder reads.
    let truth = image::open(data.join("slides/boxes.png")).unwrap().to_rgb8();
    let at = Coord { x: 20, y: 30 };
    let images = read("boxes.tiff", at);
    for (x, y) in (0..side).step_by(7).flat_map(|x| (0..side).step_by(7).map(move |y| (x, y))) {
        let colour = truth.get_pixel(at.x as u32 + x, at.y as u32 + y);
        for channel in 0..3 {
            let expected = (f64::from(colour[channel]) / 255.0 - normalisation.mean[channel]) / normalisation.std[channel];
            let found = images.double_value(&[0, channel as i64, i64::from(y), i64::from(x)]);
            assert!((found - expected).abs() < 2e-6, "({x},{y}) channel {channel}: {found} instead of {expected}");
        }
    }
    // Haematoxylin and eosin absorb green: in stained tissue red and blue are brighter.
    let tissue = read("CMU-1-Small-Region.svs", Coord { x: 1000, y: 1000 });
    let mean = |channel: usize| {
        tissue.select(1, channel as i64).mean(Kind::Double).double_value(&[]) * normalisation.std[channel] + normalisation.mean[channel]
    };
    assert!(mean(0) > mean(1) + 0.05 && mean(2) > mean(1) + 0.05, "red {}, green {}, blue {}", mean(0), mean(1), mean(2));
}

/// A weight file of an untrained network.
fn weight_file(path: &Path, encoder: &str) {
    let store = VarStore::new(Device::Cpu);
    EncoderSettings::named(encoder).unwrap().build(&store.root()).unwrap();
    let tensors: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    weights::write(path, &tensors, &Metadata { encoder: encoder.into(), ..Metadata::default() }).unwrap();
}

#[test]
fn missing_and_wrong_weights_are_refused_before_anything_is_written() {
    let cohort = Cohort::new(1);
    let missing = refused(cohort.extract("out", &[]));
    assert!(missing.contains("no weights for efficientnet-lite0") && missing.contains("wsi weights import"), "{missing}");

    let file = cohort.path("resnet18.safetensors");
    weight_file(&file, "resnet18");
    let given = |encoder: &str| refused(cohort.extract("out", &["--encoder", encoder, "--weights", file.to_str().unwrap()]));
    let wrong = given("resnet34");
    assert!(wrong.contains("for resnet34") && wrong.contains("missing: layer1.2.conv1.weight [64, 64, 3, 3]"), "{wrong}");
    assert!(given("resnet50").contains("wrong shape: layer1.0.conv1.weight [64, 64, 3, 3] instead of [64, 64, 1, 1]"));
    assert!(given("resnet19").contains("resnet18"), "a near name is offered");

    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(given("resnet18").contains("cut short"));
    std::fs::write(&file, b"PK\x03\x04 and more").unwrap();
    assert!(given("resnet18").contains("wsi weights import"));
    assert!(!cohort.path("out").exists(), "nothing half-written");
}

#[test]
fn weights_are_imported_once_listed_and_used() {
    let cohort = Cohort::new(1);
    let (published, folder) = (cohort.path("published.safetensors"), cohort.path("weights"));
    weight_file(&published, "resnet18");
    let import = |encoder: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
        command.args(["weights", "import"]).arg(&published).args(["--encoder", encoder, "--licence", "MIT"]).env("WSI_WEIGHTS", &folder);
        command
    };
    assert!(refused(import("resnet34")).contains("'published.safetensors' is not a checkpoint of resnet34") || !folder.exists());
    succeeded(import("resnet18"));
    let first = std::fs::read(folder.join("resnet18.safetensors")).unwrap();
    succeeded(import("resnet18"));
    assert!(std::fs::read(folder.join("resnet18.safetensors")).unwrap() == first, "importing twice gives the same bytes");

    let list = Command::new(env!("CARGO_BIN_EXE_wsi")).args(["weights", "list"]).env("WSI_WEIGHTS", &folder).output().unwrap();
    let sha256 = wsi::store::digest::bytes(&first);
    assert!(String::from_utf8_lossy(&list.stdout).contains(&format!("resnet18\tresnet18\tMIT\t{sha256}\tpublished.safetensors")));

    succeeded(cohort.extract("out", &["--encoder", "resnet18"]));
    let (id, _) = cohort.bags("out").pop_first().unwrap();
    let header = bag::read_header(&cohort.path("out").join(format!("bags/{id}.h5"))).unwrap().unwrap();
    assert_eq!(header.origin.weights, sha256);
}

#[test]
fn a_slide_that_changed_is_named_and_stops_no_other() {
    let cohort = Cohort::new(2);
    let slide = std::fs::read_dir(cohort.path("slides")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&slide).unwrap();
    bytes.push(0);
    std::fs::write(&slide, bytes).unwrap();
    let said = refused(cohort.extract("out", &RANDOM));
    let (name, id) = (slide.file_name().unwrap().to_str().unwrap(), slide.file_stem().unwrap().to_str().unwrap());
    assert!(said.contains(&format!("{id}: '{name}' is not the file that was tiled")), "{said}");
    assert_eq!(cohort.bags("out").len(), 1);
    let table = std::fs::read_to_string(cohort.path("out/slides.csv")).unwrap();
    assert!(table.contains(",failed,") && table.contains(",done,"), "{table}");
}
