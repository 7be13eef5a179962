//! Bags in memory and bags read from disk train to the same bits; a cohort that cannot be trained on is refused once, in full.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use tch::{Device, Tensor};
use wsi::config::Config;
use wsi::datasets::bags::{Bags, Keep};
use wsi::datasets::cohort::Cohort;
use wsi::datasets::split::{TrainRows, ValidRows};
use wsi::datasets::{Augment, Dataset};
use wsi::learn::fit::{State, fit};
use wsi::learn::{Learner, Training};
use wsi::stages::{Data, train};
use wsi::store::bag::Features;

use crate::train::{cohort, config, machine, plan, write_plan};

fn open(data: &Data, keep: Keep) -> anyhow::Result<Bags> {
    let config = config(&[]);
    Bags::read(&data.data, Cohort::read(data.labels.as_ref().unwrap(), &config.cohort, config.seed)?, config.train.tiles, keep)
}

/// All tensors after a training with validation, whose rows are in no particular order.
fn trained(dataset: &Bags, config: &Config) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let rows = dataset.ids().len();
    let (train, valid) = (TrainRows((0..rows).filter(|row| row % 4 > 0).collect()), ValidRows((0..rows).rev().step_by(4).collect()));
    let training = Training { dataset, train: &train, valid: &valid, seed: 3, device: Device::Cpu };
    let mut learner = Learner::new(&config.train, dataset.input(), dataset.classes().len(), 3, Device::Cpu)?;
    let mut optimizer = config.train.optimizer.build(learner.parameters());
    let mut state = State::new(config.train.precision);
    fit(&mut learner, optimizer.as_mut(), &training, &config.train, &mut state, &mut |_, _, _| Ok(()))?;
    Ok(learner.tensors().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect())
}

#[test]
fn memory_and_disk_train_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let (memory, disk) = (open(&data, Keep::Memory).unwrap(), open(&data, Keep::Stream).unwrap());
    for overrides in [
        &["train.loss.centroid-start=0.3", "train.model.aggregator.dropout=0.2", "train.batch-size=5"][..],
        &["train.loss.name=cross-entropy", "train.augment=true", "train.batch-size=1"],
        &["train.loss.name=supcon", "train.accumulate=2"],
    ] {
        let config = config(overrides);
        let (first, second) = (trained(&memory, &config).unwrap(), trained(&disk, &config).unwrap());
        assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
        for (name, tensor) in &first {
            assert!(tensor.equal(&second[name]), "{overrides:?}: '{name}' differs");
        }
    }
}

#[test]
fn a_bag_comes_whatever_was_announced() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 4);
    let (memory, disk) = (open(&data, Keep::Memory).unwrap(), open(&data, Keep::Stream).unwrap());
    let augment = Some(Augment { seed: 1, epoch: 2, views: 2 });
    for announced in [&[][..], &[3, 1, 0], &[5, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]] {
        disk.announce(announced);
        for (rows, augment) in [(vec![3, 1], None), (vec![0], None), (vec![7, 2, 7, 2], augment), (vec![1, 1], None)] {
            let [a, b] = [&memory, &disk].map(|bags| bags.batch(&rows, augment, Device::Cpu).unwrap());
            assert!(
                a.inputs.equal(&b.inputs) && a.mask.unwrap().equal(&b.mask.unwrap()) && a.targets.equal(&b.targets),
                "{announced:?} {rows:?}"
            );
        }
    }
}

#[test]
fn an_epoch_in_memory_touches_no_file_and_one_on_disk_names_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 4);
    let (memory, disk) = (open(&data, Keep::Memory).unwrap(), open(&data, Keep::Stream).unwrap());
    let gone = data.data.join("p01_0.h5");
    std::fs::remove_file(&gone).unwrap();
    write_plan(folder.path(), &plan("p01_0", 3), bag(3, 12));
    let error = format!("{:#}", trained(&disk, &config(&[])).unwrap_err());
    assert!(error.contains("'p01_0.h5'") && error.contains("now has 3 of 12"), "{error}");
    std::fs::remove_dir_all(&data.data).unwrap();
    trained(&memory, &config(&[])).unwrap();
    let error = format!("{:#}", trained(&disk, &config(&[])).unwrap_err());
    assert!(error.contains("cannot read the bag 'p0"), "{error}");
}

fn bag(tiles: usize, width: usize) -> Features {
    Features { values: vec![f16::ONE; tiles * width], tiles, width }
}

fn write(folder: &Path, id: &str, features: Features) {
    write_plan(folder, &plan(id, features.tiles), features);
}

#[test]
fn one_error_lists_every_bag_that_cannot_be_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 8);
    let spoilt = |value: f16| {
        let mut features = bag(4, 12);
        features.values[17] = value;
        features
    };
    write(folder.path(), "p00_0", spoilt(f16::NAN));
    write(folder.path(), "p01_1", spoilt(f16::INFINITY));
    write(folder.path(), "p03_0", bag(4, 13));
    write(folder.path(), "p04_1", bag(0, 12));
    std::fs::write(data.data.join("p09_0.h5"), "no bag").unwrap();
    let out = folder.path().join("run");
    let error = format!("{:#}", train::run(&config(&[]), &data, &out, &machine()).unwrap_err());
    let lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
    assert!(error.starts_with("5 of 32 labelled slides cannot be trained on:"), "{error}");
    for (line, [slide, why]) in lines.iter().zip([
        ["p00_0", "no finite half-precision numbers"],
        ["p01_1", "no finite half-precision numbers"],
        ["p03_0", "13 features a tile, most have 12"],
        ["p04_1", "no tiles"],
        ["p09_0", "cannot read the bag 'p09_0.h5'"],
    ]) {
        assert!(line.starts_with(&format!("slide '{slide}': ")) && line.contains(why), "{line}");
    }
    assert_eq!(lines.len(), 5, "{error}");
    assert!(!out.exists(), "something was written");
    assert!(open(&data, Keep::Stream).is_err_and(|streamed| format!("{streamed:#}") == error), "the same from disk");

    for entry in std::fs::read_dir(&data.data).unwrap().skip(7) {
        std::fs::write(entry.unwrap().path(), "no bag").unwrap();
    }
    let error = format!("{:#}", open(&data, Keep::Automatic).err().unwrap());
    assert_eq!(error.lines().count(), 22, "a headline, 20 slides, the number of the others:\n{error}");
    let wrong: usize = error.split(' ').next().unwrap().parse().unwrap();
    assert!(error.ends_with(&format!("and {} more", wrong - 20)), "{error}");
}
