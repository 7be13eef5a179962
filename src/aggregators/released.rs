//! Parameter names of released implementations, so that their checkpoints can be read under our names.

/// The names of one implementation.
pub struct ReleasedNames {
    /// Repository and class.
    pub source: &'static str,
    /// Their name → ours, without `.weight` and `.bias`. `{k}` is any number. Ours is relative to the aggregator, but `head…`
    /// is the model's head (`head.{k}`: row k, columns of branch k, the rest 0).
    pub pairs: &'static [(&'static str, &'static str)],
    /// Theirs that no output depends on.
    pub unused: &'static [&'static str],
}

impl ReleasedNames {
    /// Our name of the tensor that they call `theirs`; `None` for a name that is not in the list.
    pub fn ours(&self, theirs: &str) -> Option<String> {
        self.pairs.iter().find_map(|(pattern, ours)| {
            let (number, part) = matched(pattern, theirs)?;
            Some(ours.replace("{k}", number) + part)
        })
    }

    /// Whether `theirs` is a tensor that no output depends on.
    pub fn is_unused(&self, theirs: &str) -> bool {
        self.unused.iter().any(|pattern| matched(pattern, theirs).is_some())
    }
}

/// The number that stands for `{k}` and the rest: nothing, `.weight` or `.bias`.
fn matched<'n>(pattern: &str, name: &'n str) -> Option<(&'n str, &'n str)> {
    let (number, part) = match pattern.split_once("{k}") {
        None => ("", name.strip_prefix(pattern)?),
        Some((before, after)) => {
            let rest = name.strip_prefix(before)?;
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            let (number, rest) = rest.split_at(digits);
            (number, rest.strip_prefix(after).filter(|_| digits > 0)?)
        }
    };
    ["", ".weight", ".bias"].contains(&part).then_some((number, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_and_numbers_are_kept() {
        let names = ReleasedNames { source: "", pairs: &[("a.0", "x"), ("b.{k}.fc", "y.{k}"), ("q", "queries")], unused: &["bn"] };
        assert_eq!(names.ours("a.0.weight").as_deref(), Some("x.weight"));
        assert_eq!(names.ours("b.12.fc.bias").as_deref(), Some("y.12.bias"));
        assert_eq!(names.ours("q").as_deref(), Some("queries"));
        assert_eq!([names.ours("a.01.weight"), names.ours("b..fc.bias"), names.ours("a.0.running_mean")], [None, None, None]);
        assert!(names.is_unused("bn.weight") && !names.is_unused("q"));
    }
}
