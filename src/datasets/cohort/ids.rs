//! Slide ids as people and spreadsheets write them: with extensions, with `.0`, without leading zeros, as dates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

/// Extensions of slides, bags and their archives; nothing else is cut off an id, for ids may hold dots.
pub(super) const EXTENSIONS: [&str; 17] =
    ["svs", "tif", "tiff", "ndpi", "mrxs", "scn", "bif", "vms", "vmu", "svslide", "czi", "zvi", "qptiff", "dcm", "h5", "pt", "zip"];

/// A slide's id: the last part of a path, without known extensions, without the `.0` of a number that went through a spreadsheet.
pub fn slide_id(cell: &str) -> String {
    let mut id = cell.trim().rsplit(['/', '\\']).next().unwrap_or_default();
    while let Some((stem, extension)) = id.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        if !EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)) {
            break;
        }
        id = stem;
    }
    whole(id).to_owned()
}

/// `1003691` for `1003691.0`; anything else as it is.
pub(super) fn whole(cell: &str) -> &str {
    cell.strip_suffix(".0").filter(|number| is_digits(number)).unwrap_or(cell)
}

/// Why an id cannot be what it was before a spreadsheet opened it; `None` where nothing speaks against it.
pub(super) fn damage(id: &str) -> Option<&'static str> {
    static SCIENTIFIC: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)^[0-9]+([.,][0-9]+)?e\+[0-9]+$").expect("valid"));
    const MONTH: &str =
        "(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?)";
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        let numbers = r"[0-9]{1,2}([./-])[0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})|[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:.]+)?";
        Regex::new(&format!(r"(?i)^({numbers}|[0-9]{{1,2}}-{MONTH}(-[0-9]{{2,4}})?|{MONTH}-[0-9]{{1,4}})$")).expect("valid")
    });
    if SCIENTIFIC.is_match(id) {
        return Some("a spreadsheet rounded the id to scientific notation, its digits are lost; export the table again with ids as text");
    }
    DATE.is_match(id).then_some("a spreadsheet took the id for a date; export the table again with ids as text")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Which label belongs to which bag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matched {
    /// Index of the label, index of the bag; ascending by label.
    pub pairs: Vec<(usize, usize)>,
    /// Indices of labels that no bag fits.
    pub labels_without_bag: Vec<usize>,
    /// Indices of bags that no label fits.
    pub bags_without_label: Vec<usize>,
    /// Labels whose lost leading zeros were put back: as written, as the bag says.
    pub repaired: Vec<(String, String)>,
    /// Labels that fit several bags, or bags that several labels fit: as written, and why nothing was chosen.
    pub ambiguous: Vec<(String, String)>,
}

/// Joins labels to bags by their ids: equal ids, else equal [`slide_id`]s, else equal numbers where leading zeros were lost.
///
/// A label of digits that no bag fits gets the one bag whose id is the same number with leading zeros, if there is exactly one and
/// no other label fits it. Neither list needs an order; every index is in one place.
pub fn match_ids(labels: &[String], bags: &[String]) -> Matched {
    let mut by_id: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_number: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, bag) in bags.iter().enumerate() {
        by_id.entry(slide_id(bag)).or_default().push(index);
        if is_digits(bag) {
            by_number.entry(bag.trim_start_matches('0')).or_default().push(index);
        }
    }
    let names = |indices: &[usize]| indices.iter().map(|&bag| format!("'{}'", bags[bag])).collect::<Vec<_>>().join(", ");
    let mut matched = Matched::default();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new(); // bag → label
    let mut take = |matched: &mut Matched, label: usize, bag: usize| match taken.insert(bag, label) {
        None => matched.pairs.push((label, bag)),
        Some(other) => {
            matched.ambiguous.push((labels[label].clone(), format!("bag '{}' also fits the label of '{}'", bags[bag], labels[other])));
        }
    };
    let mut zeros_lost = Vec::new();
    for (label, id) in labels.iter().enumerate() {
        let found = by_id.get(&slide_id(id)).map_or(&[][..], Vec::as_slice);
        match (found, found.iter().find(|&&bag| bags[bag] == *id)) {
            ([bag], _) | (_, Some(bag)) => take(&mut matched, label, *bag),
            ([], _) => zeros_lost.push(label),
            (several, _) => matched.ambiguous.push((id.clone(), format!("fits the bags {}", names(several)))),
        }
    }
    for label in zeros_lost {
        let id = &labels[label];
        let found = if is_digits(id) { by_number.get(id.trim_start_matches('0')).map_or(&[][..], Vec::as_slice) } else { &[] };
        match found {
            [] => matched.labels_without_bag.push(label),
            [bag] => {
                matched.repaired.push((id.clone(), bags[*bag].clone()));
                take(&mut matched, label, *bag);
            }
            several => matched.ambiguous.push((id.clone(), format!("without its leading zeros it could be {}", names(several)))),
        }
    }
    matched.pairs.sort_unstable();
    let joined: BTreeSet<usize> = matched.pairs.iter().map(|(_, bag)| *bag).collect();
    matched.bags_without_label = (0..bags.len()).filter(|bag| !joined.contains(bag)).collect();
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn ids_lose_paths_known_extensions_and_spreadsheet_decimals() {
        for (cell, id) in [
            ("patient_000_node_0.tif", "patient_000_node_0"),
            (" a/b/BRACS_1228.SVS ", "BRACS_1228"),
            (r"C:\slides\x.ome.tiff", "x.ome"),
            ("x.svs.h5", "x"),
            ("1003691.0", "1003691"),
            ("TCGA-A1.B2C3", "TCGA-A1.B2C3"),
            ("v1.0", "v1.0"),
            (".tif", ".tif"),
            ("007", "007"),
        ] {
            assert_eq!(slide_id(cell), id, "{cell}");
        }
    }

    #[test]
    fn damage_that_cannot_be_undone_is_seen() {
        for id in ["1.00E+06", "1,2e+11", "2E+05"] {
            assert!(damage(id).unwrap().contains("scientific"), "{id}");
        }
        for id in ["2024-01-31", "31.01.2024", "1/2/24", "5-Mar", "Mar-05", "05-march-2024", "2024-01-31 00:00:00"] {
            assert!(damage(id).unwrap().contains("date"), "{id}");
        }
        for id in ["1E5", "patient_000", "12-3", "2024_01_31", "1003691", "S-2024-01-31", "12.3.4567.8", "may_1", "marker-1"] {
            assert_eq!(damage(id), None, "{id}");
        }
    }

    #[test]
    fn labels_and_bags_are_joined_once() {
        let matched = match_ids(&strings(&["b.tif", "a", "lost", "12"]), &strings(&["a", "b", "extra", "12"]));
        assert_eq!(matched.pairs, [(0, 1), (1, 0), (3, 3)]);
        assert_eq!((matched.labels_without_bag, matched.bags_without_label), (vec![2], vec![2]));
        assert!(matched.repaired.is_empty() && matched.ambiguous.is_empty());
    }

    #[test]
    fn leading_zeros_come_back_only_where_one_slide_fits() {
        let matched = match_ids(&strings(&["7", "0012", "5", "A7"]), &strings(&["007", "12", "05", "005"]));
        assert_eq!(matched.pairs, [(0, 0), (1, 1)]);
        assert_eq!(matched.repaired, [("7".to_owned(), "007".to_owned()), ("0012".into(), "12".into())]);
        assert_eq!(matched.labels_without_bag, [3]);
        assert!(matched.ambiguous[0].0 == "5" && matched.ambiguous[0].1.contains("'05', '005'"), "{:?}", matched.ambiguous);
        let both = match_ids(&strings(&["7", "007"]), &strings(&["007"]));
        assert_eq!(both.pairs, [(1, 0)], "an equal id comes first");
        assert!(both.ambiguous[0].1.contains("also fits"), "{:?}", both.ambiguous);
    }

    #[test]
    fn a_bag_keeps_its_own_name() {
        let matched = match_ids(&strings(&["x", "y.svs"]), &strings(&["x.svs", "y", "y.svs"]));
        assert_eq!(matched.pairs, [(0, 0), (1, 2)]);
        let several = match_ids(&strings(&["y"]), &strings(&["y.tif", "y.svs"]));
        assert!(several.pairs.is_empty() && several.ambiguous[0].1.contains("'y.tif', 'y.svs'"));
    }
}
