//! Tables: labels in, predictions and slide lists out. The only place that names polars and calamine.
//!
//! What hospitals hand over is read as it is: CSV with commas, semicolons or tabs in any of four encodings, and XLSX.

mod decode;
mod number;

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use calamine::{Data, Reader, Xlsx};
use polars::prelude::{Column, CsvParseOptions, CsvReadOptions, CsvWriter, DataFrame, SerReader, SerWriter};

use super::files;
pub use number::number;

/// Reads a table with a header: [`read_sheet`] of the first sheet.
///
/// # Errors
/// As [`read_sheet`].
pub fn read(path: &Path) -> Result<DataFrame> {
    read_sheet(path, None)
}

/// Reads a table with a header; every column as text, so that `007` stays `007`. What a file is, its bytes say, not its name.
///
/// CSV: `,` `;` or tab, whichever the header has most of; a field with separators or line ends stands in `"`; UTF-8 with or
/// without a byte-order mark, UTF-16 with one, or Windows-1252; LF or CRLF. XLSX: the sheet called `sheet`, or the first; whole
/// numbers have no `.0`, dates are `2024-01-31`. Names of columns are trimmed; blank rows at the end and columns with neither a
/// name nor a cell are dropped.
///
/// # Errors
/// Names the file; an empty table, two columns with one name, a row longer than the header, a sheet that is not there (with those
/// that are) are errors.
pub fn read_sheet(path: &Path, sheet: Option<&str>) -> Result<DataFrame> {
    let context = || format!("cannot read the table '{}'", path.display());
    let bytes = std::fs::read(path).with_context(context)?;
    let columns = match bytes.as_slice() {
        [b'P', b'K', 3, 4, ..] => workbook(bytes, sheet),
        [0xD0, 0xCF, 0x11, 0xE0, ..] => Err(anyhow!("it is a workbook of the old XLS kind; save it as XLSX or CSV")),
        text => decode::decode(text).and_then(|text| separated(&text)),
    };
    tidy(columns.with_context(context)?).with_context(context)
}

/// Columns of separated values: the first row, then the others; a missing cell is an empty string.
fn separated(text: &str) -> Result<Vec<Vec<String>>> {
    let text = text.trim_start_matches(['\r', '\n']);
    // Spreadsheets in some languages write `sep=;` above the header.
    let (named, text) = match text.strip_prefix("sep=").and_then(|rest| rest.split_once('\n')) {
        Some((separator, rest)) => (separator.bytes().next(), rest),
        None => (None, text),
    };
    ensure!(!text.trim().is_empty(), "it is empty");
    let frame = CsvReadOptions::default()
        .with_has_header(false)
        .with_infer_schema_length(Some(0))
        .with_parse_options(CsvParseOptions::default().with_separator(named.unwrap_or_else(|| separator(text))))
        .into_reader_with_file_handle(Cursor::new(text.as_bytes()))
        .finish()?;
    let cells = |column: &Column| Ok(column.str()?.iter().map(|cell| cell.unwrap_or("").trim().to_owned()).collect());
    frame.columns().iter().map(cells).collect()
}

/// The separator that the header has most of outside quotes; a comma where it has none.
fn separator(text: &str) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            byte if !quoted => counts.iter_mut().filter(|(separator, _)| *separator == byte).for_each(|(_, count)| *count += 1),
            _ => {}
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    counts.iter().find(|(_, count)| *count == most).map_or(b',', |(separator, _)| *separator)
}

/// Columns of a sheet, as those of [`separated`].
fn workbook(bytes: Vec<u8>, sheet: Option<&str>) -> Result<Vec<Vec<String>>> {
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).context("it begins as a zip archive, but is no XLSX workbook")?;
    let sheets = book.sheet_names();
    let name = match sheet {
        None => sheets.first().context("the workbook has no sheet")?,
        Some(wanted) => sheets
            .iter()
            .find(|name| name.trim() == wanted.trim())
            .with_context(|| format!("the workbook has no sheet '{wanted}'; it has: {}", sheets.join(", ")))?,
    };
    let range = book.worksheet_range(name).with_context(|| format!("sheet '{name}'"))?;
    ensure!(!range.is_empty(), "sheet '{name}' is empty");
    Ok((0..range.width()).map(|column| range.rows().map(|row| cell(&row[column])).collect()).collect())
}

/// A cell as a person reads it.
fn cell(value: &Data) -> String {
    match value {
        // 2^53 and above is beyond what a spreadsheet's numbers hold exactly.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => format!("{number:.0}"),
        Data::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, ..) = moment.to_ymd_hms_milli();
            format!("{year:04}-{month:02}-{day:02}")
        }
        other => other.to_string().trim().to_owned(),
    }
}

/// First cells become names; blank columns and blank rows at the end go.
fn tidy(mut columns: Vec<Vec<String>>) -> Result<DataFrame> {
    columns.retain(|cells| cells.iter().any(|cell| !cell.is_empty()));
    let height = columns.iter().filter_map(|cells| cells.iter().rposition(|cell| !cell.is_empty())).max().unwrap_or(0);
    ensure!(height > 0, "it has no rows below its header");
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = columns.iter().map(|cells| cells[0].as_str()).filter(|name| !seen.insert(*name)).collect();
    if !twice.is_empty() {
        let named: Vec<String> = twice.into_iter().map(|name| format!("'{name}'")).collect();
        bail!("several columns are called {}; rename all but one", named.join(", "));
    }
    let column = |mut cells: Vec<String>| {
        cells.truncate(height + 1);
        Column::new(cells.remove(0).into(), cells)
    };
    Ok(DataFrame::new(height, columns.into_iter().map(column).collect())?)
}

/// The text column `name`; an empty cell is an empty string.
///
/// # Errors
/// Names the missing column and those that are there.
pub fn text(frame: &DataFrame, name: &str, path: &Path) -> Result<Vec<String>> {
    let column =
        frame.column(name).map_err(|_| anyhow!("'{}' has no column '{name}'; it has: {}", path.display(), names(frame).join(", ")))?;
    Ok(column.str()?.iter().map(|cell| cell.unwrap_or("").to_owned()).collect())
}

/// The column `name` as real numbers; an empty cell is NaN.
///
/// # Errors
/// Names the missing column, or the row and the cell that is no number.
pub fn real(frame: &DataFrame, name: &str, path: &Path) -> Result<Vec<f64>> {
    let of = |(row, cell): (usize, String)| match cell.as_str() {
        "" => Ok(f64::NAN),
        cell => number(cell).ok_or_else(|| anyhow!("'{}': column '{name}', row {}: '{cell}' is no number", path.display(), row + 1)),
    };
    text(frame, name, path)?.into_iter().enumerate().map(of).collect()
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
#[derive(Debug, Clone)]
pub enum Cells {
    /// Text.
    Text(Vec<String>),
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Real numbers.
    Real(Vec<f64>),
}

impl Cells {
    /// Rows of the column.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Whole(cells) => cells.len(),
            Self::Real(cells) => cells.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes named columns of equal length as CSV, whole or not at all.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, columns: Vec<(&str, Cells)>) -> Result<()> {
    let height = columns.first().map_or(0, |(_, cells)| cells.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and rows of a table, cells joined by `|`.
    fn table(bytes: &[u8]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, bytes)?;
        let frame = read(&path)?;
        let columns = names(&frame).iter().map(|name| text(&frame, name, &path)).collect::<Result<Vec<_>>>()?;
        let rows = (0..frame.height()).map(|row| columns.iter().map(|cells| cells[row].as_str()).collect::<Vec<_>>().join("|"));
        Ok([names(&frame).join("|")].into_iter().chain(rows).collect())
    }

    #[test]
    fn separators_quotes_and_line_ends() {
        let wanted = ["slide_id|label", "007|a, b"];
        for text in [
            "slide_id,label\n007,\"a, b\"\n",
            "slide_id;label\r\n007;a, b\r\n",
            "slide_id\tlabel\n007\ta, b",
            "\"slide_id\"; label \n 007 ;\"a, b\"\n",
            "sep=;\r\nslide_id;label\r\n007;a, b\r\n",
            "\n\nslide_id;label\n007;a, b\n",
        ] {
            assert_eq!(table(text.as_bytes()).unwrap(), wanted, "{text:?}");
        }
        assert_eq!(table(b"\"size, mm, all\";id\n3;x\n").unwrap(), ["size, mm, all|id", "3|x"], "quoted commas do not count");
        assert_eq!(table(b"id,note\nx,\"two\nlines\"\n").unwrap(), ["id|note", "x|two\nlines"]);
        assert_eq!(table(b"id\nx\n").unwrap(), ["id", "x"]);
    }

    #[test]
    fn blank_columns_and_blank_rows_at_the_end_go() {
        assert_eq!(table(b"id,label,,\nx,a,,\n,,,\ny,b,,\n,,,\n,,,\n").unwrap(), ["id|label", "x|a", "|", "y|b"]);
        assert_eq!(table(b",id\n0,x\n1,y\n").unwrap(), ["|id", "0|x", "1|y"], "an index without a name stays");
        assert_eq!(table(b"id,label\nx\ny,b\n").unwrap(), ["id|label", "x|", "y|b"]);
    }

    #[test]
    fn tables_that_say_nothing_are_refused() {
        let error = |text: &str| format!("{:#}", table(text.as_bytes()).unwrap_err());
        assert!(error("").contains("labels.csv") && error("").contains("empty"));
        assert!(error("id,label\n,\n").contains("no rows"));
        assert!(error("id,label, id \nx,a,y\n").contains("several columns are called 'id'"));
        let longer = error("id,label\nx,a,b\n");
        assert!(longer.contains("labels.csv"), "{longer}");
    }

    #[test]
    fn numbers_with_a_point_or_a_comma() {
        assert_eq!([number("0.25"), number("0,25"), number("-3"), number("1e-4")], [Some(0.25), Some(0.25), Some(-3.0), Some(1e-4)]);
        assert_eq!([number("1,234.5"), number("1,2,3"), number("x"), number("")], [None; 4]);
    }
}
