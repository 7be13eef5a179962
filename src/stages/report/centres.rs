//! The linear probe's scores on the slides of each centre.

use std::collections::{BTreeMap, BTreeSet};

use super::rows;
use super::sides::Side;
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::Bootstrap;
use crate::render::blocks::{Block, Cell, Column, Section, Table};
use crate::render::names;
use crate::store::scores::Decision;

/// Patients below which a centre's scores are marked.
const FEW: usize = 20;
/// Centres that are listed, the largest first.
const CENTRES: usize = 20;

/// The section; `None` where no cohort names its centres.
pub(super) fn section(sides: &[Side], bootstrap: &Bootstrap) -> Option<Section> {
    let mut blocks = Vec::new();
    for side in sides {
        let Some(of_slide) =
            side.recipes.iter().flat_map(|recipe| recipe.group.probes()).map(|probe| &probe.centres).find(|all| !all.is_empty())
        else {
            continue;
        };
        let tested: BTreeSet<&str> = side
            .recipes
            .iter()
            .flat_map(|recipe| recipe.group.probes())
            .flat_map(|probe| probe.predictions.get(&Decision::Lp).into_iter().flatten())
            .map(|prediction| prediction.slide_id.as_str())
            .collect();
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for centre in tested.iter().filter_map(|slide| of_slide.get(*slide)) {
            *sizes.entry(centre).or_default() += 1;
        }
        let mut centres: Vec<(&str, usize)> = sizes.into_iter().collect();
        centres.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let left_out = centres.len().saturating_sub(CENTRES);
        centres.truncate(CENTRES);
        centres.sort_unstable();
        let mut lines = Vec::new();
        for recipe in &side.recipes {
            let strict = recipe.group.key.is_strict();
            for (centre, _) in &centres {
                let here = |slide: &str| of_slide.get(slide).is_some_and(|of| of == centre);
                let pool = rows::pool_of(recipe.group, Decision::Lp, &mut Vec::new(), |prediction| here(&prediction.slide_id));
                let Some(pool) = pool else { continue };
                let score = |interval: Interval| {
                    let bounded = strict && interval.is_bounded();
                    let under =
                        if bounded { format!("{}–{}", names::score(interval.low), names::score(interval.high)) } else { String::new() };
                    Cell { text: names::score(interval.value), under, strong: false }
                };
                let few = if pool.patients() < FEW { "few patients" } else { "" };
                lines.push(vec![
                    Cell::text(&recipe.name),
                    Cell::text(centre),
                    score(pool.macro_f1(bootstrap)),
                    score(pool.macro_auc(bootstrap)),
                    Cell::text(&pool.slides().to_string()),
                    Cell { text: pool.patients().to_string(), under: few.to_owned(), strong: false },
                ]);
            }
        }
        if sides.len() > 1 {
            blocks.push(Block::Title(side.title.clone()));
        }
        let columns = vec![
            Column::text("Recipe"),
            Column::text("Centre"),
            Column::number("Macro-F1", "95 % interval"),
            Column::number("Macro-AUC", "95 % interval"),
            Column::number("Slides", ""),
            Column::number("Patients", ""),
        ];
        blocks.push(Block::Table(Table { name: format!("Scores by centre, {}", side.title), columns, rows: lines, folded: None }));
        if left_out > 0 {
            blocks.push(Block::Words(format!("{} with fewer slides are not listed.", names::count(left_out, "centre"))));
        }
    }
    let lead = format!(
        "Test slides by the centre that the labels name, each scored as a test set of its own; patients of the centre are drawn. Below {FEW} \
         patients an interval is wide and its 95 % are a name."
    );
    (!blocks.is_empty()).then(|| Section { id: "centres", title: "Centres".to_owned(), lead, blocks })
}
