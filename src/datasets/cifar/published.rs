//! The files of CIFAR-10 and CIFAR-100 as Krizhevsky published them, in both layouts. Sources: the set's page; md5 of the pickles as
//! torchvision checks them; methods §7.2.

/// A file of images.
pub(super) struct File {
    pub(super) name: &'static str,
    /// `train` or `test`.
    pub(super) part: &'static str,
    /// How many it holds.
    pub(super) images: usize,
    /// md5; of the binary files none is known.
    pub(super) md5: Option<&'static str>,
}

/// How a file holds images and labels.
pub(super) enum Layout {
    /// Records: label bytes, of which the last is the class, then the pixels.
    Binary { label_bytes: usize },
    /// A pickled dictionary with an array `data` and a list of labels.
    Pickled { labels: &'static str, class_names: &'static str },
}

/// A set in one layout.
pub(super) struct Edition {
    pub(super) layout: Layout,
    /// The file of the class names.
    pub(super) names: &'static str,
    /// Files of images, those of training first.
    pub(super) files: &'static [File],
}

const fn file(name: &'static str, part: &'static str, images: usize, md5: Option<&'static str>) -> File {
    File { name, part, images, md5 }
}

pub(super) static CIFAR10: [Edition; 2] = [
    Edition {
        layout: Layout::Binary { label_bytes: 1 },
        names: "batches.meta.txt",
        files: &[
            file("data_batch_1.bin", "train", 10_000, None),
            file("data_batch_2.bin", "train", 10_000, None),
            file("data_batch_3.bin", "train", 10_000, None),
            file("data_batch_4.bin", "train", 10_000, None),
            file("data_batch_5.bin", "train", 10_000, None),
            file("test_batch.bin", "test", 10_000, None),
        ],
    },
    Edition {
        layout: Layout::Pickled { labels: "labels", class_names: "label_names" },
        names: "batches.meta",
        files: &[
            file("data_batch_1", "train", 10_000, Some("c99cafc152244af753f735de768cd75f")),
            file("data_batch_2", "train", 10_000, Some("d4bba439e000b95fd0a9bffe97cbabec")),
            file("data_batch_3", "train", 10_000, Some("54ebc095f3ab1f0389bbae665268c751")),
            file("data_batch_4", "train", 10_000, Some("634d18415352ddfa80567beed471001a")),
            file("data_batch_5", "train", 10_000, Some("482c414d41f54cd18b22e5b47cb7c3cb")),
            file("test_batch", "test", 10_000, Some("40351d587109b95175f43aff81a1287e")),
        ],
    },
];

pub(super) static CIFAR100: [Edition; 2] = [
    Edition {
        layout: Layout::Binary { label_bytes: 2 },
        names: "fine_label_names.txt",
        files: &[file("train.bin", "train", 50_000, None), file("test.bin", "test", 10_000, None)],
    },
    Edition {
        layout: Layout::Pickled { labels: "fine_labels", class_names: "fine_label_names" },
        names: "meta",
        files: &[
            file("train", "train", 50_000, Some("16019d7e3df5f24257cddd939b257f8d")),
            file("test", "test", 10_000, Some("f0ef6b0ae62326f3e7ffdfab6717acfc")),
        ],
    },
];
