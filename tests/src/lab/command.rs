//! Running the programs of this machine, with their error output in our errors.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The command line as a person would type it, for errors.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs it with no input and returns what it did, whatever its exit code.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null());
    command.output().with_context(|| format!("running `{}`", line(command)))
}

/// Runs it and returns its output; an exit code other than 0 is an error with what it wrote to stderr.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "`{}`: {}: {}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
