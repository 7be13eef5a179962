//! Many offenders in one error: the first of them, and how many more there are.

/// Offenders that are printed.
const SHOWN: usize = 20;

/// The items separated by `separator`; after the first 20, how many more there are.
pub fn listing<T: std::fmt::Display>(items: &[T], separator: &str) -> String {
    let shown = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(separator);
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}{separator}and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_counted() {
        assert_eq!(listing(&["a", "b"], ", "), "a, b");
        let many: Vec<usize> = (0..23).collect();
        assert!(listing(&many, ", ").ends_with("18, 19, and 3 more"));
    }
}
