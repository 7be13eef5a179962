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
    /// `NCMI-LP`; with what differs where a setting has two of the name.
    pub name: String,
    /// What differs; mostly empty.
    pub suffix: String,
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
        let recipe = Judged { name, suffix: String::new(), series: series(groups, &names::recipe(&key.loss, key.epochs)), group, pool };
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
        tell_apart(&mut side.recipes);
    }
    sides
}

/// Recipes of one name get what differs between them behind it, and each a colour of its own.
fn tell_apart(recipes: &mut [Judged]) {
    let same: Vec<Vec<usize>> =
        recipes.iter().map(|one| (0..recipes.len()).filter(|&other| recipes[other].name == one.name).collect()).collect();
    for (place, same) in same.iter().enumerate().filter(|(_, same)| same.len() > 1) {
        let differ = |of: fn(&Judged) -> String| same.iter().any(|&other| of(&recipes[other]) != of(&recipes[same[0]]));
        let traits: [fn(&Judged) -> String; 4] = [
            |one| names::count(one.group.key.epochs, "epoch"),
            |one| one.group.key.group.clone(),
            |one| format!("{} checkpoint", one.group.key.checkpoint),
            |one| one.group.key.settings.clone(),
        ];
        let suffix: Vec<String> =
            traits.into_iter().filter(|of| differ(*of)).map(|of| of(&recipes[place])).filter(|of| !of.is_empty()).collect();
        recipes[place].suffix = suffix.iter().map(|of| format!(", {of}")).collect();
    }
    for place in 0..recipes.len() {
        let taken = |series: usize| recipes[..place].iter().any(|other| other.series == series);
        let free = (recipes[place].series..).find(|series| !taken(*series));
        recipes[place].series = free.unwrap_or(place);
    }
    for recipe in recipes {
        recipe.name.push_str(&recipe.suffix);
    }
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
