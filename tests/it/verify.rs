//! `wsi verify`: a chain that holds, and one byte changed in each of its files.

use std::path::{Path, PathBuf};
use std::process::Output;

use wsi::store::{bag, coords};

use crate::program::{said, wsi};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// A synthetic cohort, tiled, extracted, trained and probed below one folder.
struct Chain {
    folder: tempfile::TempDir,
}

impl Chain {
    fn new() -> Self {
        let chain = Self { folder: tempfile::tempdir().unwrap() };
        let [cohort, slides, labels, tiles, bags, model] =
            ["cohort", "cohort/slides", "cohort/labels.csv", "runs/tiles", "runs/bags", "runs/model"].map(|name| chain.path(name));
        succeeded(&wsi(["synth", "--slides-per-class", "4", "--out", text(&cohort)]));
        succeeded(&wsi(["tile", "--slides", text(&slides), "--out", text(&tiles)]));
        let random = ["--encoder", "resnet18", "--random-weights", "--device", "cpu"];
        let extract = ["extract", "--slides", text(&slides), "--tiles", text(&tiles), "--out", text(&bags)];
        succeeded(&wsi([&extract[..], &random].concat()));
        let train = ["train", "--data", text(&bags), "--labels", text(&labels), "--out", text(&model)];
        let short = ["split.folds=2", "split.validation=0.0", "probe.resamples=100"].map(|setting| ["--set", setting]);
        succeeded(&wsi([&train[..], &["--epochs", "1", "--device", "cpu"], short.as_flattened()].concat()));
        succeeded(&wsi(["heatmap", text(&model), "--device", "cpu"]));
        chain
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, more: &[&str]) -> Output {
        wsi([&["verify", text(&self.path("runs"))], more].concat())
    }

    fn verify_all(&self) -> Output {
        self.verify(&["--slides", text(&self.path("cohort/slides")), "--labels", text(&self.path("cohort/labels.csv"))])
    }

    /// Verifies with `name` changed by `change`, which is then undone; the run and the link that break first.
    fn breaks(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let path = self.path(name);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        change(&mut changed);
        assert_ne!(whole, changed, "{name}");
        std::fs::write(&path, changed).unwrap();
        let output = self.verify_all();
        std::fs::write(&path, whole).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        let said = said(&output);
        let last = said.trim_end().lines().last().unwrap().to_owned();
        last.split_once("breaks first at ").unwrap_or_else(|| panic!("{name}: {said}")).1.to_owned()
    }
}

fn table(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Where `part` begins in `whole`.
fn find(whole: &[u8], part: &[u8]) -> usize {
    whole.windows(part.len()).position(|window| window == part).unwrap()
}

/// Writes `new` over the first `old`, which is as long.
fn put(bytes: &mut [u8], old: &str, new: &str) {
    let at = find(bytes, old.as_bytes());
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
}

#[test]
fn a_byte_changed_anywhere_breaks_the_link_that_holds_it() {
    let chain = Chain::new();
    let output = chain.verify_all();
    succeeded(&output);
    let lines = table(&output);
    assert!(!lines.contains("broken") && !lines.contains("not checked"), "{lines}");
    assert!(lines.contains("runs/tiles\tslides\tok\t12 slides") && lines.contains("runs/model/probe\tpredictions → scores\tok"), "{lines}");
    assert!(!lines.contains(text(chain.folder.path())), "{lines}");
    let first = table(&chain.verify(&["--json"]));
    let first: serde_json::Value = serde_json::from_str(first.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&first["link"], &first["state"]), (&"slides".into(), &"not-checked".into()), "the chain begins at the coordinates");

    let id = "synth_001_0";
    let (patches, bag) = (format!("runs/tiles/patches/{id}_patches.h5"), format!("runs/bags/bags/{id}.h5"));
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let said = chain.breaks(&format!("cohort/slides/{id}.tif"), last);
    assert!(said.starts_with(&format!("runs/tiles, slides: {id}: it is not the file that was tiled")), "{said}");

    let plan = coords::read(&chain.path(&patches)).unwrap();
    let tissue: Vec<u8> = plan.tissue.iter().flat_map(|share| share.to_le_bytes()).collect();
    let said = chain.breaks(&patches, |bytes| put(bytes, "\"mpp_source\":\"slide\"", "\"mpp_source\":\"slyde\""));
    assert!(said.starts_with(&format!("runs/tiles, coordinates: {id}: its coordinates file is not the one")), "{said}");
    let said = chain.breaks(&patches, |bytes| {
        let at = find(bytes, &tissue);
        bytes[at] ^= 1;
    });
    assert!(said.starts_with(&format!("runs/tiles, coordinates: {id}:")), "{said}");
    let corner: Vec<u8> = plan.coords.iter().flat_map(|at| [at.x.to_le_bytes(), at.y.to_le_bytes()]).flatten().collect();
    let said = chain.breaks(&patches, |bytes| {
        let at = find(bytes, &corner);
        bytes[at] ^= 1;
    });
    assert!(said.starts_with(&format!("runs/tiles, coordinates: {id}: cannot read the coordinates")), "{said}");

    let features: Vec<u8> = bag::read(&chain.path(&bag)).unwrap().features.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let said = chain.breaks(&bag, |bytes| {
        let at = find(bytes, &features);
        bytes[at] ^= 1;
    });
    assert!(said.starts_with(&format!("runs/bags, features: {id}: cannot read the bag")), "{said}");
    let said = chain.breaks(&bag, |bytes| put(bytes, "float on cpu", "float on gpu"));
    assert!(said.starts_with(&format!("runs/bags, features: {id}: it is not the bag that slides.csv names")), "{said}");
    let said = chain.breaks(&bag, |bytes| {
        let at = find(bytes, &corner);
        bytes[at] ^= 1;
    });
    assert!(said.starts_with("runs/bags, coordinates → features") && said.contains(id), "{said}");

    let said = chain.breaks("runs/model/checkpoint-last.safetensors", last);
    assert!(said.starts_with("runs/model, checkpoint: checkpoint-last.safetensors is not the file that was written"), "{said}");
    let said = chain.breaks("runs/model/probe/predictions.csv", |bytes| {
        let digit = bytes.iter().rposition(u8::is_ascii_digit).unwrap();
        bytes[digit] = if bytes[digit] == b'1' { b'2' } else { b'1' };
    });
    assert!(said.starts_with("runs/model/probe, predictions: predictions.csv is not the file that was written"), "{said}");
    let table = std::fs::read_dir(chain.path("runs/model/probe/heatmap/tiles")).unwrap().next().unwrap().unwrap().file_name();
    let table = format!("tiles/{}", table.to_str().unwrap());
    let said = chain.breaks(&format!("runs/model/probe/heatmap/{table}"), last);
    assert!(said.starts_with(&format!("runs/model/probe/heatmap, heatmap: {table} is not the file that was written")), "{said}");
    let said = chain.breaks("runs/model/config.toml", |bytes| put(bytes, "epochs = 1", "epochs = 2"));
    assert!(said.starts_with("runs/model, settings: config.toml gives"), "{said}");
    let said = chain.breaks("cohort/labels.csv", last);
    assert!(said.starts_with("runs/model, labels → checkpoint"), "{said}");

    // The same settings and inputs, another bag that is whole: only what the training recorded tells.
    let path = chain.path(&bag);
    let (whole, before) = (bag::read(&path).unwrap(), bag::seal(&path).unwrap().unwrap());
    let mut features = whole.features;
    features.values.reverse();
    bag::write(&path, &plan, &features, &whole.header.unwrap().origin, None).unwrap();
    let after = bag::seal(&path).unwrap().unwrap();
    let said = chain.breaks("runs/bags/slides.csv", |bytes| put(bytes, &before, &after));
    assert!(said.starts_with("runs/model, features → checkpoint: the bags in runs/bags are not those"), "{said}");

    std::fs::remove_file(chain.path(&patches)).unwrap();
    let said = chain.verify(&[]);
    assert!(self::said(&said).contains("breaks first at runs/tiles, coordinates"), "a missing file is a break: {}", self::said(&said));
}

#[test]
fn a_run_of_an_older_version_says_what_cannot_be_recomputed() {
    let chain = Chain::new();
    let older = |name: &str, drop: &[&str]| {
        let path = chain.path(name).join("run.json");
        let mut summary: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        summary["version"] = "0.0.9".into();
        drop.iter().for_each(|figure| drop_figure(&mut summary, figure));
        std::fs::write(&path, summary.to_string()).unwrap();
    };
    older("runs/model", &["outputs", "bags"]);
    older("runs/model/probe", &["outputs", "checkpoint"]);
    let config = chain.path("runs/model/config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.replacen("epochs = 1", "epochs = 3", 1)).unwrap();
    let output = chain.verify(&[]);
    succeeded(&output);
    let lines = table(&output);
    assert!(lines.contains("runs/model\tsettings\tnot checked\tmade by wsi 0.0.9"), "{lines}");
    for link in ["model\tfeatures → checkpoint", "model\tcheckpoint", "probe\tcheckpoint → predictions", "probe\tpredictions"] {
        let line = lines.lines().find(|line| line.contains(&format!("{link}\t"))).unwrap();
        assert!(line.contains("not checked") && line.contains("an older version made it"), "{line}");
    }
    assert!(lines.contains("predictions → scores\tok"), "{lines}");

    std::fs::remove_file(chain.path("runs/tiles/run.json")).unwrap();
    assert!(table(&chain.verify(&[])).contains("runs/tiles\trun\tnot checked\tit is not finished"));
    let nothing = wsi(["verify", text(&chain.path("cohort/slides"))]);
    assert!(
        nothing.status.code() == Some(1) && said(&nothing).contains("no run of tile, extract, train, probe, heatmap"),
        "{}",
        said(&nothing)
    );
}

fn drop_figure(summary: &mut serde_json::Value, figure: &str) {
    assert!(summary["figures"].as_object_mut().unwrap().remove(figure).is_some(), "{figure}");
}
