//! Rows of a labels table as they are written; what they mean is decided in one place for every format (`super::canonical`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use super::settings::{CohortSettings, Names};
use crate::store::table;

/// One slide as a table or a folder names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Where it was found, for messages: `row 7` as a spreadsheet counts, or a file below the folder.
    pub(super) place: String,
    /// Id, file name or path.
    pub(super) slide: String,
    /// `None` where there is no such column.
    pub(super) patient: Option<String>,
    /// As written.
    pub(super) label: String,
    /// `None` where there is no such column.
    pub(super) centre: Option<String>,
    /// `None` where there is no such column.
    pub(super) part: Option<String>,
    /// Every column of the table.
    pub(super) columns: BTreeMap<String, String>,
}

/// A table's cells by column.
pub(super) struct Table {
    names: Vec<String>,
    cells: Vec<Vec<String>>,
    height: usize,
    file: String,
}

impl Table {
    /// # Errors
    /// As [`table::read_sheet`].
    pub(super) fn read(path: &Path, settings: &CohortSettings) -> Result<Self> {
        let sheet = Some(settings.sheet.as_str()).filter(|sheet| !sheet.is_empty());
        let frame = table::read_sheet(path, sheet)?;
        let names = table::names(&frame);
        let cells = names.iter().map(|name| table::text(&frame, name, path)).collect::<Result<Vec<_>>>()?;
        Ok(Self { names, cells, height: frame.height(), file: path.display().to_string() })
    }

    /// The first candidate that is a column, spelt alike or in other capitals.
    pub(super) fn find(&self, names: &Names) -> Option<&[String]> {
        let column = |wanted: &String| {
            let spelt = |same: fn(&str, &str) -> bool| self.names.iter().position(|name| same(name, wanted.trim()));
            spelt(|a, b| a == b).or_else(|| spelt(str::eq_ignore_ascii_case))
        };
        names.candidates().iter().find_map(column).map(|index| self.cells[index].as_slice())
    }

    /// # Errors
    /// Names the setting, the candidates and the columns that are there.
    fn need(&self, setting: &str, names: &Names) -> Result<&[String]> {
        self.find(names).ok_or_else(|| {
            let candidates: Vec<String> = names.candidates().iter().map(|name| format!("'{name}'")).collect();
            anyhow!(
                "'{}' has no column {}; it has: {}; name the one that is meant with cohort.{setting}",
                self.file,
                candidates.join(" or "),
                self.names.join(", ")
            )
        })
    }

    /// Every row, with the columns that the settings name.
    ///
    /// # Errors
    /// No column for the slide or for the label.
    pub(super) fn rows(&self, settings: &CohortSettings) -> Result<Vec<Row>> {
        let (slide, label) = (self.need("slide", &settings.slide)?, self.need("label", &settings.label)?);
        let [patient, centre, part] = [&settings.patient, &settings.centre, &settings.part].map(|names| self.find(names));
        let cell = |column: Option<&[String]>, row: usize| column.map(|cells| cells[row].clone());
        let of = |row: usize| Row {
            place: self.place(row),
            slide: slide[row].clone(),
            patient: cell(patient, row),
            label: label[row].clone(),
            centre: cell(centre, row),
            part: cell(part, row),
            columns: self.columns(row),
        };
        Ok((0..self.height).map(of).collect())
    }

    /// Row `row` (from 0) as a spreadsheet counts it: the header is row 1.
    pub(super) fn place(&self, row: usize) -> String {
        format!("row {}", row + 2)
    }

    /// Every column's cell of one row.
    pub(super) fn columns(&self, row: usize) -> BTreeMap<String, String> {
        self.names.iter().zip(&self.cells).map(|(name, cells)| (name.clone(), cells[row].clone())).collect()
    }
}
