//! Recipes against networks: a score of each, its mean over seeds with an interval, the paper's value below it (Tables I, II and V).

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::choose::{Choice, Where};
use super::runs::{Finished, by_seed};
use super::{Setting, Shown, seeds};
use crate::ground::interval::Interval;
use crate::metrics::spread::mean_over_seeds;
use crate::render::blocks::{Block, Cell, Column, Table};
use crate::render::figures::{self, Axes, Line};
use crate::store::scores::Decision;
use crate::store::table::Cells;

/// Settings of `score-table`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScoreTable {
    /// What is shown of each run, as shares that become percent.
    pub scores: Vec<Score>,
    /// Networks, left to right.
    pub columns: Vec<Choice>,
    /// Recipes, top to bottom.
    pub rows: Vec<Row>,
    /// Draw rows as lines over the columns: what the columns are, for example `batch size`; every column's label is its number then.
    pub lines_over: Option<String>,
    /// Pairs of rows whose difference is the question; the first pair's answer opens the page.
    pub compare: Vec<Pair>,
}

/// A score by its name in `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Score {
    /// `top_1_accuracy`, `top_5_accuracy`, …
    pub figure: String,
    /// How it is called on the page.
    pub label: String,
}

/// A recipe under one decision rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// Its name.
    pub label: String,
    /// Its settings; none for a row of the paper's that is not run here.
    #[serde(rename = "where")]
    pub chosen: Option<Where>,
    /// How embeddings become classes.
    #[serde(default = "own")]
    pub decision: Decision,
    /// The paper's values in percent, column by column, within a column score by score; NaN or none where it has none.
    #[serde(default)]
    pub paper: Vec<f64>,
}

fn own() -> Decision {
    Decision::Own
}

/// Two rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pair {
    /// Label of the row from which is subtracted.
    pub first: String,
    /// Label of the row that is subtracted.
    pub second: String,
}

/// One score of a recipe and a network, in percent.
struct Entry {
    /// Seed and value.
    values: Vec<(u64, f64)>,
    mean: Interval,
    paper: f64,
}

/// A difference of two rows in one column, in points.
struct Difference {
    column: String,
    seeds: usize,
    points: Interval,
    paper: f64,
}

impl ScoreTable {
    pub(super) fn show(&self, runs: &[Finished], setting: &Setting) -> Result<Shown> {
        ensure!(
            !self.scores.is_empty() && !self.columns.is_empty() && !self.rows.is_empty(),
            "[page.exhibit] wants scores, columns and rows"
        );
        let width = self.columns.len() * self.scores.len();
        for row in &self.rows {
            ensure!(
                row.paper.is_empty() || row.paper.len() == width,
                "[page.exhibit]: row '{}' has {} of the paper's values for {width} columns",
                row.label,
                row.paper.len()
            );
        }
        let entries = self.rows.iter().map(|row| self.entries(row, runs)).collect::<Result<Vec<_>>>()?; // [row][column × score]
        let ran = |place: usize| entries.iter().any(|row| !row[place].values.is_empty());
        let columns: Vec<usize> = (0..self.columns.len()).filter(|&column| ran(column * self.scores.len())).collect();
        ensure!(!columns.is_empty(), "[page.exhibit]: none of the runs fits a row and a column");
        let left_out: Vec<String> =
            (0..self.columns.len()).filter(|column| !columns.contains(column)).map(|column| self.named(column)).collect();
        let differences =
            self.compare.iter().map(|pair| Ok((pair, self.differences(pair, &entries, &columns)?))).collect::<Result<Vec<_>>>()?;

        let mut blocks = vec![Block::heading(&setting.page.source, &self.lead(setting))];
        let mut picture = None;
        if let Some(axis) = &self.lines_over {
            let chart = self.chart(axis, &entries, &columns, setting)?;
            picture = Some(figures::standalone(std::slice::from_ref(&chart), 1));
            blocks.push(Block::Pictures(vec![chart]));
        }
        blocks.push(Block::Table(self.table(&entries, &columns, setting)));
        if !differences.is_empty() {
            blocks.push(Block::heading(
                "Differences",
                "Points of the first score, paired by seed: both trainings of a pair have the same seed.",
            ));
            blocks.push(Block::Table(differences_table(&differences, self.lines_over.as_deref().unwrap_or("Network"), setting)));
        }
        let verdict = match differences.first() {
            Some((pair, found)) => verdict(pair, found),
            None => best(&self.rows, &entries, columns[0] * self.scores.len(), &self.named(columns[0])),
        };
        let notes = (!left_out.is_empty()).then(|| format!("Not run at this size: {}.", left_out.join(", ")));
        Ok(Shown {
            verdict,
            blocks,
            notes: notes.into_iter().collect(),
            methods: vec![
                format!(
                    "Values are percent of the test images, mean over seeds; ± is half of Student's 95 % interval of that mean over seeds. It says \
                     what another seed would change, not what other images would. Nothing was chosen on the test images: {}.",
                    judged_epoch(runs)
                ),
                "Differences are means of per-seed differences with the same interval; they are not corrected for their number.".to_owned(),
            ],
            table: self.numbers(&entries, &columns),
            picture,
        })
    }

    /// A column in a sentence: `ResNet-18`, `batch size 16`.
    fn named(&self, column: usize) -> String {
        let label = &self.columns[column].label;
        self.lines_over.as_ref().map_or_else(|| label.clone(), |axis| format!("{axis} {label}"))
    }

    /// A line for each row that ran: the first score over the columns' numbers.
    fn chart(&self, axis: &str, entries: &[Vec<Entry>], columns: &[usize], setting: &Setting) -> Result<String> {
        let number = |column: &usize| {
            let label = &self.columns[*column].label;
            label.parse::<f64>().ok().with_context(|| format!("[page.exhibit]: lines-over wants columns named by numbers, not '{label}'"))
        };
        let places = columns.iter().map(number).collect::<Result<Vec<_>>>()?;
        let mut lines = Vec::new();
        for (row, entries) in self.rows.iter().zip(entries) {
            let points = columns.iter().zip(&places).map(|(&column, &x)| (x, entries[column * self.scores.len()].mean));
            // A percent has ends, whatever Student says of few seeds.
            let within = |mean: Interval| Interval { low: mean.low.max(0.0), high: mean.high.min(100.0), ..mean };
            let points = points.filter(|(_, mean)| mean.value.is_finite());
            let points: Vec<(f64, Interval)> = points.map(|(x, mean)| (x, if mean.is_bounded() { within(mean) } else { mean })).collect();
            if !points.is_empty() {
                lines.push(Line { label: row.label.clone(), runs: Vec::new(), mean: points, series: lines.len() });
            }
        }
        let y = format!("{}, %", self.scores[0].label);
        let alt = format!("{y} over {axis} for {}; the numbers are in the table that follows.", setting.page.title);
        figures::lines(&lines, &Axes { title: "", x: axis, y: &y, doubling: true }, &alt)
    }

    fn lead(&self, setting: &Setting) -> String {
        let scores: Vec<&str> = self.scores.iter().map(|score| score.label.as_str()).collect();
        let beside =
            if setting.differs.is_empty() { "the paper's value below" } else { "the paper's value, of its full size and data, below" };
        format!("{} in percent, mean ± half the 95 % interval over seeds; {beside}.", scores.join(" and "))
    }

    fn entries(&self, row: &Row, runs: &[Finished]) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let chosen = row.chosen.as_ref().map_or(Vec::new(), |chosen| {
                runs.iter().filter(|run| chosen.is_met_by(run) && column.chosen.is_met_by(run)).collect::<Vec<_>>()
            });
            let chosen = by_seed(chosen, &format!("{}, {}", row.label, column.label))?;
            for (place, score) in self.scores.iter().enumerate() {
                let values: Vec<(u64, f64)> =
                    chosen.iter().map(|run| (run.seed, 100.0 * run.figure(row.decision, &score.figure))).collect();
                let mean = mean_over_seeds(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
                let paper = row.paper.get(index * self.scores.len() + place).copied().unwrap_or(f64::NAN);
                found.push(Entry { values, mean, paper });
            }
        }
        Ok(found)
    }

    fn table(&self, entries: &[Vec<Entry>], columns: &[usize], setting: &Setting) -> Table {
        let mut head = vec![Column::text("Recipe")];
        for &column in columns {
            for score in &self.scores {
                let unit = if self.scores.len() > 1 { score.label.as_str() } else { "percent" };
                head.push(Column::number(&self.columns[column].label, unit));
            }
        }
        let places: Vec<usize> =
            columns.iter().flat_map(|column| (0..self.scores.len()).map(move |score| column * self.scores.len() + score)).collect();
        let best: Vec<f64> = places
            .iter()
            .map(|&place| entries.iter().map(|row| row[place].mean.value).filter(|v| v.is_finite()).fold(f64::NAN, f64::max))
            .collect();
        let rows = self.rows.iter().zip(entries).map(|(row, entries)| {
            let cells = places.iter().zip(&best).map(|(&place, &best)| cell(&entries[place], best));
            std::iter::once(Cell::text(&row.label)).chain(cells).collect()
        });
        Table { name: setting.page.source.clone(), columns: head, rows: rows.collect(), folded: None }
    }

    fn differences(&self, pair: &Pair, entries: &[Vec<Entry>], columns: &[usize]) -> Result<Vec<Difference>> {
        let place = |label: &str| {
            self.rows
                .iter()
                .position(|row| row.label == label)
                .with_context(|| format!("[page.exhibit]: compare names '{label}', which is no row"))
        };
        let (first, second) = (&entries[place(&pair.first)?], &entries[place(&pair.second)?]);
        let of = |&column: &usize| {
            let place = column * self.scores.len();
            let (first, second) = (&first[place], &second[place]);
            let paired = first.values.iter().filter_map(|(seed, ours)| {
                let theirs = second.values.iter().find(|(other, _)| other == seed)?;
                Some(ours - theirs.1)
            });
            let paired: Vec<f64> = paired.filter(|points| points.is_finite()).collect();
            let paper = first.paper - second.paper;
            Difference { column: self.named(column), seeds: paired.len(), points: mean_over_seeds(&paired), paper }
        };
        Ok(columns.iter().map(of).filter(|difference| difference.seeds > 0).collect())
    }

    /// One line for each recipe, network, score and seed.
    fn numbers(&self, entries: &[Vec<Entry>], columns: &[usize]) -> Vec<(String, Cells)> {
        let mut lines: Vec<Number> = Vec::new();
        for (row, entries) in self.rows.iter().zip(entries) {
            for &column in columns {
                for (place, score) in self.scores.iter().enumerate() {
                    let entry = &entries[column * self.scores.len() + place];
                    let number = |&(seed, percent)| Number { row, column: &self.columns[column], score, entry, seed, percent };
                    lines.extend(entry.values.iter().map(number));
                }
            }
        }
        let text = |of: fn(&Number) -> String| Cells::Text(lines.iter().map(of).collect());
        let real = |of: fn(&Number) -> f64| Cells::Real(lines.iter().map(of).collect());
        vec![
            ("recipe".to_owned(), text(|line| line.row.label.clone())),
            ("column".to_owned(), text(|line| line.column.label.clone())),
            ("score".to_owned(), text(|line| line.score.label.clone())),
            ("seed".to_owned(), Cells::Whole(lines.iter().map(|line| line.seed as i64).collect())),
            ("percent".to_owned(), real(|line| line.percent)),
            ("mean_over_seeds".to_owned(), real(|line| line.entry.mean.value)),
            ("mean_low".to_owned(), real(|line| line.entry.mean.low)),
            ("mean_high".to_owned(), real(|line| line.entry.mean.high)),
            ("paper".to_owned(), real(|line| line.entry.paper)),
        ]
    }
}

/// A line of `table.csv`.
struct Number<'a> {
    row: &'a Row,
    column: &'a Choice,
    score: &'a Score,
    entry: &'a Entry,
    seed: u64,
    percent: f64,
}

fn cell(entry: &Entry, best: f64) -> Cell {
    let paper = if entry.paper.is_finite() { format!("paper {:.2}", entry.paper) } else { String::new() };
    if entry.values.is_empty() {
        return Cell { text: "–".to_owned(), under: if paper.is_empty() { paper } else { format!("{paper}, not run") }, strong: false };
    }
    let Interval { value, high, .. } = entry.mean;
    let text = match (value.is_finite(), high.is_finite()) {
        (false, _) => "undefined".to_owned(),
        (true, false) => format!("{value:.2}"),
        (true, true) => format!("{value:.2} ± {:.2}", high - value),
    };
    let under = [seeds(entry.values.len()), paper].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
    Cell { text, under, strong: value == best }
}

fn points(of: &Interval) -> String {
    let text = if of.is_bounded() { format!("{:+.2} ({:+.2} to {:+.2})", of.value, of.low, of.high) } else { format!("{:+.2}", of.value) };
    text.replace('-', "−")
}

fn differences_table(all: &[(&Pair, Vec<Difference>)], columns: &str, setting: &Setting) -> Table {
    let columns = vec![
        Column::text("Comparison"),
        Column::text(columns),
        Column::number("Difference", "points, 95 % interval over seeds"),
        Column::number("Seeds", ""),
        Column::number("Paper", if setting.differs.is_empty() { "points" } else { "points, full size" }),
    ];
    let row = |pair: &Pair, one: &Difference| {
        let paper = if one.paper.is_finite() { format!("{:+.2}", one.paper).replace('-', "−") } else { "–".to_owned() };
        vec![
            Cell::text(&format!("{} − {}", pair.first, pair.second)),
            Cell::text(&one.column),
            Cell { text: points(&one.points), under: String::new(), strong: true },
            Cell::text(&one.seeds.to_string()),
            Cell::text(&paper),
        ]
    };
    let rows = all.iter().flat_map(|(pair, found)| found.iter().map(|one| row(pair, one))).collect();
    Table { name: "Differences".to_owned(), columns, rows, folded: None }
}

/// Which epoch the scores are of.
fn judged_epoch(runs: &[Finished]) -> &'static str {
    let last = |run: &Finished| run.scores.as_ref().is_none_or(|scores| scores.checkpoint == "last");
    match (runs.iter().all(last), runs.iter().any(last)) {
        (true, _) => "the last epoch is judged",
        (false, false) => "the epoch that is best on the validation images is judged",
        (false, true) => "in some runs the last epoch is judged, in others the one that is best on the validation images",
    }
}

/// What the differences of a pair say, network by network.
fn verdict(pair: &Pair, found: &[Difference]) -> String {
    let (first, second) = (&pair.first, &pair.second);
    if found.is_empty() {
        return format!("{first} and {second} share no seed on any network: there is no difference to judge.");
    }
    let named = |chosen: &dyn Fn(&Difference) -> bool| {
        let names: Vec<&str> = found.iter().filter(|one| chosen(one)).map(|one| one.column.as_str()).collect();
        names.join(", ")
    };
    let above = named(&|one| one.points.low > 0.0);
    let below = named(&|one| one.points.high < 0.0);
    let open = named(&|one| one.points.is_bounded() && one.points.low <= 0.0 && one.points.high >= 0.0);
    let single = named(&|one| !one.points.is_bounded());
    let values: Vec<String> = found.iter().map(|one| format!("{} on {}", points(&one.points), one.column)).collect();
    let mut parts = vec![format!("{first} − {second}, in points: {}.", values.join(", "))];
    let mut say = |which: &str, what: String| {
        if !which.is_empty() {
            parts.push(what);
        }
    };
    say(&above, format!("{first} is better on {above}."));
    say(&below, format!("{second} is better on {below}."));
    say(&open, format!("On {open} the interval includes 0: these seeds do not tell the two apart."));
    say(&single, format!("On {single} there is one seed, which decides nothing."));
    parts.join(" ")
}

/// The best recipe of one column, where nothing was to be compared.
fn best(rows: &[Row], entries: &[Vec<Entry>], place: usize, column: &str) -> String {
    let ran = rows.iter().zip(entries).filter(|(_, entries)| entries[place].mean.value.is_finite());
    match ran.max_by(|a, b| a.1[place].mean.value.total_cmp(&b.1[place].mean.value)) {
        Some((row, entries)) => format!("{} has the highest mean on {column}: {:.2}\u{a0}%.", row.label, entries[place].mean.value),
        None => format!("No recipe was scored on {column}."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::runs::made_up::run;
    use super::super::{PageSettings, PaperData};
    use super::*;

    fn settings(loss: &str, width: u64) -> serde_json::Value {
        json!({"train": {"loss": {"name": loss}, "model": {"encoder": {"width": width}}}})
    }

    /// CE 70 and 72 %, NCMI 71 and 75 % at width 16; one seed of CE at width 32.
    fn runs() -> Vec<Finished> {
        let one = |seed, loss, width, value| run(seed, settings(loss, width), Decision::Lp, "top_1_accuracy", value);
        vec![
            one(0, "cross-entropy", 16, 0.70),
            one(1, "cross-entropy", 16, 0.72),
            one(0, "ncmi", 16, 0.71),
            one(1, "ncmi", 16, 0.75),
            one(0, "cross-entropy", 32, 0.74),
        ]
    }

    fn table(more: &str) -> ScoreTable {
        let text = format!(
            "scores = [{{ figure = 'top_1_accuracy', label = 'Top-1' }}]\n\
             columns = [{{ label = '16', where = {{ 'train.model.encoder.width' = 16 }} }}, \
                        {{ label = '32', where = {{ 'train.model.encoder.width' = 32 }} }}, \
                        {{ label = '64', where = {{ 'train.model.encoder.width' = 64.0 }} }}]\n\
             compare = [{{ first = 'NCMI', second = 'CE' }}]\n{more}\n\
             [[rows]]\nlabel = 'CE'\nwhere = {{ 'train.loss.name' = 'cross-entropy' }}\ndecision = 'lp'\npaper = [70.5, nan, 1.0]\n\
             [[rows]]\nlabel = 'NCMI'\nwhere = {{ 'train.loss.name' = ['ncmi', 'other'] }}\ndecision = 'lp'\npaper = [72.0, 1.0, 1.0]\n\
             [[rows]]\nlabel = 'elsewhere'\npaper = [50.0, nan, nan]"
        );
        toml::from_str(&text).unwrap()
    }

    fn shown(table: &ScoreTable, runs: &[Finished], differs: Vec<String>) -> Result<Shown> {
        let data = PaperData { name: "CIFAR-100".into(), classes: 2, train: 4, test: 2 };
        let exhibit = super::super::ExhibitSettings::ScoreTable(table.clone());
        let page = PageSettings { title: "T".into(), source: "Table 0".into(), data, remarks: Vec::new(), exhibit };
        table.show(runs, &Setting { differs, page: &page })
    }

    fn cells(shown: &Shown) -> Vec<Vec<String>> {
        let tables = shown.blocks.iter().filter_map(|block| if let Block::Table(table) = block { Some(table) } else { None });
        let line = |row: &Vec<Cell>| row.iter().map(|cell| format!("{}|{}", cell.text, cell.under)).collect();
        tables.flat_map(|table| table.rows.iter().map(line)).collect()
    }

    #[test]
    fn means_over_seeds_stand_beside_the_papers_values() {
        let shown = shown(&table(""), &runs(), Vec::new()).unwrap();
        let cells = cells(&shown);
        // Two seeds: t(1) = 12.706; half = 12.706 · sd / √2 with sd √2 and 2√2.
        assert_eq!(cells[0], ["CE|", "71.00 ± 12.71|2 seeds · paper 70.50", "74.00|1 seed"]);
        assert_eq!(cells[1], ["NCMI|", "73.00 ± 25.41|2 seeds · paper 72.00", "–|paper 1.00, not run"]);
        assert_eq!(cells[2][1], "–|paper 50.00, not run");
        // Differences by seed: 1 and 3.
        assert_eq!(cells[3], ["NCMI − CE|", "16|", "+2.00 (−10.71 to +14.71)|", "2|", "+1.50|"]);
        assert_eq!(shown.notes, ["Not run at this size: 64."]);
        assert!(shown.verdict.starts_with("NCMI − CE, in points: +2.00 (−10.71 to +14.71) on 16.") && shown.verdict.contains("includes 0"));
        assert_eq!(shown.table.len(), 9);
    }

    #[test]
    fn lines_are_drawn_over_columns_that_are_numbers() {
        let shown = shown(&table("lines-over = 'width'"), &runs(), vec!["smaller".into()]).unwrap();
        assert!(shown.picture.is_some_and(|picture| picture.contains("CE") && picture.contains("width")));
        assert!(shown.verdict.contains("on width 16"), "{}", shown.verdict);
        assert!(matches!(&shown.blocks[0], Block::Heading { lead, .. } if lead.contains("of its full size and data")));
    }

    #[test]
    fn a_choice_that_leaves_a_setting_open_is_refused() {
        let mut twice = runs();
        twice.push(run(0, settings("cross-entropy", 16), Decision::Lp, "top_1_accuracy", 0.5));
        let error = shown(&table(""), &twice, Vec::new()).err().unwrap().to_string();
        assert!(error.contains("'CE, 16' names several runs of one seed") && error.contains("run-0-0.5"), "{error}");
        let error = shown(&table(""), &[], Vec::new()).err().unwrap().to_string();
        assert!(error.contains("none of the runs fits"), "{error}");
    }

    #[test]
    fn a_verdict_names_who_is_better_where() {
        let of = |column: &str, value: f64, half: f64| {
            let points = if half > 0.0 {
                Interval { low: value - half, high: value + half, ..Interval::point(value) }
            } else {
                Interval::point(value)
            };
            Difference { column: column.into(), seeds: 3, points, paper: f64::NAN }
        };
        let pair = Pair { first: "A".into(), second: "B".into() };
        let said = verdict(&pair, &[of("w", 2.0, 1.0), of("x", -2.0, 1.0), of("y", 0.5, 1.0), of("z", 1.0, 0.0)]);
        for part in [
            "A is better on w.",
            "B is better on x.",
            "On y the interval includes 0",
            "On z there is one seed",
            "−2.00 (−3.00 to −1.00) on x",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(verdict(&pair, &[]).contains("share no seed"));
    }
}
