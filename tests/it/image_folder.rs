//! Photographs in class folders: what is listed, what is refused, and that what training sees depends on seed, epoch and image alone.

use std::io::Write;
use std::path::Path;

use image::{Rgb, RgbImage};
use tch::{Device, Kind};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};
use wsi::datasets::augment::AugmentationSettings;
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

fn read(root: &Path, settings: &ImageFolderSettings) -> anyhow::Result<ImageFolder> {
    ImageFolder::read(root, settings, &AugmentationSettings::default())
}

fn refusal(root: &Path, settings: &ImageFolderSettings) -> String {
    format!("{:#}", read(root, settings).err().expect("it is refused"))
}

#[test]
fn images_are_listed_by_part_class_and_name_and_seen_by_seed_epoch_and_row() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path());
    let data = read(root.path(), &small()).unwrap();
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
    let left = read(root.path(), &ImageFolderSettings { max_unreadable: 0.15, ..small() }).unwrap();
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
    let data = read(root.path(), &small()).unwrap();
    let rows: Vec<usize> = (0..data.ids().len()).collect();
    for epoch in 1..=60 {
        data.batch(&rows, Some(Augment { seed: 3, epoch, views: 1 }), Device::Cpu).unwrap();
    }
}

#[test]
fn grey_printing_and_png_photographs_are_red_green_and_blue() {
    let root = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        let class = root.path().join(part).join("n01");
        std::fs::create_dir_all(&class).unwrap();
        let shades = vec![120; 64 * 48];
        let of = |format: PixelFormat, subsampling| {
            let mut compressor = Compressor::new().unwrap();
            compressor.set_subsamp(subsampling).unwrap();
            let pixels = shades.repeat(format.size());
            let image = Image { pixels: &pixels[..], width: 64, pitch: 64 * format.size(), height: 48, format };
            compressor.compress_to_vec(image).unwrap()
        };
        std::fs::write(class.join("grey.JPEG"), of(PixelFormat::GRAY, Subsamp::Gray)).unwrap();
        std::fs::write(class.join("printing.JPEG"), of(PixelFormat::CMYK, Subsamp::None)).unwrap();
        image::GrayImage::from_pixel(64, 48, image::Luma([120])).save_with_format(class.join("png.JPEG"), image::ImageFormat::Png).unwrap();
    }
    let data = read(root.path(), &small()).unwrap();
    assert_eq!(data.ids()[..3], ["train/n01/grey.JPEG", "train/n01/png.JPEG", "train/n01/printing.JPEG"]);
    // Ink of 135 of 255 under as much black: 120 · 120 / 255.
    for (row, shade) in [(0, 120.0), (1, 120.0), (2, 56.0)] {
        for augment in [None, Some(Augment { seed: 0, epoch: 1, views: 1 })] {
            let image = data.batch(&[row], augment, Device::Cpu).unwrap().inputs;
            for (channel, (mean, std)) in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)].into_iter().enumerate() {
                let levels = (image.get(0).get(channel as i64) * std + mean) * 255.0;
                assert!((levels - shade).abs().max().double_value(&[]) < 2.0, "{} {channel}", data.ids()[row]);
            }
        }
    }
}

#[test]
fn views_are_the_same_on_any_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path());
    let augmentation = AugmentationSettings::named("supcon").unwrap();
    let data = ImageFolder::read(root.path(), &small(), &augmentation).unwrap();
    let rows = (0..8).collect::<Vec<usize>>().repeat(2);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| data.batch(&rows, Some(Augment { seed: 5, epoch: 2, views: 2 }), Device::Cpu).unwrap().inputs)
    };
    let (one, two) = (on(1), on(2));
    assert_eq!(one, two);
    assert_ne!(one.get(0), one.get(8), "the second view of an image is another one");
}

// ---- a validation set as its archive holds it --------------------------------------------------------------------------

/// An element of a MATLAB file, padded to eight bytes.
fn element(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = [&kind.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn matrix(class: u8, sizes: [i32; 2], name: &str, content: &[u8]) -> Vec<u8> {
    let flags = element(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    element(14, &[flags, element(5, &sizes.map(i32::to_le_bytes).concat()), element(1, name.as_bytes()), content.to_vec()].concat())
}

/// `synsets` as ImageNet's development kit has it: numbers, names, and a class that others are kinds of; compressed or not.
fn classes_of_the_kit(compressed: bool) -> Vec<u8> {
    let fields = ["ILSVRC2012_ID", "WNID", "num_children"];
    let names: Vec<u8> = fields.iter().flat_map(|name| format!("{name:\0<32}").into_bytes()).collect();
    let number = |value: u8| matrix(6, [1, 1], "", &element(2, &[value]));
    let text = |text: &str| {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        matrix(4, [1, text.len() as i32], "", &element(4, &units))
    };
    let cells: Vec<u8> = [(1, "n02", 0), (2, "n01", 0), (3, "n03", 0), (4, "n00", 2)]
        .into_iter()
        .flat_map(|(id, name, children)| [number(id), text(name), number(children)].concat())
        .collect();
    // A length of names in the short form, as MATLAB writes it.
    let length = [&[5, 0, 4, 0][..], &32i32.to_le_bytes()].concat();
    let variable = matrix(2, [4, 1], "synsets", &[length, element(1, &names), cells].concat());
    let header = [&[b' '; 116][..], &[0; 8], &[0, 1], b"IM"].concat();
    if !compressed {
        return [header, variable].concat();
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&variable).unwrap();
    let packed = encoder.finish().unwrap();
    [&header[..], &15u32.to_le_bytes(), &(packed.len() as u32).to_le_bytes(), &packed].concat()
}

/// Three classes for training, three validation images without folders.
fn flat(root: &Path) {
    let image = jpeg::encode(&photograph(40, 40, 9), 90).unwrap();
    for class in ["n01", "n02", "n03"] {
        std::fs::create_dir_all(root.join("train").join(class)).unwrap();
        std::fs::write(root.join("train").join(class).join("a.JPEG"), &image).unwrap();
    }
    std::fs::create_dir(root.join("val")).unwrap();
    for index in 1..=3 {
        std::fs::write(root.join(format!("val/ILSVRC2012_val_{index:08}.JPEG")), &image).unwrap();
    }
}

#[test]
fn a_flat_validation_set_takes_its_classes_from_the_kit_or_a_table() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    flat(root.path());
    assert!(refusal(root.path(), &small()).contains("nothing names the classes of the 3 images"));

    // The worked example of methods §9, appendix A: numbers 1, 2, 3 are n02, n01, n03, and the truth 3, 1, 2 is n03, n02, n01.
    write("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"3\n1\n2\n");
    for compressed in [false, true] {
        write("ILSVRC2012_devkit_t12/data/meta.mat", &classes_of_the_kit(compressed));
        let data = read(root.path(), &small()).unwrap();
        assert_eq!(data.targets(), [0, 1, 2, 2, 1, 0]);
        assert_eq!(data.ids()[3], "val/ILSVRC2012_val_00000001.JPEG");
    }
    let kit = classes_of_the_kit(true);
    for end in (0..kit.len()).step_by(7) {
        write("ILSVRC2012_devkit_t12/data/meta.mat", &kit[..end]);
        assert!(refusal(root.path(), &small()).contains("meta.mat"), "cut at {end}");
    }
    write("ILSVRC2012_devkit_t12/data/meta.mat", &kit);
    write("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"3\n4\n2\n");
    assert!(refusal(root.path(), &small()).contains("line 2 is '4', no number of a class"), "a class above others has no images");
    write("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"3\n1\n");
    assert!(refusal(root.path(), &small()).contains("names no class of val/ILSVRC2012_val_00000003.JPEG"));

    // A table wins over the kit; with or without a heading, endings, and more columns.
    let table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n03 1 2 3 4 n03 5 6 7 8\nILSVRC2012_val_00000002.JPEG,n02\n\
                 ILSVRC2012_val_00000003,n01\nILSVRC2012_val_00000009,n01\n";
    write("LOC_val_solution.csv", table.as_bytes());
    assert_eq!(read(root.path(), &small()).unwrap().targets(), [0, 1, 2, 2, 1, 0]);
    write("val.txt", b"ILSVRC2012_val_00000001.JPEG 65\n");
    assert!(refusal(root.path(), &small()).contains("class number 65"));
    write("val.txt", b"ILSVRC2012_val_00000001.JPEG n01\nILSVRC2012_val_00000001 n02\n");
    assert!(refusal(root.path(), &small()).contains("before it had n01"));
    write("val.txt", b"ILSVRC2012_val_00000001 n01\nILSVRC2012_val_00000002 n02\nILSVRC2012_val_00000003 n07\n");
    let said = refusal(root.path(), &small());
    assert!(said.contains("n07 (not in train)") && said.contains("n03 (not in val)"), "{said}");
    std::fs::create_dir(root.path().join("val/n01")).unwrap();
    assert!(refusal(root.path(), &small()).contains("beside class folders"));
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
        let data = read(&test_data.join(set), &ImageFolderSettings::default()).unwrap();
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
