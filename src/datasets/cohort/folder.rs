//! Labels told by folders: `<class>/<slide>.*`, `<part>/<class>/<slide>.*`, or BRACS's `<part>/Group_X/Type_Y/<slide>.svs`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::ids::EXTENSIONS;
use super::offenders::Offenders;
use super::rows::Row;

/// BRACS writes `Type_IC` for the class IC.
const CLASS_PREFIX: &str = "Type_";
/// Part, group, class.
const DEEPEST: usize = 3;

/// One row a file with a slide's or a bag's extension, sorted by path; other files and hidden names are passed over.
///
/// The class is the last folder's name without `Type_`; above it stands the part, if anything does.
///
/// # Errors
/// A folder that cannot be read, one without slides, every slide that lies beside the class folders or too deep.
pub(super) fn rows(root: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut wrong = Offenders::default();
    for file in files(root)? {
        let parts: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let place = parts.join("/");
        let folders = &parts[..parts.len() - 1];
        let Some(class) = folders.last() else {
            wrong.add("slides outside the class folders; put each into a folder that is called as its class", place);
            continue;
        };
        if folders.len() > DEEPEST {
            wrong.add("slides below more than three folders; wanted are class/slide, part/class/slide or part/group/class/slide", place);
            continue;
        }
        rows.push(Row {
            slide: parts[parts.len() - 1].clone(),
            label: class.strip_prefix(CLASS_PREFIX).unwrap_or(class).to_owned(),
            part: (folders.len() > 1).then(|| folders[0].clone()),
            place,
            ..Row::default()
        });
    }
    wrong.refuse(format_args!("'{}'", root.display()))?;
    ensure!(!rows.is_empty(), "no slides or bags below '{}'; known file types: {}", root.display(), EXTENSIONS.join(", "));
    // A cohort has official parts or it has none: what stands outside them is an empty part, which is refused with its name.
    if rows.iter().any(|row| row.part.is_some()) {
        rows.iter_mut().for_each(|row| row.part = Some(row.part.take().unwrap_or_default()));
    }
    Ok(rows)
}

/// Slides and bags below `root`, as paths inside it, sorted.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(root, &PathBuf::new(), &mut found)?;
    found.sort();
    Ok(found)
}

/// One folder deeper than may be, so that what lies too deep is named, and links in a circle end.
fn walk(root: &Path, inside: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(inside);
    let context = || format!("cannot read the folder '{}'", folder.display());
    for entry in std::fs::read_dir(&folder).with_context(context)? {
        let name = entry.with_context(context)?.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let path = inside.join(&name);
        if root.join(&path).is_dir() {
            if path.iter().count() <= DEEPEST + 1 {
                walk(root, &path, found)?;
            }
        } else if is_slide(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_slide(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    extension != "zip" && EXTENSIONS.contains(&extension.as_str())
}
