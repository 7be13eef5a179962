//! What a training is about to see, in words: the classes, and how many samples of each a part has.

use std::collections::BTreeMap;

/// Classes that are all named.
const NAMED: usize = 10;
/// Names at either end of a longer list.
const ENDS: usize = 3;

/// `100 classes: apple, aquarium_fish, baby … wolf, woman, worm`
pub(super) fn classes_in_words(classes: &[String]) -> String {
    let names = match classes.len() {
        ..=NAMED => classes.join(", "),
        many => format!("{} … {}", classes[..ENDS].join(", "), classes[many - ENDS..].join(", ")),
    };
    format!("{} classes: {names}", classes.len())
}

/// `train: normal 6, tumour 8; valid: …`; of more than ten classes the smallest and the largest: `train: 1117, of each class 3 (bed) to 22 (apple)`.
pub(super) fn counts_in_words(parts: &BTreeMap<String, Vec<usize>>, classes: &[String]) -> String {
    let part = |(name, counts): (&String, &Vec<usize>)| {
        let of = || classes.iter().zip(counts);
        if classes.len() <= NAMED {
            let of: Vec<String> = of().map(|(class, count)| format!("{class} {count}")).collect();
            return format!("{name}: {}", of.join(", "));
        }
        let all: usize = counts.iter().sum();
        match (of().min_by_key(|(_, count)| **count), of().rev().max_by_key(|(_, count)| **count)) {
            (Some((rare, fewest)), Some((frequent, most))) if fewest < most => {
                format!("{name}: {all}, of each class {fewest} ({rare}) to {most} ({frequent})")
            }
            (Some((_, each)), _) if all > 0 => format!("{name}: {all}, of each class {each}"),
            _ => format!("{name}: none"),
        }
    };
    ["train", "valid", "test"].iter().filter_map(|name| parts.get_key_value(*name)).map(part).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_classes_are_all_named_and_of_many_the_extremes() {
        let parts = |counts: &[(&str, &[usize])]| counts.iter().map(|(name, counts)| ((*name).to_owned(), counts.to_vec())).collect();
        let two = ["normal", "tumour"].map(str::to_owned);
        assert_eq!(classes_in_words(&two), "2 classes: normal, tumour");
        assert_eq!(
            counts_in_words(&parts(&[("train", &[6, 8]), ("test", &[1, 0])]), &two),
            "train: normal 6, tumour 8; test: normal 1, tumour 0"
        );

        let many: Vec<String> = (0..12).map(|class| format!("c{class:02}")).collect();
        assert_eq!(classes_in_words(&many), "12 classes: c00, c01, c02 … c09, c10, c11");
        let mut uneven = [5; 12];
        (uneven[4], uneven[7]) = (2, 9);
        let said = counts_in_words(&parts(&[("train", &uneven), ("valid", &[0; 12]), ("test", &[3; 12])]), &many);
        assert_eq!(said, "train: 61, of each class 2 (c04) to 9 (c07); valid: none; test: 36, of each class 3");
    }
}
