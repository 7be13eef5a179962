//! Splits: every slide in one part, patients kept together except where the split's name says otherwise, folds complete, digests
//! that stay; on made-up cohorts and on the real tables of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use tch::Device;
use wsi::datasets::leaks::{self, Kind, LeakSettings};
use wsi::datasets::split::{Split, SplitSettings};
use wsi::datasets::{Augment, Dataset};
use wsi::ground::batch::{Batch, Input};
use wsi::store::scores::SplitKind;
use wsi::store::table;

use crate::data::test_data;

/// Labels without anything to train on.
pub struct Labels {
    ids: Vec<String>,
    patients: Vec<String>,
    targets: Vec<i64>,
    classes: Vec<String>,
    columns: BTreeMap<String, Vec<String>>,
}

impl Labels {
    /// Rows of (slide, patient, class, centre, part), in any order.
    pub fn new(classes: usize, mut rows: Vec<(String, String, i64, String, String)>) -> Self {
        rows.sort();
        let column = |of: fn(&(String, String, i64, String, String)) -> &String| rows.iter().map(|row| of(row).clone()).collect::<Vec<_>>();
        Self {
            ids: column(|row| &row.0),
            patients: column(|row| &row.1),
            targets: rows.iter().map(|row| row.2).collect(),
            classes: (0..classes).map(|class| format!("class {class}")).collect(),
            columns: BTreeMap::from([("centre".to_owned(), column(|row| &row.3)), ("part".to_owned(), column(|row| &row.4))]),
        }
    }

    fn counts(&self, rows: &[usize]) -> Vec<usize> {
        (0..self.classes.len()).map(|class| rows.iter().filter(|&&row| self.targets[row] == class as i64).count()).collect()
    }

    fn patients_of(&self, rows: &[usize]) -> BTreeSet<&String> {
        rows.iter().map(|&row| &self.patients[row]).collect()
    }
}

impl Dataset for Labels {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn groups(&self) -> &[String] {
        &self.patients
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, name: &str) -> Option<Vec<String>> {
        self.columns.get(name).cloned()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn input(&self) -> Input {
        Input::Images
    }

    fn batch(&self, _: &[usize], _: Option<Augment>, _: Device) -> Result<Batch> {
        bail!("there is nothing to train on")
    }
}

/// 5 centres of 12 patients with 3 slides each: the first is of class 0, the others of the patient's own class.
fn made_up() -> Labels {
    let rows = (0..60).flat_map(|patient| {
        (0..3).map(move |slide| {
            let class = if slide == 0 { 0 } else { patient % 3 };
            let part = ["train", "train", "train", "valid", "test"][patient as usize / 3 % 5];
            (format!("s{patient:02}_{slide}"), format!("p{patient:02}"), class, format!("{}", patient / 12), part.to_owned())
        })
    });
    Labels::new(3, rows.collect())
}

fn settings(text: &str) -> SplitSettings {
    wsi::config::Config::load(None, &[format!("split={text}")]).unwrap().split
}

fn each_slide_is_in_one_part(split: &Split, labels: &Labels) {
    let mut rows: Vec<usize> = split.parts().iter().flat_map(|(_, rows)| rows.to_vec()).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..labels.ids.len()).collect::<Vec<_>>(), "{}", split.name);
}

fn patients_stay_together(split: &Split, labels: &Labels) -> bool {
    let [a, b, c] = split.parts().map(|(_, rows)| labels.patients_of(rows));
    a.is_disjoint(&b) && a.is_disjoint(&c) && b.is_disjoint(&c)
}

const BY_PATIENT: [&str; 7] = [
    "{name='k-fold', folds=3, fold=1}",
    "{name='holdout'}",
    "{name='column', column='centre', test=['3'], validation=0.2}",
    "{name='leave-one-out', fold=2}",
    "{name='monte-carlo', repeat=4}",
    "{name='c17-strict'}",
    "{name='bracs-official'}",
];

#[test]
fn every_slide_is_in_one_part_and_patients_stay_together() {
    let labels = made_up();
    for text in BY_PATIENT.iter().chain(&["{name='c17-acmil'}"]) {
        for seed in 0..5 {
            let split = settings(text).divide(&labels, seed).unwrap();
            each_slide_is_in_one_part(&split, &labels);
            assert!(!split.name.is_empty() && !split.valid.0.is_empty(), "{text}");
            assert_eq!(patients_stay_together(&split, &labels), !text.contains("acmil"), "{text}");
            let again = settings(text).divide(&labels, seed).unwrap();
            assert_eq!((&again, again.digest(&labels).unwrap()), (&split, split.digest(&labels).unwrap()), "{text}");
        }
    }
    assert_eq!(SplitSettings::NAMES.len(), BY_PATIENT.len() + 2, "a split without a test");
}

#[test]
fn a_share_is_stratified_and_seeds_draw_anew() {
    let labels = made_up();
    for text in ["{name='holdout'}", "{name='monte-carlo'}", "{name='c17-strict'}"] {
        let split = settings(text).divide(&labels, 0).unwrap();
        assert!(labels.counts(&split.valid.0).iter().all(|&count| count > 0), "{text}");
        let other = settings(text).divide(&labels, 1).unwrap();
        assert_ne!(other.digest(&labels).unwrap(), split.digest(&labels).unwrap(), "{text}");
    }
}

#[test]
fn folds_are_complete_and_disjoint_and_draws_are_not() {
    let labels = made_up();
    let tested = |text: &str, folds: usize, key: &str| {
        let split = |fold| settings(&text.replace('}', &format!(", {key}={fold}}}"))).divide(&labels, 3).unwrap();
        let splits: Vec<Split> = (0..folds).map(split).collect();
        assert!(splits.iter().enumerate().all(|(fold, split)| (split.fold, split.folds) == (fold, folds)), "{text}");
        splits
    };
    for (text, folds, kind) in
        [("{name='k-fold', folds=4}", 4, SplitKind::KFold), ("{name='leave-one-out', validation=0.0}", 5, SplitKind::LeaveOneOut)]
    {
        let splits = tested(text, folds, "fold");
        let mut rows: Vec<usize> = splits.iter().flat_map(|split| split.test.0.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..labels.ids.len()).collect::<Vec<_>>(), "{text}");
        assert!(splits.iter().all(|split| split.kind == kind));
    }
    let draws = tested("{name='monte-carlo', repeats=6}", 6, "repeat");
    let distinct: BTreeSet<String> = draws.iter().map(|split| split.digest(&labels).unwrap()).collect();
    assert_eq!(distinct.len(), 6);
    let all: usize = draws.iter().map(|split| split.test.0.len()).sum();
    let union: BTreeSet<usize> = draws.iter().flat_map(|split| split.test.0.clone()).collect();
    assert!(union.len() < all);
    let error = settings("{name='leave-one-out', fold=5}").divide(&labels, 0).unwrap_err().to_string();
    assert!(error.contains("fold 5") && error.contains("0, 1, 2, 3, 4"), "{error}");
}

#[test]
fn errors_name_every_offender() {
    let error = |text: &str, labels: &Labels| settings(text).divide(labels, 0).unwrap_err().to_string();
    let row = |slide: &str, patient: &str, class, part: &str| (slide.into(), patient.into(), class, "0".into(), part.to_owned());
    let few =
        Labels::new(4, vec![row("a", "1", 0, "train"), row("b", "2", 0, "test"), row("c", "3", 1, "test"), row("d", "4", 2, "later")]);
    let said = error("{name='k-fold', folds=2, validation=0.0}", &few);
    assert!(["'class 1' has 1", "'class 2' has 1", "'class 3' has 0"].iter().all(|part| said.contains(part)), "{said}");
    let said = error("{name='bracs-official'}", &few);
    assert!(said.contains("'d' ('later')") && !said.contains("'a'"), "{said}");
    let whole = Labels::new(3, vec![row("a", "1", 0, "train"), row("b", "2", 1, "test"), row("c", "3", 2, "test")]);
    let said = error("{name='bracs-official'}", &whole);
    assert!(said.contains("'class 1', 'class 2'") && !said.contains("'class 0'"), "{said}");
    assert!(error("{name='c17-strict'}", &whole).contains("column 'centre' has 1: 0"));
    let said = error("{name='column', column='part', test=['test','x'], valid=['y']}", &whole);
    assert!(said.contains("'x', 'y'"), "{said}");
    assert!(error("{name='file'}", &whole).contains("--split FILE"));
    assert!(error("{name='holdout', test=1.5}", &whole).contains("split.test is 1.5"));
}

#[test]
fn a_split_is_read_back_from_its_own_file() {
    let (folder, labels) = (tempfile::tempdir().unwrap(), made_up());
    let split = settings("{name='holdout'}").divide(&labels, 0).unwrap();
    let path = folder.path().join("split.csv");
    split.write(&path, &labels).unwrap();
    let read = settings("{name='file', title='the old one'}").read(&labels, &path).unwrap();
    assert_eq!((&read.train, &read.valid, &read.test), (&split.train, &split.valid, &split.test));
    assert_eq!(read.digest(&labels).unwrap(), split.digest(&labels).unwrap());
    assert_eq!((read.name.as_str(), read.kind), ("the old one", SplitKind::File));
    assert!(settings("{name='file'}").read(&labels, &path).unwrap().name.starts_with("file "));
    assert_eq!(settings("{name='file', title='x', fold=1, folds=3}").read(&labels, &path).unwrap().name, "x, fold 1 of 3");
    let error = settings("{name='holdout'}").read(&labels, &path).unwrap_err().to_string();
    assert!(error.contains("split.name is 'holdout'"), "{error}");
}

#[test]
fn a_file_that_does_not_fit_is_refused_with_every_slide() {
    let (folder, labels) = (tempfile::tempdir().unwrap(), made_up());
    let said = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("{:#}", settings("{name='file'}").read(&labels, &path).unwrap_err())
    };
    let all_but = |left_out: &[&str]| {
        let kept = labels.ids.iter().filter(|id| !left_out.contains(&id.as_str()));
        kept.enumerate().map(|(i, id)| format!("{id},{}\n", ["train", "valid", "test"][i % 3])).collect::<String>()
    };
    let text = format!("slide_id,part\n{}s00_1,train\nforeign,test\n", all_but(&["s07_0", "s07_1"]));
    let error = said("split.csv", &text);
    for part in ["1 slide(s) listed twice: 's00_1'", "2 slide(s) in no part: 's07_0', 's07_1'", "1 slide(s) not in the data: 'foreign'"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = said("split.csv", "slide_id,part\ns00_0,training\n");
    assert!(error.contains("'s00_0' ('training')"), "{error}");
    assert!(said("split.csv", "id,part\na,train\n").contains("has: id, part"));
    assert!(said("split.json", "{\"train_names\": []}").contains("val_names"));
    let error = said("split.csv", "slide_id,part\ns00_0,train\n");
    assert!(error.contains("and 159 more"), "a long list is cut: {error}");
}

/// The labels of a real table; `describe` gives patient, class, centre and part of a row from its cells by name.
fn real(path: &Path, classes: usize, describe: impl Fn(&dyn Fn(&str) -> String) -> (String, i64, String, String)) -> Labels {
    let frame = table::read(path).unwrap();
    let columns: BTreeMap<String, Vec<String>> =
        table::names(&frame).into_iter().map(|name| (name.clone(), table::text(&frame, &name, path).unwrap())).collect();
    let rows = (0..columns["slide_id"].len()).map(|row| {
        let cell = |name: &str| columns[name][row].clone();
        let (patient, class, centre, part) = describe(&cell);
        (cell("slide_id"), patient, class, centre, part)
    });
    Labels::new(classes, rows.collect())
}

fn camelyon17(data: &Path) -> Labels {
    real(&data.join("labels/AEM_camelyon17.csv"), 4, |cell| {
        let patient = cell("slide_id").split("_node").next().unwrap().to_owned();
        (patient, cell("label").parse().unwrap(), cell("center"), String::new())
    })
}

#[test]
fn camelyon17_is_split_as_acmil_does_and_only_with_a_reason() {
    let Some(data) = test_data("camelyon17_is_split_as_acmil_does_and_only_with_a_reason") else { return };
    let labels = camelyon17(&data);
    let split = settings("{name='c17-acmil'}").divide(&labels, 0).unwrap();
    each_slide_is_in_one_part(&split, &labels);
    assert_eq!(split.parts().map(|(_, rows)| rows.len()), [270, 30, 200]);
    let both: Vec<usize> = split.train.0.iter().chain(&split.valid.0).copied().collect();
    assert_eq!(labels.counts(&both), [197, 20, 41, 42]);
    assert_eq!(labels.counts(&split.test.0), [121, 16, 18, 45]);

    let external = LeakSettings { external: "centre".into(), ..LeakSettings::default() };
    let error = leaks::check(&external, &labels, &split, &[]).unwrap_err().to_string();
    assert!(error.contains("same patient, train | valid") && !error.contains("train | test") && !error.contains("not external"), "{error}");
    assert!(error.contains("more") && error.contains("--allow-leak"), "{error}");
    let waivers = leaks::check(&LeakSettings { allow: "as ACMIL".into(), ..external.clone() }, &labels, &split, &[]).unwrap();
    let shared = labels.patients_of(&split.train.0).intersection(&labels.patients_of(&split.valid.0)).count();
    assert_eq!(waivers, [format!("same patient, train | valid: {shared}; allowed: as ACMIL")]);

    let strict = settings("{name='c17-strict'}").divide(&labels, 0).unwrap();
    assert_eq!(strict.test, split.test);
    assert!((5..=7).contains(&labels.patients_of(&strict.valid.0).len()), "about a tenth of 60 patients");
    assert!(labels.counts(&strict.valid.0).iter().all(|&count| count > 0), "{:?}", labels.counts(&strict.valid.0));
    assert!(leaks::check(&external, &labels, &strict, &[]).unwrap().is_empty());
    let one_out = settings("{name='leave-one-out', fold=4}").divide(&labels, 0).unwrap();
    assert_eq!((one_out.folds, labels.counts(&one_out.test.0)), (5, vec![61, 8, 5, 26]));
}

#[test]
fn bracs_is_split_as_it_came() {
    let Some(data) = test_data("bracs_is_split_as_it_came") else { return };
    let labels = real(&data.join("labels/AEM_bracs.csv"), 3, |cell| {
        let class = [0, 0, 0, 1, 1, 2, 2][cell("label").parse::<usize>().unwrap()];
        let part = if cell("split_info") == "val" { "valid".to_owned() } else { cell("split_info") };
        (cell("case_id"), class, String::new(), part)
    });
    let split = settings("{name='bracs-official'}").divide(&labels, 0).unwrap();
    assert_eq!(split.parts().map(|(_, rows)| rows.len()), [395, 65, 87]);
    assert_eq!(split.parts().map(|(_, rows)| labels.counts(rows)), [[203, 52, 140], [30, 14, 21], [32, 23, 32]]);
}

#[test]
fn the_files_of_acmil_and_clam_are_read() {
    let Some(data) = test_data("the_files_of_acmil_and_clam_are_read") else { return };
    let read = |path: &Path, ids: &BTreeSet<String>| {
        let rows = ids.iter().enumerate().map(|(row, id)| (id.clone(), id.clone(), row as i64 % 2, String::new(), String::new()));
        settings("{name='file'}").read(&Labels::new(2, rows.collect()), path)
    };
    let frame = table::read(&data.join("labels/AEM_camelyon16.csv")).unwrap();
    let mut ids: BTreeSet<String> = table::text(&frame, "slide_id", &data).unwrap().into_iter().collect();
    let acmil = data.join("labels/ACMIL_splits_camelyon/split_1.json");
    let error = format!("{:#}", read(&acmil, &ids).unwrap_err());
    let missing =
        error.split("1 slide(s) in no part: '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap_or_else(|| panic!("{error}"));
    ids.remove(missing);
    for number in 1..=5 {
        let split = read(&acmil.with_file_name(format!("split_{number}.json")), &ids).unwrap();
        assert_eq!(split.parts().map(|(_, rows)| rows.len()), [242, 27, 129]);
    }

    let clam = data.join("labels/clam/splits_0.csv");
    let frame = table::read(&clam).unwrap();
    let column = |name: &str| table::text(&frame, name, &clam).unwrap().into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    let parts = ["train", "val", "test"].map(column);
    let split = read(&clam, &parts.iter().flatten().cloned().collect()).unwrap();
    assert_eq!(split.parts().map(|(_, rows)| rows.len()), [parts[0].len(), parts[1].len(), parts[2].len()]);
    assert_eq!(split.parts().map(|(_, rows)| rows.len()), [300, 51, 48]);
}

#[test]
fn leaks_between_made_up_parts_are_found() {
    let labels = made_up();
    let split = settings("{name='column', column='part', test=['test'], valid=['valid']}").divide(&labels, 0).unwrap();
    let find = |settings: &LeakSettings| leaks::find(settings, &labels, &split, &[]).unwrap();
    assert!(find(&LeakSettings::default()).is_empty());
    let found = find(&LeakSettings { external: "centre".into(), ..LeakSettings::default() });
    assert!(found.iter().all(|leak| leak.kind == Kind::External && leak.parts[1] == "test"), "{found:?}");
    assert!(!found.is_empty());
    let unknown = LeakSettings { external: "hospital".into(), ..LeakSettings::default() };
    assert!(leaks::find(&unknown, &labels, &split, &[]).unwrap_err().to_string().contains("'hospital'"));
}

#[test]
fn few_training_samples_a_class_are_the_same_for_every_seed() {
    let row = |i: i64| {
        let part = if i < 45 { "train" } else { "test" };
        (format!("s{i:02}"), format!("p{i:02}"), i % 3, String::new(), part.to_owned())
    };
    let data = Labels::new(3, (0..60).map(row).collect());
    let settings: SplitSettings = toml::from_str("name = 'column'\ncolumn = 'part'\ntest = ['test']").unwrap();
    let few = |seed| {
        let mut split = settings.divide(&data, seed).unwrap();
        split.keep_per_class(4, &data);
        split
    };
    let (split, whole) = (few(0), settings.divide(&data, 0).unwrap());
    assert_eq!((data.counts(&split.train.0), &split.test), (vec![4; 3], &whole.test));
    assert!(split.train.0.is_sorted() && split.train.0.iter().all(|row| whole.train.0.contains(row)));
    assert_eq!(few(7).train, split.train);
    assert!(split.name.starts_with("at most 4 training samples a class, column 'part'"), "{}", split.name);
}
