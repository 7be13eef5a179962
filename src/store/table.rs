//! Tables as CSV: labels in, predictions and slide lists out. The only place that names polars.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use polars::prelude::{Column, CsvReadOptions, CsvWriter, DataFrame, SerReader, SerWriter};

use super::files;

/// Reads a CSV with a header; every column as text, so that `007` stays `007`. UTF-8 with or without a byte-order mark, LF or CRLF.
///
/// # Errors
/// Names the file; an empty table is an error.
pub fn read(path: &Path) -> Result<DataFrame> {
    let frame = CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0))
        .try_into_reader_with_file_path(Some(path.to_owned()))
        .and_then(SerReader::finish)
        .with_context(|| format!("cannot read the table '{}'", path.display()))?;
    if frame.height() == 0 {
        bail!("the table '{}' has no rows", path.display());
    }
    Ok(frame)
}

/// The text column `name`; an empty cell is an empty string.
///
/// # Errors
/// Names the missing column and those that are there.
pub fn text(frame: &DataFrame, name: &str, path: &Path) -> Result<Vec<String>> {
    let column = frame.column(name).map_err(|_| {
        let present: Vec<String> = frame.get_column_names().iter().map(ToString::to_string).collect();
        anyhow!("'{}' has no column '{name}'; it has: {}", path.display(), present.join(", "))
    })?;
    Ok(column.str()?.iter().map(|cell| cell.unwrap_or("").trim().to_owned()).collect())
}

/// The column `name` as real numbers; an empty cell is NaN.
///
/// # Errors
/// Names the missing column, or the row and the cell that is no number.
pub fn real(frame: &DataFrame, name: &str, path: &Path) -> Result<Vec<f64>> {
    let number = |(row, cell): (usize, String)| match cell.as_str() {
        "" => Ok(f64::NAN),
        cell => cell.parse().map_err(|_| anyhow!("'{}': column '{name}', row {}: '{cell}' is no number", path.display(), row + 1)),
    };
    text(frame, name, path)?.into_iter().enumerate().map(number).collect()
}

/// Every column's name, in the table's order.
pub fn names(frame: &DataFrame) -> Vec<String> {
    frame.get_column_names().iter().map(ToString::to_string).collect()
}

/// Whether the table has a column `name`.
pub fn has(frame: &DataFrame, name: &str) -> bool {
    frame.column(name).is_ok()
}

/// One column of a table to write.
pub enum Cells {
    /// Text.
    Text(Vec<String>),
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Real numbers.
    Real(Vec<f64>),
}

/// Writes named columns of equal length as CSV, whole or not at all.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, columns: Vec<(&str, Cells)>) -> Result<()> {
    let height = columns.first().map_or(0, |(_, cells)| match cells {
        Cells::Text(v) => v.len(),
        Cells::Whole(v) => v.len(),
        Cells::Real(v) => v.len(),
    });
    let columns = columns
        .into_iter()
        .map(|(name, cells)| match cells {
            Cells::Text(v) => Column::new(name.into(), v),
            Cells::Whole(v) => Column::new(name.into(), v),
            Cells::Real(v) => Column::new(name.into(), v),
        })
        .collect();
    let mut frame = DataFrame::new(height, columns)?;
    files::write_whole(path, |temporary| Ok(CsvWriter::new(std::fs::File::create(temporary)?).finish(&mut frame)?))
}
