//! Text as bash reads it.

/// Words as bash reads them back.
pub(super) fn quoted(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Text in which `$NAME` stands for a variable of the job, and nothing else has a meaning.
pub(super) fn with_variables(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('`', "\\`").replace("$(", "\\$("))
}

/// Means itself to bash and to sbatch.
pub(super) fn plain(letter: char) -> bool {
    letter.is_alphanumeric() || "-_./=:,@%+".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_reads_back_what_was_quoted() {
        let words =
            ["wsi", "a b", "it's", "$HOME", "`id`", "\"x\" \\", "", "split={name='column', test=['B']}", "ü#;&|*?~!\n"].map(str::to_owned);
        let script = format!("printf '%s\\0' {}", quoted(&words));
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        let read: Vec<String> = String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect();
        assert_eq!(read, words);
    }

    #[test]
    fn variables_of_the_job_stand_and_commands_do_not() {
        let shown = |text: &str| {
            let script = format!("A=/local; printf %s {}", with_variables(text));
            String::from_utf8(std::process::Command::new("bash").args(["-c", &script]).output().unwrap().stdout).unwrap()
        };
        assert_eq!(shown("$A/my \"tmp\""), "/local/my \"tmp\"");
        assert_eq!(shown("$(id)`id`\\"), "$(id)`id`\\");
    }
}
