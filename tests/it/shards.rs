//! Cohorts in shares, in pieces and killed: the same bytes as in one call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use wsi::ground::seed;
use wsi::synth::{CohortSettings, cohort, render};

use crate::program::{said, wsi};

/// The first `count` synthetic slides, in `folder/slides`.
pub fn slides(folder: &Path, count: usize) -> PathBuf {
    let slides = folder.join("slides");
    std::fs::create_dir(&slides).unwrap();
    for slide in cohort(&CohortSettings::default()).unwrap().iter().take(count) {
        std::fs::write(slides.join(format!("{}.tif", slide.slide_id)), render(slide, 0).unwrap()).unwrap();
    }
    slides
}

/// Arguments of `wsi tile` with tiles so large that a slide has few.
pub fn tile(slides: &Path, out: &Path) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    vec!["tile".into(), "--slides".into(), path(slides), "--out".into(), path(out), "--mpp".into(), "1".into()]
}

pub fn extract(slides: &Path, tiles: &Path, out: &Path) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut words = vec!["extract".to_owned(), "--slides".into(), path(slides), "--tiles".into(), path(tiles), "--out".into(), path(out)];
    words.extend(["--encoder", "resnet18", "--random-weights", "--device", "cpu"].map(str::to_owned));
    words
}

pub fn succeed(words: &[String], more: &[&str]) {
    let output = wsi(words.iter().map(String::as_str).chain(more.iter().copied()));
    assert!(output.status.success(), "{}", said(&output));
}

/// Every file of a run that the machine and the clock may not change.
pub fn outputs(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", "patches", "thumbnails", "visualization", "contours_geojson", "bags"] {
        let Ok(entries) = std::fs::read_dir(run.join(folder)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found.retain(|name, _| name != "/run.json" && name != "/log.jsonl");
    found
}

pub fn same(whole: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>, after: &str) {
    assert_eq!(whole.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "files after {after}");
    for (name, bytes) in whole {
        assert!(*bytes == other[name], "{name} differs after {after}");
    }
}

#[test]
fn shares_and_threads_give_the_bytes_of_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let slides = slides(folder.path(), 4);
    let place = |name: &str| folder.path().join(name);
    succeed(&tile(&slides, &place("tiles")), &["--threads", "1"]);
    succeed(&extract(&slides, &place("tiles"), &place("bags")), &["--threads", "1"]);
    let (tiles, bags) = (outputs(&place("tiles")), outputs(&place("bags")));

    for threads in ["2", "7"] {
        let (t, b) = (place(&format!("tiles-{threads}")), place(&format!("bags-{threads}")));
        succeed(&tile(&slides, &t), &["--threads", threads]);
        succeed(&extract(&slides, &t, &b), &["--threads", threads]);
        same(&tiles, &outputs(&t), &format!("{threads} threads"));
        same(&bags, &outputs(&b), &format!("{threads} threads"));
    }

    // Three shares at the same time, of four slides of about the same size; whoever ends last finishes, and a call for everything has nothing to do.
    let (t, b) = (place("tiles-shares"), place("bags-shares"));
    for words in [tile(&slides, &t), extract(&slides, &t, &b)] {
        let children: Vec<Child> =
            ["3/3", "1/3", "2/3"].iter().map(|share| command(&words).args(["--shard", share]).spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let run = if words[0] == "tile" { &t } else { &b };
        assert!(run.join("run.json").exists(), "the last share to end finishes the run");
        assert!(!run.join(".leases").exists() && run.join("logs/2-of-3.jsonl").exists());
        succeed(&words, &[]);
    }
    same(&tiles, &outputs(&t), "three shares");
    same(&bags, &outputs(&b), "three shares");
    let again = wsi(tile(&slides, &t).iter().map(String::as_str).chain(["--shard", "0/3"]));
    assert!(again.status.code() == Some(2) && said(&again).contains("1/3"), "{}", said(&again));
}

pub fn command(words: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Kills `tile` and `extract` on six slides exactly `kills` times, each after a random part of what an uninterrupted call takes; runs that
/// end by themselves are compared, and the next kills are of new ones.
fn kill_and_resume(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let slides = slides(folder.path(), 6);
    let place = |name: String| folder.path().join(name);
    let (t, b) = (place("tiles".into()), place("bags".into()));
    let started = Instant::now();
    succeed(&tile(&slides, &t), &["--threads", "2"]);
    let tile_time = started.elapsed();
    succeed(&extract(&slides, &t, &b), &["--threads", "2"]);
    let extract_time = started.elapsed() - tile_time;
    let (tiles, bags) = (outputs(&t), outputs(&b));

    let mut random = seed::stream(kills as u64, "tile-kills");
    let (mut landed, mut of_tile, mut runs) = (0, 0, 0);
    while landed < kills {
        runs += 1;
        let (t, b) = (place(format!("tiles-{runs}")), place(format!("bags-{runs}")));
        // The last runs end undisturbed, whatever was killed in them before.
        for (words, time) in [(tile(&slides, &t), tile_time), (extract(&slides, &t, &b), extract_time)] {
            loop {
                let mut child = command(&words).args(["--threads", "2"]).spawn().unwrap();
                if landed < kills {
                    std::thread::sleep(Duration::from_millis(5) + time.mul_f64(random.random_range(0.0..1.1)));
                    child.kill().unwrap();
                }
                // Without an exit code it was ended by the signal, not by itself.
                match child.wait().unwrap().code() {
                    Some(code) => break assert_eq!(code, 0),
                    None => {
                        landed += 1;
                        of_tile += usize::from(words[0] == "tile");
                    }
                }
            }
        }
        let after = format!("{landed} kills");
        same(&tiles, &outputs(&t), &after);
        same(&bags, &outputs(&b), &after);
        for run in [&t, &b] {
            assert!(temporary(run).is_empty(), "temporary files stay: {:?}", temporary(run));
        }
    }
    eprintln!(
        "{landed} kills ({of_tile} of tile, {} of extract) in {runs} runs; uninterrupted {:.1} and {:.1} s",
        landed - of_tile,
        tile_time.as_secs_f64(),
        extract_time.as_secs_f64()
    );
}

fn temporary(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(temporary(&path));
        } else if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            found.push(path);
        }
    }
    found
}

#[test]
fn killed_runs_end_with_the_same_bytes() {
    kill_and_resume(6);
}

#[test]
#[ignore = "minutes: `./run cargo test --release --test it hundred_kills -- --ignored --nocapture`"]
fn hundred_kills() {
    kill_and_resume(100);
}
