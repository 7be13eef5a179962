//! Test embeddings of a few classes in two dimensions, with the way of each class's mean over the training (Figure 5).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::choose::Choice;
use super::runs::Finished;
use super::{Setting, Shown};
use crate::render::blocks::{Block, Cell, Column, Table};
use crate::render::figures::{self, Cloud};
use crate::stages::plane::Plane;
use crate::stages::watch;
use crate::store::table::Cells;
use crate::store::tensors;

/// Settings of `embedding`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Embedding {
    /// The recipes, a pair of pictures each.
    pub lines: Vec<Choice>,
    /// What the paper says of it, in words.
    pub paper: String,
}

/// What a run kept of its looks at the test images.
struct Kept {
    classes: Vec<String>,
    embeddings: Tensor,
    targets: Vec<i64>,
    /// Epoch → class means `[K,E]`.
    means: BTreeMap<usize, Tensor>,
    /// Epoch → running centre `[E]`.
    centres: BTreeMap<usize, Tensor>,
}

/// A class mean at a look, on the plane of the class means.
struct Stop {
    recipe: String,
    class: String,
    epoch: usize,
    at: [f64; 2],
}

impl Embedding {
    pub(super) fn show(&self, runs: &[Finished], setting: &Setting) -> Result<Shown> {
        let (mut pictures, mut rows_of_table, mut stops, mut verdict) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for choice in &self.lines {
            let Some(run) = choice.of(runs)?.into_iter().next() else { continue };
            let kept = Kept::read(run)?;
            let ratio = kept.apart();
            verdict.push(format!("{}: {}", choice.label, figures::short(ratio)));
            rows_of_table.push(vec![
                Cell::text(&choice.label),
                Cell::text(&run.seed.to_string()),
                Cell::text(&figures::short(ratio)),
                Cell::text(&figures::short(kept.way())),
            ]);
            pictures.push(kept.clusters(&choice.label)?);
            pictures.push(kept.trajectories(&choice.label, &mut stops)?);
        }
        ensure!(!pictures.is_empty(), "[page.exhibit]: none of the runs is a recipe of the list");
        let columns = vec![
            Column::text("Recipe"),
            Column::number("Seed", ""),
            Column::number("Between / within", "ratio of variances"),
            Column::number("Way of a class mean", "in distances between class means"),
        ];
        let lead = "Left: embeddings of test images of the first ten classes after the last epoch, on the plane in which they vary most; crosses \
                    are class means. Right: where the class means were over the training, on the plane in which they vary most; a line ends at \
                    its cross, the grey one is the running centre. One seed each; a picture is no statistic.";
        Ok(Shown {
            verdict: format!(
                "Variance between classes over variance within a class, after the last epoch, of test embeddings: {}.",
                verdict.join("; ")
            ),
            blocks: vec![
                Block::heading(&setting.page.source, lead),
                Block::Pictures(pictures.clone()),
                Block::Table(Table { name: "Recipes".to_owned(), columns, rows: rows_of_table, folded: None }),
            ],
            notes: Vec::new(),
            methods: vec![
                "Planes are principal components of the embeddings as they are, without normalisation; every picture has its own plane, so that \
                 places in different pictures do not compare. The way of a class mean is the length of its line through the full space, divided by \
                 the mean distance between class means at the end. Nothing was selected on the test images."
                    .to_owned(),
                format!("The paper draws t-SNE, which shows neighbourhoods and no distances; here are principal components. It says: {}", self.paper),
            ],
            table: vec![
                ("recipe".to_owned(), Cells::Text(stops.iter().map(|stop| stop.recipe.clone()).collect())),
                ("class".to_owned(), Cells::Text(stops.iter().map(|stop| stop.class.clone()).collect())),
                ("epoch".to_owned(), Cells::Whole(stops.iter().map(|stop| stop.epoch as i64).collect())),
                ("x".to_owned(), Cells::Real(stops.iter().map(|stop| stop.at[0]).collect())),
                ("y".to_owned(), Cells::Real(stops.iter().map(|stop| stop.at[1]).collect())),
            ],
            picture: Some(figures::standalone(&pictures, 2)),
        })
    }
}

impl Kept {
    fn read(run: &Finished) -> Result<Self> {
        let path = run.train_folder.join(watch::EMBEDDINGS);
        let (mut tensors, note) = tensors::read(&path).with_context(|| format!("the run '{}': set train.watch-test", run.name))?;
        let classes = serde_json::from_value(note["classes"].clone()).with_context(|| format!("'{}' names no classes", path.display()))?;
        let mut take = |name: &str| tensors.remove(name).with_context(|| format!("the run '{}' kept no '{name}'", run.name));
        let (embeddings, targets) = (take("embeddings")?.to_kind(Kind::Double), take("targets")?);
        let all = |kind: &str| -> BTreeMap<usize, Tensor> {
            let of_kind = tensors.iter().filter(|(name, _)| name.starts_with(kind));
            of_kind.filter_map(|(name, tensor)| Some((watch::epoch_of(name)?, tensor.to_kind(Kind::Double)))).collect()
        };
        let (means, mut centres) = (all("mean."), all("centre."));
        // Without centring the objective keeps a centre of zeros, which is none.
        centres.retain(|_, centre| centre.abs().sum(Kind::Double).double_value(&[]) > 0.0);
        ensure!(!means.is_empty(), "the run '{}' kept no class means", run.name);
        Ok(Self { classes, embeddings, targets: Vec::<i64>::try_from(&targets)?, means, centres })
    }

    /// Variance of the class means over the mean variance within a class, over all coordinates.
    fn apart(&self) -> f64 {
        let targets = Tensor::from_slice(&self.targets);
        let (mut within, mut means) = (Vec::new(), Vec::new());
        for class in 0..self.classes.len() as i64 {
            let of = self.embeddings.index_select(0, &targets.eq(class).nonzero().squeeze_dim(1));
            if of.size()[0] > 0 {
                let mean = of.mean_dim(0, true, Kind::Double);
                within.push((&of - &mean).square().sum_dim_intlist(1, false, Kind::Double).mean(Kind::Double).double_value(&[]));
                means.push(mean);
            }
        }
        let means = Tensor::cat(&means, 0);
        let between = (&means - means.mean_dim(0, true, Kind::Double)).square().sum_dim_intlist(1, false, Kind::Double);
        between.mean(Kind::Double).double_value(&[]) * within.len() as f64 / within.iter().sum::<f64>()
    }

    /// Mean length of a class mean's way, in mean distances between class means at the end.
    fn way(&self) -> f64 {
        let all: Vec<&Tensor> = self.means.values().collect();
        let length = |step: &[&Tensor]| (step[1] - step[0]).square().sum_dim_intlist(1, false, Kind::Double).sqrt().mean(Kind::Double);
        let way: f64 = all.windows(2).map(|step| length(step).double_value(&[])).sum();
        let last = all[all.len() - 1];
        let count = last.size()[0] as f64;
        let apart = (last.unsqueeze(0) - last.unsqueeze(1)).square().sum_dim_intlist(2, false, Kind::Double).sqrt().sum(Kind::Double);
        way / (apart.double_value(&[]) / (count * (count - 1.0)))
    }

    fn clusters(&self, title: &str) -> Result<String> {
        let plane = Plane::of(&self.embeddings);
        let (points, means) = (plane.place(&self.embeddings), plane.place(self.means.values().next_back().expect("there is one")));
        let cloud = |class: usize| Cloud {
            label: self.classes[class].clone(),
            points: points.iter().zip(&self.targets).filter(|(_, target)| **target == class as i64).map(|(point, _)| *point).collect(),
            path: Vec::new(),
            cross: Some(means[class]),
        };
        let clouds: Vec<Cloud> = (0..self.classes.len()).map(cloud).collect();
        let alt = format!("Test embeddings of {} classes on a plane, {title}.", self.classes.len());
        plane.draw(&clouds, title, &alt)
    }

    fn trajectories(&self, recipe: &str, stops: &mut Vec<Stop>) -> Result<String> {
        let plane = Plane::of(&Tensor::cat(&self.means.values().collect::<Vec<_>>(), 0));
        let placed: Vec<(usize, Vec<(f64, f64)>)> = self.means.iter().map(|(epoch, means)| (*epoch, plane.place(means))).collect();
        let mut clouds = Vec::new();
        for (class, label) in self.classes.iter().enumerate() {
            let path: Vec<(f64, f64)> = placed.iter().map(|(_, means)| means[class]).collect();
            stops.extend(placed.iter().map(|(epoch, means)| Stop {
                recipe: recipe.to_owned(),
                class: label.clone(),
                epoch: *epoch,
                at: [means[class].0, means[class].1],
            }));
            clouds.push(Cloud { label: label.clone(), points: Vec::new(), cross: path.last().copied(), path });
        }
        if !self.centres.is_empty() {
            let path = self.centres.values().map(|centre| plane.place(&centre.unsqueeze(0))[0]).collect();
            clouds.push(Cloud { label: "running centre".to_owned(), points: Vec::new(), path, cross: None });
        }
        let alt = format!("Ways of {} class means over the training, {recipe}; the numbers are in table.csv.", self.classes.len());
        plane.draw(&clouds, &format!("{recipe}: class means over epochs"), &alt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_classes_of_two_points() {
        let embeddings = Tensor::from_slice(&[0.0, 0.0, 2.0, 0.0, 10.0, 0.0, 12.0, 0.0]).view([4, 2]);
        let mean = |a: f64, b: f64| Tensor::from_slice(&[a, 0.0, b, 0.0]).view([2, 2]);
        let kept = Kept {
            classes: vec!["a".into(), "b".into()],
            embeddings,
            targets: vec![0, 0, 1, 1],
            means: BTreeMap::from([(1, mean(1.0, 6.0)), (2, mean(1.0, 11.0))]),
            centres: BTreeMap::new(),
        };
        // Means at 1 and 11: variance 25 between, 1 within. One mean moved by 5, the other not; they end 10 apart.
        assert!((kept.apart() - 25.0).abs() < 1e-12 && (kept.way() - 0.25).abs() < 1e-12);
    }
}
