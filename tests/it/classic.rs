//! The classic MIL sets and MNIST bags: what is read, what is refused and how it is named, that a model learns from them.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tch::{Device, Kind, no_grad};
use wsi::config::Config;
use wsi::datasets::Dataset;
use wsi::datasets::classic::Classic;
use wsi::datasets::mnist_bags::{self, MnistBags, MnistBagsSettings};
use wsi::ground::batch::Input;
use wsi::learn::Learner;
use wsi::pipeline::Pipeline;
use wsi::stages::{Data, probe, train};
use wsi::store::scores::{Decision, ScoreFile};

use crate::train::machine;

fn zipped(path: &Path, content: &[u8]) -> PathBuf {
    let mut encoder = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap();
    path.to_owned()
}

fn folder_of_sets(test: &str) -> Option<PathBuf> {
    crate::data::test_data(test).map(|folder| folder.join("mil"))
}

fn read(lines: &str) -> anyhow::Result<Classic> {
    let folder = tempfile::tempdir().unwrap();
    Classic::read(&zipped(&folder.path().join("set.csv.gz"), lines.as_bytes()))
}

#[test]
fn the_classic_sets_have_their_published_sizes() {
    let Some(folder) = folder_of_sets("classic::sizes") else { return };
    let sizes = [("musk1", 92, 47, 476, 166), ("musk2", 102, 39, 6598, 166), ("elephant", 200, 100, 1391, 230)];
    let others = [("fox", 200, 100, 1320, 230), ("tiger", 200, 100, 1220, 230)];
    for (set, bags, positive, instances, width) in sizes.into_iter().chain(others) {
        let data = Classic::read(&folder.join(format!("{set}.csv.gz"))).unwrap();
        let all: Vec<usize> = (0..data.ids().len()).collect();
        let batch = data.batch(&all, None, Device::Cpu).unwrap();
        let count = batch.mask.as_ref().unwrap().count_nonzero(None).int64_value(&[]);
        assert_eq!((all.len(), data.targets().iter().sum::<i64>(), count), (bags, positive, instances), "{set}");
        assert_eq!(data.input(), Input::Bags(width), "{set}");
        // Every feature has mean 0 and deviation 1 over all instances, but for those that never change.
        let values = batch.inputs.flatten(0, 1).to_kind(Kind::Double);
        let mean = values.sum_dim_intlist(0, false, Kind::Double) / count as f64;
        let square = values.square().sum_dim_intlist(0, false, Kind::Double) / count as f64;
        assert!(mean.abs().max().double_value(&[]) < 1e-5, "{set}");
        let off = (&square - 1.0).abs().minimum(&square);
        assert!(off.max().double_value(&[]) < 1e-5, "{set}");
    }
}

#[test]
fn a_bag_gathers_its_lines_and_features_are_standardised_by_hand() {
    let data = read("1,b,1,7\n0,a,3,7\n1,b,5,7\n").unwrap();
    assert_eq!((data.ids(), data.targets()), (&["b".to_owned(), "a".to_owned()][..], &[1, 0][..]));
    assert_eq!(data.groups(), data.ids());
    let batch = data.batch(&[0], None, Device::Cpu).unwrap();
    // Mean 3, deviation √(8/3); the second feature never changes.
    let expected = (3.0f64 / 2.0).sqrt();
    let found = Vec::<f32>::try_from(batch.inputs.flatten(0, -1)).unwrap();
    for (found, expected) in found.iter().zip([-expected, 0.0, expected, 0.0]) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
    }
}

#[test]
fn a_bad_line_is_refused_by_file_and_number() {
    for (lines, line, wanted) in [
        ("1,a,1,2\n0,b,1\n", 2, "1 features, the lines before have 2"),
        ("1,a,1\n2,b,1\n", 2, "a bag's label is 0 or 1"),
        ("1,a,1\n0,b,x\n", 2, "cell 3 is 'x'"),
        ("1,a,1\n0,b,NaN\n", 2, "no finite number"),
        ("1,a,1\n0,a,2\n", 2, "bag 'a' has the label 0"),
        ("1,a\n", 1, "no features"),
        ("1\n", 1, "the bag's id, is missing"),
    ] {
        let error = format!("{:#}", read(lines).err().unwrap_or_else(|| panic!("{lines:?} was read")));
        assert!(error.contains(&format!("set.csv.gz', line {line}")) && error.contains(wanted), "{error}");
    }
    for (lines, wanted) in [("", "no bag has the label 0"), ("1,a,1\n", "no bag has the label 0"), ("0,a,1\n", "no bag has the label 1")] {
        let error = format!("{:#}", read(lines).err().unwrap());
        assert!(error.contains(wanted), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("set.csv.gz");
    std::fs::write(&plain, "1,a,1\n").unwrap();
    let error = format!("{:#}", Classic::read(&plain).err().unwrap());
    assert!(error.contains("not the text of a whole gzip file"), "{error}");
}

#[test]
fn abmil_at_the_published_widths_learns_elephant_on_one_fold() {
    let Some(folder) = folder_of_sets("classic::elephant") else { return };
    let scores = trained(&folder, "classic-mil.toml", &["train.classic.set=elephant", "train.epochs=25"]);
    let [right, all] = counted(&scores);
    assert_eq!(all, 20);
    assert!(right >= 14, "{right} of 20 bags: chance is 10, the published share 17");
    assert_eq!((scores.aggregator.as_str(), scores.encoder.as_str()), ("abmil", "elephant"));
    assert!(scores.decisions[&Decision::Own].metrics.contains_key("accuracy"));
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// Trains and probes with a committed configuration.
fn trained(data: &Path, config: &str, overrides: &[&str]) -> ScoreFile {
    let out = tempfile::tempdir().unwrap();
    let overrides: Vec<String> = overrides.iter().chain(&["probe.resamples=50"]).map(|&item| item.to_owned()).collect();
    let config = Config::load(Some(&configs().join(config)), &overrides).unwrap();
    let data = Data { data: data.to_owned(), labels: None, split: None };
    let (model, scores) = (out.path().join("train"), out.path().join("probe"));
    train::run(&config, &data, &model, &machine()).unwrap();
    probe::run(&config, &probe::Inputs { train: model, data, tiles: None }, &scores, &machine()).unwrap();
    ScoreFile::read(&scores).unwrap()
}

/// Right decisions of the network's own head, and all.
fn counted(scores: &ScoreFile) -> [u64; 2] {
    let confusion = &scores.decisions[&Decision::Own].confusion;
    [(0..confusion.len()).map(|class| confusion[class][class]).sum(), confusion.iter().flatten().sum()]
}

#[test]
fn the_committed_pipelines_load() {
    let folder = tempfile::tempdir().unwrap();
    let [data, out] = ["data", "out"].map(|name| format!("{name}={}", folder.path().display()));
    for name in ["classic-mil", "mnist-bags"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("pipelines/{name}.toml"));
        let pipeline = Pipeline::load(&file, None, &[data.clone(), out.clone()]).unwrap();
        assert_eq!(pipeline.folder, folder.path().join(name));
        let error = Pipeline::load(&file, None, &[data.clone(), out.clone(), "train.classic.set=dragon".into()]).unwrap_err().to_string();
        assert!(error.contains("train.classic.set") && error.contains("musk1"), "{error}");
    }
}

/// Digits whose every pixel is their number: 0 to 9 again and again.
fn digits(folder: &Path, count: usize) -> [PathBuf; 2] {
    let number = |value: usize| (value as u32).to_be_bytes();
    let label = |index: usize| (index % 10) as u8;
    let images = [vec![0, 0, 8, 3], number(count).to_vec(), number(28).to_vec(), number(28).to_vec()].concat();
    let pixels = (0..count).flat_map(|index| std::iter::repeat_n(label(index), 784));
    let labels = [vec![0, 0, 8, 1], number(count).to_vec()].concat();
    let [image_file, label_file] = mnist_bags::files(folder);
    zipped(&image_file, &images.into_iter().chain(pixels).collect::<Vec<u8>>());
    zipped(&label_file, &labels.into_iter().chain((0..count).map(label)).collect::<Vec<u8>>());
    [image_file, label_file]
}

fn small() -> MnistBagsSettings {
    MnistBagsSettings { train_bags: 40, test_bags: 60, ..Default::default() }
}

#[test]
fn a_bag_of_digits_is_positive_if_a_nine_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    digits(folder.path(), 400);
    let data = MnistBags::read(folder.path(), &small(), 3).unwrap();
    let part = data.column("part").unwrap();
    assert_eq!([part.iter().filter(|part| *part == "train").count(), part.len()], [40, 100]);
    let all: Vec<usize> = (0..100).collect();
    let batch = data.batch(&all, None, Device::Cpu).unwrap();
    let mask = batch.mask.unwrap();
    assert_eq!(batch.inputs.size()[2..], [3, 28, 28]);
    // Back to bytes: the digit.
    let shown = (batch.inputs.select(2, 0).select(2, 0).select(2, 0) * 0.3081 + 0.1307) * 255.0;
    let nine = (shown - 9.0).abs().lt(1e-3).logical_and(&mask).any_dim(1, false).to_kind(Kind::Int64);
    assert_eq!(nine, batch.targets);
    let sizes = mask.sum_dim_intlist(1, false, Kind::Double);
    let (mean, deviation) = (sizes.mean(Kind::Double).double_value(&[]), sizes.std(false).double_value(&[]));
    assert!((mean - 10.0).abs() < 0.8 && (deviation - 2.0).abs() < 0.5, "{mean} ± {deviation}");
}

#[test]
fn bags_of_digits_follow_from_the_seed_and_parts_share_no_digit() {
    // Each digit's own picture, so that it can be followed: its number in two pixels.
    let folder = tempfile::tempdir().unwrap();
    let [images, _] = digits(folder.path(), 400);
    let header = [[0, 0, 8, 3], 400u32.to_be_bytes(), 28u32.to_be_bytes(), 28u32.to_be_bytes()].concat();
    let picture = |index: usize| {
        let mut pixels = vec![0u8; 784];
        (pixels[0], pixels[1]) = ((index / 200) as u8, (index % 200) as u8);
        pixels
    };
    zipped(&images, &header.into_iter().chain((0..400).flat_map(picture)).collect::<Vec<u8>>());
    let seen = |seed: u64, part: &str| {
        let data = MnistBags::read(folder.path(), &small(), seed).unwrap();
        let parts = data.column("part").unwrap();
        let rows: Vec<usize> = (0..parts.len()).filter(|&row| parts[row] == part).collect();
        let batch = data.batch(&rows, None, Device::Cpu).unwrap();
        let grey = ((batch.inputs.select(2, 0).select(2, 0) * 0.3081 + 0.1307) * 255.0).round(); // [B,N,28]
        let number = (grey.select(2, 0) * 200.0 + grey.select(2, 1)).masked_select(&batch.mask.unwrap());
        Vec::<f32>::try_from(number).unwrap().into_iter().map(|number| number as i64).collect::<Vec<_>>()
    };
    assert_eq!(seen(1, "train"), seen(1, "train"));
    assert_ne!(seen(1, "train"), seen(2, "train"));
    let (train, test) = (seen(1, "train"), seen(1, "test"));
    assert!(!train.iter().any(|digit| test.contains(digit)));
}

#[test]
fn files_of_digits_that_do_not_fit_are_refused_by_name() {
    let read = |change: &dyn Fn(&[PathBuf; 2])| {
        let folder = tempfile::tempdir().unwrap();
        change(&digits(folder.path(), 400));
        format!("{:#}", MnistBags::read(folder.path(), &small(), 0).err().expect("it is refused"))
    };
    let error = read(&|[images, _]| std::fs::remove_file(images).unwrap());
    assert!(error.contains("t10k-images-idx3-ubyte.gz") && error.contains("cannot read"), "{error}");
    let error = read(&|[_, labels]| std::fs::write(labels, "no gzip").unwrap());
    assert!(error.contains("t10k-labels-idx1-ubyte.gz") && error.contains("gzip"), "{error}");
    let error = read(&|[_, labels]| _ = zipped(labels, &[0, 0, 8, 1, 0, 0, 0, 3, 1, 2]));
    assert!(error.contains("holds 2 bytes after its header, which promises 3"), "{error}");
    let error = read(&|[images, labels]| _ = std::fs::copy(images, labels).unwrap());
    assert!(error.contains("does not begin as an IDX file of bytes with 1 sides"), "{error}");
    let error = read(&|[_, labels]| _ = zipped(labels, &[0, 0, 8, 1, 0, 0, 0, 2, 1, 2]));
    assert!(error.contains("400 images") && error.contains("2 labels"), "{error}");
    let error = read(&|[_, labels]| _ = zipped(labels, &[&[0, 0, 8, 1, 0, 0, 1, 144][..], &[11; 400]].concat()));
    assert!(error.contains("label 1 is 11"), "{error}");
    let error = read(&|[_, labels]| _ = zipped(labels, &[&[0, 0, 8, 1, 0, 0, 1, 144][..], &[1; 400]].concat()));
    assert!(error.contains("part 'train' are negative"), "{error}");
}

#[test]
fn the_digit_network_sees_no_padding() {
    let folder = tempfile::tempdir().unwrap();
    digits(folder.path(), 400);
    let config = Config::load(Some(&configs().join("mnist-bags.toml")), &[]).unwrap();
    let data = MnistBags::read(folder.path(), &small(), 0).unwrap();
    let learner = Learner::new(&config.train, data.input(), 2, 0, Device::Cpu).unwrap();
    let embeddings = |rows: &[usize]| no_grad(|| learner.model.forward(&data.batch(rows, None, Device::Cpu).unwrap(), false).embedding);
    let together = embeddings(&[0, 1, 2, 3]);
    assert_eq!(together.size(), [4, 500]);
    for row in 0..4 {
        let difference = (embeddings(&[row]).get(0) - together.get(row as i64)).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "bag {row}: {difference}");
    }
}

#[test]
fn a_run_on_digits_names_its_models() {
    let folder = tempfile::tempdir().unwrap();
    digits(folder.path(), 400);
    let small = ["train.mnist-bags.train-bags=30", "train.mnist-bags.test-bags=20", "train.epochs=1", "train.batch-size=4"];
    let scores = trained(folder.path(), "mnist-bags.toml", &small);
    assert_eq!((scores.aggregator.as_str(), scores.encoder.as_str(), scores.slides), ("abmil", "lenet", 20));
}

#[test]
fn digits_in_bags_are_told_apart() {
    let Some(folder) = folder_of_sets("classic::mnist") else { return };
    let scores =
        trained(&folder, "mnist-bags.toml", &["train.mnist-bags.test-bags=100", "train.epochs=3", "train.mnist-bags.train-bags=100"]);
    let auc = scores.decisions[&Decision::Own].macro_auc.value;
    assert!(auc > 0.75, "area under the ROC curve {auc}");
}
