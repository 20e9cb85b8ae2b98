//! Where a command's output goes and in which form. What it says is made in `render`.

use super::error::CliError;
use super::render::Look;
use jiff::tz::TimeZone;
use std::io::{self, IsTerminal, Write};

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document, or one a line where it goes on.
    Json,
}

/// Where output goes.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its form.
    pub format: Format,
    /// How it looks, for people.
    pub look: Look,
    /// Whether people look at it while it changes: standard output and error are terminals.
    pub live: bool,
}

/// Width where there is no terminal to ask.
const WIDTH: usize = 100;
/// Narrower tables can't be read.
const NARROWEST: usize = 60;

impl Output {
    /// The output of this process.
    #[must_use]
    pub fn of_process(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let look = Look { colour: terminal && !plain, width: width(), zone: TimeZone::system() };
        Self { format, look, live: terminal && io::stderr().is_terminal() && format == Format::Table }
    }

    /// Whether the output is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes text that ends its own lines.
    ///
    /// # Errors
    /// [`CliError::Output`]; [`CliError::OutputClosed`] if whoever read it went away.
    pub fn write(&self, text: &str) -> Result<(), CliError> {
        self.write_bytes(text.as_bytes())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => CliError::Output(error),
        })
    }

    /// Tells people something that is not the output itself; scripts that read the output don't see it.
    pub fn note(&self, text: &str) {
        // Nobody to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Columns of the terminal, or [`WIDTH`].
#[must_use]
pub fn width() -> usize {
    // A terminal that does not know its width says 0.
    let columns = comfy_table::Table::new().width().filter(|columns| *columns > 0);
    columns.map_or(WIDTH, |columns| usize::from(columns).max(NARROWEST))
}
