//! CIFAR in both layouts: the real files have the same images and labels in either, and what is not theirs is refused by name.

use std::path::Path;

use tch::Device;
use wsi::datasets::augment::AugmentationSettings;
use wsi::datasets::cifar::{Cifar, Set};
use wsi::datasets::{Augment, Dataset};

use crate::data::test_data;

const PIXELS: usize = 3072;

fn read(folder: &Path, set: Set) -> anyhow::Result<Cifar> {
    Cifar::read(folder, set, &AugmentationSettings::default())
}

fn refusal(folder: &Path, set: Set) -> String {
    format!("{:#}", read(folder, set).err().expect("it is refused"))
}

#[track_caller]
fn same(one: &Cifar, other: &Cifar) {
    assert_eq!((one.ids(), one.targets(), one.classes()), (other.ids(), other.targets(), other.classes()));
    assert_eq!(one.column("part"), other.column("part"));
    let rows: Vec<usize> = (0..one.ids().len()).collect();
    for rows in rows.chunks(256) {
        let of = |data: &Cifar| data.batch(rows, None, Device::Cpu).unwrap().inputs;
        assert_eq!(of(one), of(other), "images {rows:?}");
    }
}

#[test]
fn the_real_images_and_labels_are_the_same_in_both_layouts() {
    let Some(data) = test_data("the_real_images_and_labels") else { return };
    let [binary, python] =
        ["cifar100_partial_bin", "cifar-100-python-partial"].map(|folder| read(&data.join("cifar").join(folder), Set::Cifar100).unwrap());
    assert_eq!((binary.classes().len(), binary.ids().len()), (100, 1117 + 916));
    assert!(binary.notes()[0].contains("1117 train images, published are 50000"), "{:?}", binary.notes());
    same(&binary, &python);
}

// ---- made-up sets ------------------------------------------------------------------------------------------------------

/// Pixel `p` of image `image`.
fn pixel(image: usize, p: usize) -> u8 {
    (image * 31 + p * 7) as u8
}

/// How Python saves a text, a byte string and the bytes of an array.
#[derive(Clone, Copy)]
enum Python {
    /// Python 2, protocol 2: as the published files.
    Two,
    /// Python 3, protocol 2: bytes as texts of one character a byte.
    ThreeOld,
    /// Python 3, protocol 4.
    Three,
}

impl Python {
    fn key(self, text: &str) -> Vec<u8> {
        match self {
            Self::Two => [b"U", &[text.len() as u8][..], text.as_bytes()].concat(),
            Self::ThreeOld => encoded(text.as_bytes()),
            Self::Three => [b"C", &[text.len() as u8][..], text.as_bytes()].concat(),
        }
    }

    fn bytes(self, bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u32).to_le_bytes();
        match self {
            Self::Two => [b"T", &length[..], bytes].concat(),
            Self::ThreeOld => encoded(bytes),
            Self::Three => [b"B", &length[..], bytes].concat(),
        }
    }
}

fn unicode(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn encoded(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    [&b"c_codecs\nencode\n"[..], &unicode(&text), &unicode("latin1"), b"\x86R"].concat()
}

fn integer(value: usize) -> Vec<u8> {
    [b"J", &(value as i32).to_le_bytes()[..]].concat()
}

/// A NumPy array `[count, width]` of bytes.
fn array(python: Python, count: usize, width: usize, bytes: &[u8]) -> Vec<u8> {
    let dtype = [&b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"[..]].concat();
    let empty = [&b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"[..]].concat();
    let state = [b"(K\x01", &integer(count)[..], &integer(width), b"\x86", &dtype, b"\x89", &python.bytes(bytes), b"tb"].concat();
    [empty, state].concat()
}

fn dictionary(python: Python, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [python.key(key), value.clone()].concat()).collect();
    [b"\x80\x02}(", &entries[..], b"u."].concat()
}

fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"](", &items.into_iter().flatten().collect::<Vec<u8>>()[..], b"e"].concat()
}

fn batch(python: Python, first: usize, count: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (first..first + count).flat_map(|image| (0..PIXELS).map(move |p| pixel(image, p))).collect();
    let labels = list((first..first + count).map(|image| integer(image % 3)));
    dictionary(python, &[("labels", labels), ("data", array(python, count, PIXELS, &pixels))])
}

/// CIFAR-10 in six files of two images each.
fn pickled(root: &Path, python: Python) {
    let names = list(["plane", "car", "bird"].map(|name| python.key(name)));
    std::fs::write(root.join("batches.meta"), dictionary(python, &[("label_names", names)])).unwrap();
    for (file, name) in files().into_iter().enumerate() {
        std::fs::write(root.join(name), batch(python, 2 * file, 2)).unwrap();
    }
}

fn files() -> [&'static str; 6] {
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
}

fn binary(root: &Path) {
    std::fs::write(root.join("batches.meta.txt"), "plane\ncar\nbird\n\n").unwrap();
    for (file, name) in files().into_iter().enumerate() {
        let record = |image: usize| std::iter::once((image % 3) as u8).chain((0..PIXELS).map(move |p| pixel(image, p)));
        std::fs::write(root.join(format!("{name}.bin")), (2 * file..2 * file + 2).flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
}

#[test]
fn every_way_of_saving_gives_the_same_images() {
    let root = tempfile::tempdir().unwrap();
    binary(root.path());
    let wanted = read(root.path(), Set::Cifar10).unwrap();
    assert_eq!(wanted.targets(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!((wanted.ids()[9].as_str(), wanted.ids()[10].as_str()), ("train/00009", "test/00000"));
    for python in [Python::Two, Python::ThreeOld, Python::Three] {
        let root = tempfile::tempdir().unwrap();
        pickled(root.path(), python);
        same(&wanted, &read(root.path(), Set::Cifar10).unwrap());
    }
}

#[test]
fn pickles_that_hold_something_else_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    pickled(root.path(), Python::Two);
    let with = |name: &str, content: &[u8]| {
        pickled(root.path(), Python::Two);
        std::fs::write(root.path().join(name), content).unwrap();
        let said = refusal(root.path(), Set::Cifar10);
        assert!(said.contains(name), "{said}");
        said
    };
    let good = batch(Python::Two, 0, 2);
    let of = |entries: &[(&str, Vec<u8>)]| dictionary(Python::Two, entries);
    let labels = |count: usize| list((0..count).map(|_| integer(1)));
    let data = |count, width, bytes: usize| array(Python::Two, count, width, &vec![7; bytes]);
    for (content, word) in [
        (good[..good.len() / 2].to_vec(), "cut short"),
        ([&good[..], b"x"].concat(), "1 bytes follow its end"),
        (b"\x80\x02cos\nsystem\nU\x04true\x85R.".to_vec(), "'os.system'"),
        (b"\x80\x02].".to_vec(), "no dictionary"),
        (of(&[("data", data(2, PIXELS, 2 * PIXELS))]), "it has no 'labels'"),
        (of(&[("labels", labels(2))]), "it has no 'data'"),
        (of(&[("labels", labels(3)), ("data", data(2, PIXELS, 2 * PIXELS))]), "2 images and 3 labels"),
        (of(&[("labels", labels(2)), ("data", data(2, PIXELS, PIXELS))]), "claims 2 rows of 3072 bytes and holds 3072"),
        (of(&[("labels", labels(2)), ("data", data(2, 3073, 2 * 3073))]), "2 rows of 3073 bytes"),
        (of(&[("labels", labels(2)), ("data", labels(2))]), "'data' is no array"),
        (
            of(&[("labels", list([integer(1), integer(3)])), ("data", data(2, PIXELS, 2 * PIXELS))]),
            "image 1 has the label 3, there are 3 classes",
        ),
        (of(&[("labels", list([integer(1), b"N".to_vec()])), ("data", data(2, PIXELS, 2 * PIXELS))]), "no list of integers"),
    ] {
        let said = with("data_batch_2", &content);
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert!(with("batches.meta", &of(&[])).contains("no class names"));

    // As many images as were published, and others.
    let whole = of(&[("labels", labels(10_000)), ("data", data(10_000, PIXELS, 10_000 * PIXELS))]);
    let said = with("data_batch_3", &whole);
    assert!(said.contains("published 54ebc095f3ab1f0389bbae665268c751"), "{said}");
}

#[test]
fn views_are_the_same_on_any_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    binary(root.path());
    let rows = (0..12).collect::<Vec<usize>>().repeat(2);
    for name in ["crop-flip-rotate", "resized-crop", "supcon"] {
        let data = Cifar::read(root.path(), Set::Cifar10, &AugmentationSettings::named(name).unwrap()).unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| data.batch(&rows, Some(Augment { seed: 5, epoch: 2, views: 2 }), Device::Cpu).unwrap().inputs)
        };
        let (one, two) = (on(1), on(2));
        assert_eq!(one, two, "{name}");
        assert_ne!(one.get(0), one.get(12), "{name}: the second view of an image is another one");
    }
}
