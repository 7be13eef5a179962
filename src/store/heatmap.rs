//! A heatmap run: `heatmap.json` and one table of tiles a slide, `tiles/<id>.csv`; all that report and viewer read of it.
//!
//! Folders are named relative to the run's own folder, as in `scores.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::files;
use super::scores::Split;
use super::table::{self, Cells};
use crate::ground::interval::null_is_nan;
use crate::ground::units::{Coord, Mpp, Size};

/// The file's name inside a heatmap run.
pub const FILE: &str = "heatmap.json";
/// The folder of the tables of tiles.
pub const TILES: &str = "tiles";
/// The folder of pictures, `<id>.png`.
pub const PICTURES: &str = "pictures";
/// The folder of what QuPath opens, `<id>.geojson`.
pub const GEOJSON: &str = "geojson";
/// The folder of contact sheets, `<id>.jpg`.
pub const SHEETS: &str = "sheets";

/// The layout below; a reader refuses a newer one.
pub const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatmapFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Class names in index order.
    pub classes: Vec<String>,
    /// Objective of the model.
    pub loss: String,
    /// Its bag model.
    pub aggregator: String,
    /// Frozen network behind the bags.
    pub encoder: String,
    /// The sweep's label, as in `scores.json`.
    pub group: String,
    /// Digest of the settings of training and probe without seed and fold, as `ScoreFile::recipe` makes it.
    pub recipe: String,
    /// `true`, or how the labels were shuffled.
    pub labels: String,
    /// Seed of the training run.
    pub seed: u64,
    /// Passes over the training set.
    pub epochs: usize,
    /// Which checkpoint looked: `last` or `best`.
    pub checkpoint: String,
    /// The division of the cohort.
    pub split: Split,
    /// Attention branches K; 0 for an aggregator without attention.
    pub branches: usize,
    /// Where (0, 0) of the GeoJSON files is.
    pub origin: QuPathOrigin,
    /// The training run's folder.
    pub train_folder: String,
    /// The tiling run's folder; absent where it is not known.
    pub tile_folder: Option<String>,
    /// The folder of the bags.
    pub bag_folder: String,
    /// What people drew, where annotations were given.
    pub annotations: Option<Annotations>,
    /// The slides that were looked at, by id.
    pub slides: Vec<SlideMap>,
    /// Lesions found against false positives; absent without annotated lesions or without attention.
    pub froc: Option<Froc>,
}

/// Where QuPath has (0, 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuPathOrigin {
    /// The corner of the scanned area, as QuPath opens slides with bounds (MIRAX and others).
    #[default]
    Bounds,
    /// The corner of the whole canvas, for images added to QuPath with `--no-crop`.
    Canvas,
}

impl QuPathOrigin {
    /// The corner in level-0 pixels of the canvas, for a slide with these bounds.
    pub fn corner(self, bounds: Option<(Coord, Size)>) -> Coord {
        match (self, bounds) {
            (Self::Bounds, Some((corner, _))) => corner,
            _ => Coord { x: 0, y: 0 },
        }
    }
}

/// Which drawings count as what is looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// Classes or groups; empty for all.
    pub classes: Vec<String>,
    /// Smallest share of a tile inside for the tile to count as inside.
    pub min_share: f64,
}

/// One slide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlideMap {
    /// The slide.
    pub slide_id: String,
    /// Whom it belongs to; empty where that is not known.
    pub patient_id: String,
    /// True class; empty where it is not known.
    pub label: String,
    /// The class chosen by the objective's own rule.
    pub predicted: String,
    /// `[C]`, by the same rule.
    pub probabilities: Vec<f64>,
    /// N, the tiles that the model saw.
    pub tiles: usize,
    /// Side of a tile, level-0 pixels.
    pub side_level0_px: u32,
    /// Canvas of level 0, pixels.
    pub canvas: Size,
    /// Where the scanned area sits on it.
    pub bounds: Option<(Coord, Size)>,
    /// Pixel size of level 0, µm/px.
    pub mpp: Mpp,
    /// Attention against what was drawn on this slide; absent without attention or drawing.
    pub agreement: Option<Agreement>,
}

/// How attention agrees with what people drew on a slide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Tiles inside, of [`SlideMap::tiles`].
    pub tiles_inside: usize,
    /// Area under the ROC curve of attention over tiles, inside against outside; NaN where there is only one kind.
    #[serde(deserialize_with = "null_is_nan")]
    pub auroc: f64,
    /// Average precision of the same; NaN where no tile is inside.
    #[serde(deserialize_with = "null_is_nan")]
    pub auprc: f64,
    /// Whether the tile of highest attention is inside.
    pub pointing: bool,
    /// Outlines drawn, those close to each other as one.
    pub lesions: usize,
}

/// Free-response ROC over all annotated slides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Froc {
    /// Mean false positives a slide, and the share of lesions that are found with no more.
    pub points: Vec<(f64, f64)>,
    /// Mean of the shares.
    pub score: f64,
    /// Lesions on all slides.
    pub lesions: usize,
    /// Annotated slides, those on which nothing was drawn included.
    pub slides: usize,
}

impl HeatmapFile {
    /// Writes `heatmap.json` into a heatmap run.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_bytes(&folder.join(FILE), (serde_json::to_string_pretty(self)? + "\n").as_bytes())
    }

    /// Reads `heatmap.json` of a heatmap run.
    ///
    /// # Errors
    /// Names the file: unreadable, damaged, or of a newer layout.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
        let file: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is damaged or no heatmap file of this program; run `wsi heatmap` again", path.display()))?;
        if file.schema > SCHEMA {
            bail!("'{}' has layout {}, this program reads up to {SCHEMA}; use the newer program", path.display(), file.schema);
        }
        Ok(file)
    }
}

/// What a model makes of a slide's tiles; row i of each is tile i of the bag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TileScores {
    /// Top-left corners, level-0 pixels of the whole canvas.
    pub coords: Vec<Coord>,
    /// Mean over the branches, sums to 1; `None` for an aggregator without attention.
    pub attention: Option<Vec<f64>>,
    /// Share of the tiles with no higher attention, those with the same counted half; in (0, 1).
    pub percentile: Option<Vec<f64>>,
    /// `[K][N]`, each sums to 1; empty where K is less than 2.
    pub branches: Vec<Vec<f64>>,
    /// `[C][N]`: the tile alone as a bag, by the objective's own rule.
    pub classes: Vec<Vec<f64>>,
}

impl TileScores {
    /// From the attention of K branches `[K][N]` and the class scores `[C][N]`.
    pub fn new(coords: Vec<Coord>, attention: Vec<Vec<f64>>, classes: Vec<Vec<f64>>) -> Self {
        let branches = attention.len();
        // METHOD: one map of several branches is their mean; each stays a column of its own.
        let mean = |tile: usize| attention.iter().map(|branch| branch[tile]).sum::<f64>() / branches as f64;
        let mean: Option<Vec<f64>> = (branches > 0).then(|| (0..coords.len()).map(mean).collect());
        let percentile = mean.as_deref().map(percentiles);
        Self { coords, attention: mean, percentile, branches: if branches < 2 { Vec::new() } else { attention }, classes }
    }
}

/// For each value the share of values below it, and half of those equal to it.
fn percentiles(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        let not_above = sorted.partition_point(|other| other <= value);
        (below + not_above) as f64 / (2 * sorted.len()) as f64
    };
    values.iter().map(share).collect()
}

/// 1 for the highest value; equal values in the order of their places.
fn ranks(values: &[f64]) -> Vec<i64> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut ranks = vec![0; values.len()];
    for (rank, place) in places.into_iter().enumerate() {
        ranks[place] = rank as i64 + 1;
    }
    ranks
}

fn tiles_path(folder: &Path, slide_id: &str) -> PathBuf {
    folder.join(TILES).join(format!("{slide_id}.csv"))
}

const ATTENTION: &str = "attention";
const PERCENTILE: &str = "attention_percentile";

fn branch_column(branch: usize) -> String {
    format!("attention_{branch}")
}

fn class_column(class: &str) -> String {
    format!("p_{class}")
}

/// Writes `tiles/<id>.csv`: `x,y,attention,attention_rank,attention_percentile,attention_<k>…,p_<class>…`, without what there is not.
///
/// # Errors
/// Names the file.
pub fn write_tiles(folder: &Path, slide_id: &str, classes: &[String], scores: &TileScores) -> Result<()> {
    let place = |of: fn(&Coord) -> i64| Cells::Whole(scores.coords.iter().map(of).collect());
    let mut columns = vec![("x".to_owned(), place(|at| at.x)), ("y".to_owned(), place(|at| at.y))];
    if let (Some(attention), Some(percentile)) = (&scores.attention, &scores.percentile) {
        columns.push((ATTENTION.to_owned(), Cells::Real(attention.clone())));
        columns.push(("attention_rank".to_owned(), Cells::Whole(ranks(attention))));
        columns.push((PERCENTILE.to_owned(), Cells::Real(percentile.clone())));
    }
    columns.extend(scores.branches.iter().enumerate().map(|(k, branch)| (branch_column(k), Cells::Real(branch.clone()))));
    columns.extend(classes.iter().zip(&scores.classes).map(|(class, values)| (class_column(class), Cells::Real(values.clone()))));
    table::write(&tiles_path(folder, slide_id), columns.iter().map(|(name, cells)| (name.as_str(), cells.clone())).collect())
}

/// Reads `tiles/<id>.csv` of a heatmap run.
///
/// # Errors
/// Names the file: not there, a missing column, a place that is no number.
pub fn tiles(folder: &Path, slide_id: &str, file: &HeatmapFile) -> Result<TileScores> {
    let path = tiles_path(folder, slide_id);
    let frame = table::read(&path)?;
    let column = |name: &str| table::real(&frame, name, &path);
    let (x, y) = (column("x")?, column("y")?);
    ensure!(x.iter().chain(&y).all(|at| at.is_finite()), "'{}': a place is no number; run `wsi heatmap` again", path.display());
    let there = file.branches > 0;
    Ok(TileScores {
        coords: x.iter().zip(&y).map(|(&x, &y)| Coord { x: x as i64, y: y as i64 }).collect(),
        attention: there.then(|| column(ATTENTION)).transpose()?,
        percentile: there.then(|| column(PERCENTILE)).transpose()?,
        branches: if file.branches < 2 {
            Vec::new()
        } else {
            (0..file.branches).map(|k| column(&branch_column(k))).collect::<Result<_>>()?
        },
        classes: file.classes.iter().map(|class| column(&class_column(class))).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::scores::SplitKind;
    use super::*;

    /// A run that looked at nothing yet.
    pub(crate) fn empty(branches: usize) -> HeatmapFile {
        HeatmapFile {
            schema: SCHEMA,
            classes: vec!["normal".into(), "tumour, mixed".into()],
            loss: "ncmi".into(),
            aggregator: "abmil".into(),
            encoder: "e".into(),
            group: String::new(),
            recipe: String::new(),
            labels: "true".into(),
            seed: 0,
            epochs: 1,
            checkpoint: "last".into(),
            split: Split { name: "s".into(), digest: "d".into(), kind: SplitKind::Holdout, fold: 0, folds: 1 },
            branches,
            origin: QuPathOrigin::Bounds,
            train_folder: "../train".into(),
            tile_folder: None,
            bag_folder: "../bags".into(),
            annotations: None,
            slides: Vec::new(),
            froc: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let coords = vec![Coord { x: 0, y: 7 }, Coord { x: 224, y: 7 }, Coord { x: 448, y: 231 }];
        let classes = vec![vec![0.1, 0.2, 1.0 / 3.0], vec![0.9, 0.8, 2.0 / 3.0]];
        for attention in [vec![], vec![vec![0.2, 0.5, 0.3]], vec![vec![0.2, 0.5, 0.3], vec![0.0, 0.0, 1.0]]] {
            let mut file = empty(attention.len());
            let agreement = Agreement { tiles_inside: 0, auroc: f64::NAN, auprc: 0.5, pointing: false, lesions: 0 };
            file.slides.push(SlideMap {
                slide_id: "s".into(),
                patient_id: "007".into(),
                label: "normal".into(),
                predicted: "normal".into(),
                probabilities: vec![0.75, 0.25],
                tiles: 3,
                side_level0_px: 224,
                canvas: Size { width: 1000, height: 800 },
                bounds: Some((Coord { x: 5, y: 6 }, Size { width: 900, height: 700 })),
                mpp: Mpp::square(0.5),
                agreement: Some(agreement),
            });
            file.write(folder.path()).unwrap();
            let back = HeatmapFile::read(folder.path()).unwrap();
            assert!(back.slides[0].agreement.as_ref().unwrap().auroc.is_nan());
            assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&file).unwrap());
            let scores = TileScores::new(coords.clone(), attention, classes.clone());
            write_tiles(folder.path(), "s", &file.classes, &scores).unwrap();
            assert_eq!(tiles(folder.path(), "s", &file).unwrap(), scores);
        }
    }

    #[test]
    fn percentiles_and_ranks_do_not_depend_on_the_scale() {
        let values = [0.1, 0.5, 0.1, 0.3];
        assert_eq!(percentiles(&values), [0.25, 0.875, 0.25, 0.625]);
        assert_eq!(percentiles(&values.map(|v| v * 1e-6)), percentiles(&values));
        assert_eq!(ranks(&values), [3, 1, 4, 2]);
    }

    #[test]
    fn qupath_counts_from_the_bounds_unless_told_otherwise() {
        let bounds = Some((Coord { x: 100, y: 200 }, Size { width: 10, height: 10 }));
        assert_eq!(QuPathOrigin::Bounds.corner(bounds), Coord { x: 100, y: 200 });
        assert_eq!(QuPathOrigin::Bounds.corner(None), Coord { x: 0, y: 0 });
        assert_eq!(QuPathOrigin::Canvas.corner(bounds), Coord { x: 0, y: 0 });
    }
}
