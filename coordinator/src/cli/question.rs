//! One question to whoever sits at the terminal.

use super::error::CliError;
use std::io::{self, BufRead, IsTerminal, Write};

/// Whether somebody can be asked.
///
/// # Errors
/// [`CliError::Usage`] if standard input is no terminal.
pub fn possible() -> Result<(), CliError> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let what = "this asks before it does anything, and standard input is no terminal; say --yes to do it without a question";
    Err(CliError::Usage { what: what.to_owned() })
}

/// Asks, and takes only `y` or `yes` for a yes. Scripts say `--yes` instead.
///
/// # Errors
/// [`CliError::Declined`] for every other answer.
pub fn ask(question: &str) -> Result<(), CliError> {
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(CliError::Output)?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| CliError::File { path: "standard input".into(), source })?;
    if is_yes(&answer) { Ok(()) } else { Err(CliError::Declined) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(["y\n", "Y\n", " yes \n"].into_iter().all(is_yes));
        assert!(!["", "\n", "n\n", "yep\n", "yes please\n"].into_iter().any(is_yes));
    }
}
