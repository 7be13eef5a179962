//! What a thing is, in names and values: aligned for people, an object for programs.

use serde_json::{Map, Value};

use super::text::aligned;

/// Facts about one thing, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What it is, in a word or two.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    facts: Vec<(String, Value)>,
    /// A table below them: a heading, names of columns, rows.
    table: Option<(String, Vec<String>, Vec<Vec<String>>)>,
}

/// Longer lists and tables are cut, with what was left out counted: one screen.
const MOST_ROWS: usize = 24;

impl Facts {
    /// Nothing but what it is.
    pub fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), facts: Vec::new(), table: None }
    }

    /// One more fact; null is left out.
    pub fn add(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        if !value.is_null() {
            self.facts.push((name.to_owned(), value));
        }
        self
    }

    /// The table below the facts.
    pub fn table(&mut self, heading: &str, columns: &[&str], rows: Vec<Vec<String>>) {
        self.table = Some((heading.to_owned(), columns.iter().map(|column| (*column).to_owned()).collect(), rows));
    }

    /// For people; ends with a line break.
    pub fn text(&self) -> String {
        let lines: Vec<[String; 2]> = self.facts.iter().map(|(name, value)| [format!("  {name}"), plain(value)]).collect();
        let mut text = format!("{}: {}\n{}", self.kind, self.name, aligned(&lines));
        if let Some((heading, columns, rows)) = &self.table {
            let width = |column: usize| {
                let cells = rows.iter().take(MOST_ROWS).map(|row| &row[column]).chain([&columns[column]]);
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..columns.len()).map(width).collect();
            let line = |cells: &Vec<String>| {
                let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
                format!("  {}\n", padded.join("  ").trim_end())
            };
            text += &format!("\n{heading}\n{}", line(columns));
            rows.iter().take(MOST_ROWS).for_each(|row| text += &line(row));
            if rows.len() > MOST_ROWS {
                text += &format!("  and {} more\n", rows.len() - MOST_ROWS);
            }
        }
        text
    }

    /// For programs: everything, uncut.
    pub fn json(&self) -> Value {
        let mut object = Map::from_iter([("kind".to_owned(), self.kind.into()), ("name".to_owned(), self.name.clone().into())]);
        object.extend(self.facts.iter().cloned());
        if let Some((heading, columns, rows)) = &self.table {
            let row = |cells: &Vec<String>| columns.iter().cloned().zip(cells.iter().cloned().map(Value::from)).collect::<Map<_, _>>();
            object.insert(heading.clone(), rows.iter().map(row).map(Value::from).collect::<Vec<_>>().into());
        }
        object.into()
    }
}

/// A value without the marks of JSON; a long list is counted.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e7) {
                format!("{value:.3e}")
            } else {
                format!("{}", (value * 1e4).round() / 1e4)
            }
        }
        Value::Array(items) if items.len() > MOST_ROWS / 2 => format!("{} values", items.len()),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(items) => items.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_screen_for_people_and_everything_for_programs() {
        let mut facts = Facts::new("bag", "a.h5");
        facts.add("tiles", 30).add("nothing", Value::Null).add("pixel size", 0.25).add("lost", json!({ "unreadable": 1, "blank": 0 }));
        facts.table("rows", &["x", "long name"], (0..40).map(|row| vec![row.to_string(), "y".into()]).collect());
        let text = facts.text();
        assert!(
            text.starts_with(
                "bag: a.h5\n  tiles       30\n  pixel size  0.25\n  lost        unreadable 1, blank 0\n\nrows\n  x   long name\n  0   y\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("  23  y\n  and 16 more\n"), "{text}");
        let json = facts.json();
        assert_eq!((&json["kind"], &json["tiles"], json["rows"].as_array().unwrap().len()), (&json!("bag"), &json!(30), 40));
    }
}
