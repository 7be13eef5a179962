//! Which slides are meant: a folder, one file, or a table.
//!
//! A slide's id is its file name without the last extension, in every output and every label file; two slides of one id
//! are refused before any work starts. The files of one DICOM series are one slide.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::display_name;
use crate::store::pseudonym::Salt;
use crate::store::table;

/// One slide on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct SlideFile {
    /// File name without its last extension; a DICOM series of several files has its folder's name.
    pub id: String,
    /// Path inside the slide folder (or beside the table), with `/`; never absolute.
    pub file: String,
    /// Where to open it.
    pub path: PathBuf,
    /// The other files that belong to it: those of its DICOM series, or of MIRAX's folder beside it; sorted.
    pub companions: Vec<PathBuf>,
    /// µm per level-0 pixel from the table's `mpp` column, if it has one.
    pub mpp: Option<f64>,
    /// What `id` was before it became a pseudonym; never written anywhere.
    pub former_id: Option<String>,
}

impl SlideFile {
    fn new(id: String, file: String, path: PathBuf) -> Result<Self> {
        let companions = if extension(&path) == MIRAX { beside(&path.with_extension(""))? } else { Vec::new() };
        Ok(Self { id, file, path, companions, mpp: None, former_id: None })
    }

    /// What the slide is called where nobody sees it: in the names of files that belong to it.
    pub fn true_id(&self) -> &str {
        self.former_id.as_deref().unwrap_or(&self.id)
    }

    /// Every file of the slide, the one that is opened first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.companions).map(PathBuf::as_path)
    }

    /// The slide under a pseudonym: neither id nor file name tells what it was called.
    fn pseudonymous(self, salt: &Salt) -> Self {
        let id = salt.pseudonym(&self.id);
        Self { file: format!("{id}.{}", extension(&self.path)), id, former_id: Some(self.id), ..self }
    }

    /// A message about the slide without its former id and the name of its file, where it has a pseudonym.
    pub fn disguise(&self, message: &str) -> String {
        let Some(former) = &self.former_id else { return message.to_owned() };
        let name = display_name(&self.path);
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut names = [(name, &self.file), (stem, &self.id), (former.clone(), &self.id)];
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let (mut disguised, mut rest) = (String::new(), message);
        // One pass over whole words, so that a slide called `1` changes no number and no pseudonym is read again.
        while let Some(next) = rest.chars().next() {
            let within_word = disguised.chars().next_back().is_some_and(char::is_alphanumeric);
            let ends_word = |after: &str| !after.chars().next().is_some_and(char::is_alphanumeric);
            let found =
                names.iter().find(|(name, _)| !name.is_empty() && !within_word && rest.strip_prefix(&**name).is_some_and(ends_word));
            match found {
                Some((name, instead)) => {
                    disguised += instead;
                    rest = &rest[name.len()..];
                }
                None => {
                    disguised.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        disguised
    }
}

/// [`list`], under the pseudonyms that a salt gives, sorted by them.
///
/// # Errors
/// As [`list`]; with a salt without the reason, which names slides.
pub fn list_pseudonymous(path: &Path, salt: Option<&Salt>) -> Result<Vec<SlideFile>> {
    let Some(salt) = salt else { return list(path) };
    let slides = list(path).map_err(|_| anyhow!("the slides cannot be listed; the same call without --pseudonymise says which and why"))?;
    let mut slides: Vec<SlideFile> = slides.into_iter().map(|slide| slide.pseudonymous(salt)).collect();
    slides.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(slides)
}

/// Extensions of the formats OpenSlide reads; other files in a folder are no slides. Companions (`.dat` of MIRAX, tiles
/// of VMS) are not listed: the reader finds them.
const EXTENSIONS: [&str; 14] = ["svs", "tif", "tiff", "ndpi", "vms", "vmu", "scn", "mrxs", "bif", "svslide", "czi", "zvi", "qptiff", DICOM];
const DICOM: &str = "dcm";
const MIRAX: &str = "mrxs";

/// Extensions of tables that list slides.
const TABLES: [&str; 4] = ["csv", "tsv", "txt", "xlsx"];

/// Columns of a table that may name the slide, best first.
const SLIDE_COLUMNS: [&str; 6] = ["slide", "slide_id", "file", "filename", "path", "wsi"];

/// The slides of `path`, sorted by `file`: a folder (searched to its depths), one slide, or a table (CSV, XLSX) whose column `slide`,
/// `slide_id`, `file`, `filename`, `path` or `wsi` names a file, or an id to be found beside or below the table; its
/// optional column `mpp` gives pixel sizes to slides that state none.
///
/// # Errors
/// A missing path, a folder without slides, a row whose slide is not there, two slides with one id.
pub fn list(path: &Path) -> Result<Vec<SlideFile>> {
    let name = display_name(path);
    if !path.exists() {
        bail!("'{name}' does not exist; give a folder of slides, a slide or a table (CSV, XLSX)");
    }
    let mut slides = if path.is_dir() {
        let slides = in_folder(path)?;
        if slides.is_empty() {
            bail!("no slides in the folder '{name}'; known file types: {}", EXTENSIONS.join(", "));
        }
        slides
    } else if TABLES.contains(&extension(path).as_str()) {
        in_table(path)?
    } else {
        vec![SlideFile::new(id(path)?, name, path.to_owned())?]
    };
    slides.sort_by(|a, b| a.file.cmp(&b.file));
    refuse_duplicates(&slides)?;
    Ok(slides)
}

fn refuse_duplicates(slides: &[SlideFile]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for slide in slides {
        if let Some(former) = seen.insert(&slide.id, &slide.file) {
            bail!("two slides have the id '{}': '{former}' and '{}'; rename one, outputs are named by id", slide.id, slide.file);
        }
    }
    Ok(())
}

fn in_folder(root: &Path) -> Result<Vec<SlideFile>> {
    let mut files = Vec::new();
    walk(root, &mut HashSet::new(), &mut files)?;
    let (dicom, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| extension(path) == DICOM);

    let mut slides = Vec::new();
    for path in others {
        slides.push(SlideFile::new(id(&path)?, relative(&path, root), path)?);
    }
    let mut series: BTreeMap<(PathBuf, String), BTreeSet<PathBuf>> = BTreeMap::new();
    for path in dicom {
        let folder = path.parent().unwrap_or(root).to_owned();
        let uid = series_uid(&path)?.unwrap_or_else(|| display_name(&path));
        series.entry((folder, uid)).or_default().insert(path);
    }
    for ((folder, _), files) in &series {
        let alone = series.keys().filter(|(other, _)| other == folder).count() == 1;
        if let Some(first) = files.first() {
            let id = if alone && files.len() > 1 { display_name(&folder.canonicalize()?) } else { id(first)? };
            let companions = files.iter().skip(1).cloned().collect();
            slides.push(SlideFile { companions, ..SlideFile::new(id, relative(first, root), first.clone())? });
        }
    }
    Ok(slides)
}

/// Files with a known extension below `folder`, in any order; hidden names are skipped, links followed once.
fn walk(folder: &Path, visited: &mut HashSet<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read the folder '{}'; check its permissions", display_name(folder));
    if !visited.insert(folder.canonicalize().with_context(context)?) {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if display_name(&path).starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, visited, files)?;
        } else if EXTENSIONS.contains(&extension(&path).as_str()) {
            files.push(path);
        }
    }
    Ok(())
}

/// The files in MIRAX's folder of data, sorted; none where there is no such folder, which the reader will say.
fn beside(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder '{}'; check its permissions", display_name(folder));
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).with_context(context)?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(context)?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn in_table(table_path: &Path) -> Result<Vec<SlideFile>> {
    let name = display_name(table_path);
    let frame = table::read(table_path)?;
    let column = SLIDE_COLUMNS
        .into_iter()
        .find(|column| table::has(&frame, column))
        .ok_or_else(|| anyhow!("the table '{name}' names no slides; it needs one of the columns {}", SLIDE_COLUMNS.join(", ")))?;
    let mpp = if table::has(&frame, "mpp") { Some(table::text(&frame, "mpp", table_path)?) } else { None };
    let folder = table_path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));

    let mut beside: Option<Vec<SlideFile>> = None; // searched only if a row gives an id instead of a file
    let mut slides = Vec::new();
    for (row, named) in table::text(&frame, column, table_path)?.into_iter().enumerate() {
        let line = row + 2; // the header is line 1
        if named.is_empty() {
            bail!("the table '{name}', line {line}: the column '{column}' is empty");
        }
        let path = folder.join(&named);
        let mut slide = if path.is_file() {
            SlideFile::new(id(&path)?, relative(&path, folder), path)?
        } else {
            let found = match &mut beside {
                Some(found) => found,
                none => none.insert(in_folder(folder)?),
            };
            let same: Vec<_> = found.iter().filter(|slide| slide.id == named || slide.file == named).collect();
            match same[..] {
                [slide] => slide.clone(),
                [] => bail!("the table '{name}', line {line}: there is no slide '{}' beside or below the table", display_name(&path)),
                _ => bail!("the table '{name}', line {line}: '{named}' is the id of {} slides; rename all but one", same.len()),
            }
        };
        slide.mpp = mpp
            .as_ref()
            .map(|cells| table_mpp(&cells[row]))
            .transpose()
            .with_context(|| {
                format!("the table '{name}', line {line}: the column 'mpp' wants micrometres per pixel such as 0.25, or nothing")
            })?
            .flatten();
        slides.push(slide);
    }
    Ok(slides)
}

fn table_mpp(cell: &str) -> Result<Option<f64>> {
    if cell.is_empty() {
        return Ok(None);
    }
    let mpp = table::number(cell).ok_or_else(|| anyhow!("'{cell}' is not a number"))?;
    if !(mpp.is_finite() && mpp > 0.0) {
        bail!("'{cell}' is not a positive number");
    }
    Ok(Some(mpp))
}

fn extension(path: &Path) -> String {
    path.extension().map_or_else(String::new, |extension| extension.to_string_lossy().to_lowercase())
}

fn id(path: &Path) -> Result<String> {
    let stem = path.file_stem().ok_or_else(|| anyhow!("'{}' is no file name", path.display()))?;
    stem.to_str().map(str::to_owned).ok_or_else(|| anyhow!("the file name '{}' is not UTF-8; rename it", display_name(path)))
}

/// Inside `root` the path below it; outside it the file's name alone, so that no output holds an absolute path.
fn relative(path: &Path, root: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(inside) if !inside.components().any(|part| part == std::path::Component::ParentDir) => {
            inside.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
        }
        _ => display_name(path),
    }
}

/// `SeriesInstanceUID` (0020,000E) of a DICOM file, found by its tag in the header; `None` where it cannot be told.
///
/// The header precedes the pixels by the standard; 256 KiB hold it in any slide seen.
fn series_uid(path: &Path) -> Result<Option<String>> {
    use std::io::Read;
    let context = || format!("cannot read '{}'; check its permissions", display_name(path));
    let mut header = Vec::new();
    std::fs::File::open(path).with_context(context)?.take(256 << 10).read_to_end(&mut header).with_context(context)?;
    const EXPLICIT: [u8; 6] = [0x20, 0x00, 0x0E, 0x00, b'U', b'I']; // group, element, then value representation and u16 length
    let Some(start) = header.windows(EXPLICIT.len()).position(|window| window == EXPLICIT).map(|at| at + EXPLICIT.len()) else {
        return Ok(None);
    };
    let Some(&[low, high]) = header.get(start..start + 2) else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let uid = header.get(start + 2..start + 2 + length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(uid.map(|uid| uid.trim_end_matches(['\0', ' ']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disguise_covers_whole_words_once() {
        let slide = |name: &str| SlideFile {
            id: "c0ffee1".into(),
            file: "c0ffee1.svs".into(),
            path: name.into(),
            companions: Vec::new(),
            mpp: None,
            former_id: Some(name.rsplit_once('.').unwrap().0.into()),
        };
        let said = "cannot read 'Smith  John.svs' at x=1 (tile 11); Smith  John";
        assert_eq!(slide("Smith  John.svs").disguise(said), "cannot read 'c0ffee1.svs' at x=1 (tile 11); c0ffee1");
        assert_eq!(slide("1.svs").disguise("'1.svs': level 1 of 11, c0ffee1"), "'c0ffee1.svs': level c0ffee1 of 11, c0ffee1");
    }
}
