//! Recipes that stand side by side in a chart: the same division, bag model and encoder, true labels, the linear probe.

use super::groups::Group;
use super::pool::Pool;
use super::rows;
use crate::render::names;
use crate::store::scores::Decision;

/// Lines of a chart that a reader can keep apart; what is beyond is in tables and files.
pub(super) const LINES: usize = 5;

/// One setting.
pub(super) struct Side<'a> {
    pub title: String,
    /// Objectives in question first: NCMI, cross-entropy, the untrained model, then the others.
    pub recipes: Vec<Judged<'a>>,
}

/// A recipe under the linear probe.
pub(super) struct Judged<'a> {
    /// `NCMI-LP`; with the sweep's label where a setting has two of the name.
    pub name: String,
    /// Its colour on the whole page.
    pub series: usize,
    pub group: &'a Group<'a>,
    pub pool: Pool,
}

impl Side<'_> {
    /// The recipes that charts show.
    pub(super) fn drawn(&self) -> &[Judged<'_>] {
        &self.recipes[..self.recipes.len().min(LINES)]
    }

    /// Class names in index order.
    pub(super) fn classes(&self) -> &[String] {
        self.recipes.first().and_then(|recipe| recipe.group.probes().next()).map_or(&[], |probe| &probe.scores.classes)
    }
}

/// Every setting of which there are true labels and a linear probe.
pub(super) fn sides<'a>(groups: &'a [Group<'a>]) -> Vec<Side<'a>> {
    let mut sides: Vec<Side> = Vec::new();
    for group in groups.iter().filter(|group| group.key.labels == "true") {
        // What is missing is noted where the rows are made.
        let Some(pool) = rows::pool(group, Decision::Lp, &mut Vec::new()) else { continue };
        let key = &group.key;
        let title = names::setting(&key.split, &key.aggregator, &key.encoder);
        let name = names::recipe_and_decision(&key.loss, key.epochs, Decision::Lp);
        let recipe = Judged { name, series: series(groups, &names::recipe(&key.loss, key.epochs)), group, pool };
        match sides.iter_mut().find(|side| side.title == title) {
            Some(side) => side.recipes.push(recipe),
            None => sides.push(Side { title, recipes: vec![recipe] }),
        }
    }
    for side in &mut sides {
        let rank = |recipe: &Judged| match (recipe.group.key.epochs, recipe.group.key.loss.as_str()) {
            (0, _) => 2,
            (_, "ncmi") => 0,
            (_, "cross-entropy") => 1,
            _ => 3,
        };
        side.recipes.sort_by_key(rank);
        let all: Vec<String> = side.recipes.iter().map(|recipe| recipe.name.clone()).collect();
        for recipe in &mut side.recipes {
            let key = &recipe.group.key;
            if all.iter().filter(|name| **name == recipe.name).count() > 1 {
                recipe.name = format!("{}, {}", recipe.name, [key.group.as_str(), &key.settings].join(" ").trim());
            }
        }
    }
    sides
}

/// Place of the recipe `name` among all of the page, in order of appearance, as the score charts count them; one of none comes after all.
pub(super) fn series(groups: &[Group], name: &str) -> usize {
    let mut seen: Vec<String> = Vec::new();
    for key in groups.iter().map(|group| &group.key) {
        let recipe = names::recipe(&key.loss, key.epochs);
        if !seen.contains(&recipe) {
            seen.push(recipe);
        }
    }
    seen.iter().position(|known| known == name).unwrap_or(seen.len())
}
