//! The house has floors: a room imports lower floors only, never upwards and never a neighbour. `docs/architecture.md` draws it.

use std::path::{Path, PathBuf};

/// Rooms of each floor, lowest first.
const FLOORS: [&[&str]; 10] = [
    &["ground", "registry", "torch"],
    &["store"],
    &["slides", "tissue", "encoders", "aggregators", "losses", "metrics", "render"],
    &["model", "datasets", "tiling"],
    &["synth", "learn"],
    &["probes"],
    &["config"],
    &["stages"],
    &["pipeline"],
    &["cli"],
];

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("the room '{room}' is on no floor; give it one in tests/it/house.rs"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its room; `main.rs` and `lib.rs` stand above all floors.
fn files() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    let room = |path: &PathBuf| {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    found.into_iter().map(|path| (room(&path), path)).filter(|(room, _)| room != "main" && room != "lib").collect()
}

/// The rooms named after `crate::` in a text, grouped imports included.
fn imported(text: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group.split('}').next().unwrap().split(',').map(|item| word(item.trim()))),
            None => rooms.push(word(rest)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn no_room_imports_upwards_or_sideways() {
    let mut wrong = Vec::new();
    for (room, path) in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        for other in imported(&text).into_iter().filter(|other| *other != room && *other != "registry") {
            if floor(&other) >= floor(&room) {
                wrong.push(format!("{}: '{room}' (floor {}) imports '{other}' (floor {})", path.display(), floor(&room), floor(&other)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn heavy_packages_are_named_in_one_place() {
    let homes = [
        ("hdf5::", "store/"),
        ("polars::", "store/table.rs"),
        ("calamine::", "store/table.rs"),
        ("quick_xml::", "store/annotations/ or slides/ome.rs"),
        ("openslide_rs::", "slides/openslide.rs"),
        ("turbojpeg::", "slides/jpeg_tiles/decode.rs or slides/jpeg/"),
        ("clap::", "cli/"),
        ("axum::", "stages/view/"),
        ("hyper::", "stages/view/"),
        ("hyper_util::", "stages/view/"),
        ("tokio::", "stages/view/"),
        ("torch_sys::", "torch/"),
    ];
    for (_, path) in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let place = path.to_string_lossy().replace('\\', "/");
        for (package, home) in homes {
            let at_home = home.split(" or ").any(|home| place.contains(&format!("/src/{home}")));
            assert!(!text.contains(package) || at_home, "{place} names {package}; only src/{home} may");
        }
    }
}

#[test]
fn the_test_sees_a_wrong_import() {
    assert_eq!(imported("use crate::{config::Config, cli};\nlet x = crate::learn::fit;"), ["config", "cli", "learn"]);
    assert!(floor("cli") > floor("learn"));
}
