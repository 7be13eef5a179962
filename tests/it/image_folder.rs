//! Photographs in class folders: what is listed, what is refused, and that what training sees depends on seed, epoch and image alone.

use std::path::Path;

use image::{Rgb, RgbImage};
use tch::{Device, Kind};
use wsi::datasets::image_folder::{ImageFolder, ImageFolderSettings};
use wsi::datasets::{Augment, Dataset};
use wsi::slides::jpeg;

use crate::data::test_data;
use crate::program::{said, wsi};

fn photograph(width: u32, height: u32, shade: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([shade, (255 * x / width) as u8, (255 * y / height) as u8]))
}

/// Two parts, two classes, images of several sizes; one a PNG under a JPEG's name, as ImageNet has.
fn folder(root: &Path) {
    for part in ["train", "val"] {
        for (class, shade) in [("n01", 60), ("n02", 200)] {
            let class = root.join(part).join(class);
            std::fs::create_dir_all(&class).unwrap();
            for (index, (width, height)) in [(80, 60), (50, 90), (64, 64), (200, 70)].into_iter().enumerate() {
                let image = photograph(width, height, shade);
                let path = class.join(format!("{index}.JPEG"));
                match index {
                    2 => image.save_with_format(&path, image::ImageFormat::Png).unwrap(),
                    _ => std::fs::write(&path, jpeg::encode(&image, 92).unwrap()).unwrap(),
                }
            }
        }
    }
}

fn small() -> ImageFolderSettings {
    ImageFolderSettings { train_px: 24, short_px: 40, test_px: 32, ..ImageFolderSettings::default() }
}

fn refusal(root: &Path, settings: &ImageFolderSettings) -> String {
    format!("{:#}", ImageFolder::read(root, settings).err().expect("it is refused"))
}

#[test]
fn images_are_listed_by_part_class_and_name_and_seen_by_seed_epoch_and_row() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path());
    let data = ImageFolder::read(root.path(), &small()).unwrap();
    assert_eq!((data.classes(), data.ids().len()), (&["n01".to_owned(), "n02".to_owned()][..], 16));
    assert_eq!((data.ids()[0].as_str(), data.ids()[15].as_str()), ("train/n01/0.JPEG", "val/n02/3.JPEG"));
    assert_eq!(data.column("part").unwrap()[7..9], ["train", "val"]);
    assert_eq!(data.targets()[..8], [0, 0, 0, 0, 1, 1, 1, 1]);

    let rows: Vec<usize> = (0..16).collect();
    let whole = data.batch(&rows, None, Device::Cpu).unwrap().inputs;
    assert_eq!(whole.size(), [16, 3, 32, 32]);
    let augment = |seed, epoch| Some(Augment { seed, epoch, views: 1 });
    let seen = data.batch(&rows, augment(1, 1), Device::Cpu).unwrap().inputs;
    assert_eq!(seen.size(), [16, 3, 24, 24]);
    for row in [0, 2, 9] {
        let alone = data.batch(&[row], augment(1, 1), Device::Cpu).unwrap().inputs;
        assert_eq!(alone.get(0), seen.get(row as i64), "image {row} looks the same in any batch");
        assert_ne!(data.batch(&[row], augment(1, 2), Device::Cpu).unwrap().inputs, alone);
    }
    // Red is the class's shade in every pixel, whatever the part: colours and places survive decoding, resizing and normalising.
    let red = |images: &tch::Tensor, row: i64| images.get(row).get(0).mean(Kind::Float).double_value(&[]) * 0.229 + 0.485;
    for row in [0i64, 2, 3] {
        assert!((red(&seen, row) - 60.0 / 255.0).abs() < 0.02 && (red(&whole, row + 4) - 200.0 / 255.0).abs() < 0.02, "{row}");
    }
}

#[test]
fn what_is_no_image_set_is_refused_with_every_offender() {
    let root = tempfile::tempdir().unwrap();
    assert!(refusal(root.path(), &small()).contains("has no class folders"));
    folder(root.path());
    std::fs::rename(root.path().join("val/n02"), root.path().join("val/n03")).unwrap();
    let said = refusal(root.path(), &small());
    assert!(said.contains("n02 (not in val)") && said.contains("n03 (not in train)"), "{said}");
    std::fs::rename(root.path().join("val/n03"), root.path().join("val/n02")).unwrap();
    std::fs::create_dir(root.path().join("val/n04")).unwrap();
    assert!(refusal(root.path(), &small()).contains("without images in") && refusal(root.path(), &small()).contains("n04"));
    std::fs::remove_dir(root.path().join("val/n04")).unwrap();

    let cut = root.path().join("train/n01/1.JPEG");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(root.path().join("val/n02/0.JPEG"), [b'x'; 200]).unwrap();
    let said = refusal(root.path(), &small());
    assert!(said.contains("train/n01/1.JPEG: its end is missing") && said.contains("val/n02/0.JPEG: it is neither"), "{said}");
    let left = ImageFolder::read(root.path(), &ImageFolderSettings { max_unreadable: 0.15, ..small() }).unwrap();
    assert_eq!(left.ids().len(), 14);
    for index in 0..4 {
        std::fs::write(root.path().join(format!("train/n02/{index}.JPEG")), [b'x'; 200]).unwrap();
        std::fs::write(root.path().join(format!("val/n02/{index}.JPEG")), [b'x'; 200]).unwrap();
    }
    let said = refusal(root.path(), &ImageFolderSettings { max_unreadable: 0.9, ..small() });
    assert!(said.contains("no image of these classes can be read: n02"), "{said}");
    assert!(refusal(root.path(), &ImageFolderSettings { short_px: 16, ..small() }).contains("short-px 16 is below test-px 32"));
}

#[test]
fn a_part_at_the_edge_of_a_shrunk_picture_is_a_part_of_it() {
    // Widths whose quarter or eighth is no whole number: rounding must not carry a part over the edge.
    let root = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        for class in ["a", "b"] {
            let class = root.path().join(part).join(class);
            std::fs::create_dir_all(&class).unwrap();
            for (index, (width, height)) in [(823, 611), (619, 823), (1037, 1037)].into_iter().enumerate() {
                std::fs::write(class.join(format!("{index}.jpg")), jpeg::encode(&photograph(width, height, 90), 80).unwrap()).unwrap();
            }
        }
    }
    let data = ImageFolder::read(root.path(), &small()).unwrap();
    let rows: Vec<usize> = (0..data.ids().len()).collect();
    for epoch in 1..=60 {
        data.batch(&rows, Some(Augment { seed: 3, epoch, views: 1 }), Device::Cpu).unwrap();
    }
}

#[test]
fn a_resnet_trains_on_a_folder_of_photographs() {
    let root = tempfile::tempdir().unwrap();
    folder(&root.path().join("images"));
    let [data, out] = ["images", "out"].map(|name| root.path().join(name).to_str().unwrap().to_owned());
    let config = format!("{}/configs/imagenet.toml", env!("CARGO_MANIFEST_DIR"));
    let settings = [
        "train.model.encoder.name=resnet18",
        "train.epochs=1",
        "train.batch-size=4",
        "train.image-folder.train-px=32",
        "train.image-folder.short-px=40",
        "train.image-folder.test-px=32",
        "probe.linear.epochs=2",
        "probe.linear.batch-size=4",
        "probe.resamples=100",
    ]
    .map(|setting| ["--set", setting])
    .concat();
    let output = wsi([&["train", "--data", &data, "--out", &out, "--device", "cpu", "--config", &config][..], &settings].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(root.path().join("out/probe/scores.json").is_file());
}

#[test]
fn every_photograph_at_hand_is_read() {
    let Some(test_data) = test_data("every_photograph_at_hand") else { return };
    for set in ["imagenet", "imagenet/full-resolution"] {
        let data = ImageFolder::read(&test_data.join(set), &ImageFolderSettings::default()).unwrap();
        let rows: Vec<usize> = (0..data.ids().len()).collect();
        for rows in rows.chunks(32) {
            let whole = data.batch(rows, None, Device::Cpu).unwrap().inputs;
            let seen = data.batch(rows, Some(Augment { seed: 0, epoch: 1, views: 1 }), Device::Cpu).unwrap().inputs;
            assert_eq!((whole.size()[2], seen.size()[2]), (224, 176));
            assert!(bool::try_from(whole.isfinite().all()).unwrap() && bool::try_from(seen.isfinite().all()).unwrap());
        }
        eprintln!("{set}: {} images of {} classes", data.ids().len(), data.classes().len());
    }
}
