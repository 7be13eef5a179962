//! Where the test slides lie: the probe's inputs on the plane in which they vary most.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::runs::Probe;
use super::sides::{Judged, Side};
use crate::render::blocks::{Block, Figure, Section};
use crate::render::figures::Cloud;
use crate::render::names;
use crate::stages::plane::Plane;
use crate::stages::probe::EMBEDDINGS;
use crate::store::table::Cells;
use crate::store::tensors;

/// Recipes whose maps are shown.
const MAPS: usize = 4;
/// Points of a map; more hide each other.
const POINTS: i64 = 500;
/// Classes that two rounds of colours tell apart.
const CLASSES: usize = 10;

/// The section, with notes for files that cannot be read; `None` where no run kept its embeddings.
pub(super) fn section(sides: &[Side], notes: &mut Vec<String>) -> Result<Option<Section>> {
    let mut charts = Vec::new();
    for recipe in sides.iter().flat_map(|side| &side.recipes).take(MAPS) {
        let first = recipe.group.probes().find(|probe| probe.folder.join(EMBEDDINGS).is_file());
        let Some(probe) = first else { continue };
        match chart(recipe, probe) {
            Ok(chart) => charts.push(chart),
            Err(error) => notes.push(format!("The embeddings of '{}' cannot be shown: {error:#}.", probe.name)),
        }
    }
    let lead = format!(
        "Embeddings of test slides that the linear probe gets, on their first two principal components, without normalisation; one run of each \
         recipe, its first fold and seed, at most {POINTS} slides and the first {CLASSES} classes. Every map has a plane of its own. A picture is \
         no statistic."
    );
    let blocks = vec![Block::Figures(charts)];
    let any = blocks[0].figures().iter().any(|figure| !figure.data.is_empty());
    Ok(any.then(|| Section { id: "map", title: "Where the test slides lie".to_owned(), lead, blocks }))
}

fn chart(recipe: &Judged, probe: &Probe) -> Result<Figure> {
    let path = probe.folder.join(EMBEDDINGS);
    let (mut found, _) = tensors::read(&path)?;
    let mut take = |name: &str| found.remove(name).with_context(|| format!("'{EMBEDDINGS}' holds no '{name}'; probe again"));
    let (rows, targets) = (take("embeddings")?, take("targets")?);
    let classes: Vec<String> = probe.scores.classes.iter().take(CLASSES).cloned().collect();
    let shown = targets.lt(classes.len() as i64).nonzero().squeeze_dim(1);
    let stride = shown.size()[0].div_euclid(POINTS) + i64::from(shown.size()[0] % POINTS > 0);
    let shown = shown.slice(0, None, None, stride.max(1));
    anyhow::ensure!(shown.size()[0] > 1, "'{EMBEDDINGS}' holds fewer than two slides");
    let (rows, targets): (Tensor, Vec<i64>) =
        (rows.index_select(0, &shown).to_kind(Kind::Double), Vec::try_from(targets.index_select(0, &shown))?);
    let plane = Plane::of(&rows);
    let points = plane.place(&rows);
    let of_class = |class: usize| points.iter().zip(&targets).filter(move |(_, target)| **target == class as i64).map(|(point, _)| *point);
    let cloud =
        |(class, label): (usize, &String)| Cloud { label: label.clone(), points: of_class(class).collect(), path: Vec::new(), cross: None };
    let clouds: Vec<Cloud> = classes.iter().enumerate().map(cloud).filter(|cloud| !cloud.points.is_empty()).collect();
    let key = &recipe.group.key;
    let title = format!("{}, {}", names::recipe(&key.loss, key.epochs), names::setting("", &key.aggregator, &key.encoder));
    let alt = format!("Embeddings of {} on a plane, {title}; the numbers are in figures/.", names::count(points.len(), "test slide"));
    Ok(Figure {
        name: names::slug(&format!("map {title} {}", key.split)),
        title: title.clone(),
        svg: plane.draw(&clouds, "", &alt)?,
        data: vec![
            ("label".to_owned(), Cells::Text(targets.iter().map(|target| classes[*target as usize].clone()).collect())),
            ("component_1".to_owned(), Cells::Real(points.iter().map(|point| point.0).collect())),
            ("component_2".to_owned(), Cells::Real(points.iter().map(|point| point.1).collect())),
        ],
        numbers: false,
    })
}
