//! A share that people write as `1%` or `0.01`.

/// Reads a share from 0 to 1.
///
/// # Errors
/// Text that is no number, or lies outside.
pub fn parse(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| format!("'{text}' is no share; it wants 0 to 1, or 0% to 100%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_plain() {
        assert_eq!((parse("1%"), parse("0.25"), parse("100 %")), (Ok(0.01), Ok(0.25), Ok(1.0)));
        assert!(["101%", "2", "-1%", "x", "", "%"].iter().all(|text| parse(text).is_err()));
    }
}
