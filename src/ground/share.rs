//! A share that people write as `1%` or `0.01`, and how much it is of something.

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

/// How many of `all` a share allows. A product that misses a whole number by rounding is that number.
pub fn allowed(share: f64, all: usize) -> usize {
    (share * all as f64 + 1e-9).floor() as usize
}

/// A share as people write it: `1%`.
pub fn percent(share: f64) -> String {
    format!("{}%", (share * 1e8).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_plain() {
        assert_eq!((parse("1%"), parse("0.25"), parse("100 %")), (Ok(0.01), Ok(0.25), Ok(1.0)));
        assert_eq!([allowed(0.29, 100), allowed(0.01, 99), allowed(0.0, 5), allowed(1.0, 5)], [29, 0, 0, 5]);
        assert_eq!([percent(0.07), percent(0.0), percent(0.005)], ["7%", "0%", "0.5%"]);
        assert!(["101%", "2", "-1%", "x", "", "%"].iter().all(|text| parse(text).is_err()));
    }
}
