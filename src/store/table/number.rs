//! Numbers in text, as people of all countries write them.

/// A number with a decimal point or a decimal comma; one with both is refused, for then the comma parts thousands or the text is
/// damaged.
pub fn number(cell: &str) -> Option<f64> {
    if cell.contains('.') { cell.parse().ok() } else { cell.replacen(',', ".", 1).parse().ok() }
}
