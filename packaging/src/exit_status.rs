//! Exit codes as the programs' own help lists them, read so that manual pages can show the same.

/// The codes in a help text: a line that says `Exit codes:`, then `NUMBER  TEXT`, which lines further in go on with.
pub fn listed(help: &str) -> Vec<(String, String)> {
    let mut codes: Vec<(String, String)> = Vec::new();
    for line in help.lines().skip_while(|line| !line.starts_with("Exit codes:")).skip(1) {
        let line = line.trim();
        match (line.split_once(' '), codes.last_mut()) {
            (Some((code, text)), _) if code.parse::<u8>().is_ok() => {
                codes.push((code.to_owned(), text.trim().to_owned()));
            }
            (_, Some((_, text))) if !line.is_empty() => {
                text.push(' ');
                text.push_str(line);
            }
            _ => break,
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::programs;

    #[test]
    fn lines_further_in_belong_to_the_code_before() {
        let codes = listed("Words.\n\nExit codes:\n  0   done\n  12  not done:\n      at all\n\nMore words");
        insta::assert_debug_snapshot!(codes, @r#"
        [
            (
                "0",
                "done",
            ),
            (
                "12",
                "not done: at all",
            ),
        ]
        "#);
    }

    #[test]
    fn every_program_lists_its_codes() {
        for program in programs() {
            let help = program.command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let codes = listed(&help);
            assert_eq!(
                codes.first().map(|(code, _)| code.as_str()),
                Some("0"),
                "{}",
                program.command.get_name()
            );
            assert!(codes.len() > 2, "{codes:?}");
        }
    }
}
