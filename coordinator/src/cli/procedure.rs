//! `wavegate procedures` and `wavegate procedure ...`: what ships, what it does, and whether one's own is right. They
//! need no coordinator.

use super::output::Output;
use super::{CliError, Exit, render};
use serde_json::json;
use std::path::{Path, PathBuf};
use wavegate_common::procedure::{Procedure, shipped, shipped_names};

/// What can be done with procedures.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show a shipped procedure: its parameters and steps
    Show {
        /// Its name, as `wavegate procedures` lists it
        #[arg(default_value = "calico-openstack")]
        name: String,
        /// Print its text instead: the place to start for a procedure of your own
        #[arg(long)]
        text: bool,
    },
    /// Check a procedure of your own: every mistake with file, line and column
    Check {
        /// The procedure's file
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command, output: &Output) -> Result<Exit, CliError> {
    match command {
        Command::Show { name, text } => show(name, *text, output),
        Command::Check { file } => check(file, output),
    }
}

pub(super) fn list(output: &Output) -> Result<Exit, CliError> {
    let procedures = shipped_names().map(of_name).collect::<Result<Vec<_>, _>>()?;
    if output.is_json() {
        let json: Vec<_> = procedures
            .iter()
            .map(|(_, p)| json!({ "name": p.name, "version": p.version, "title": p.title, "digest": p.digest }))
            .collect();
        output.write(&format!("{:#}\n", json!(json)))?;
    } else {
        output.write(&render::procedure::list(
            procedures.iter().map(|(_, procedure)| procedure),
            &output.look,
        ))?;
    }
    Ok(Exit::Ok)
}

fn of_name(name: &str) -> Result<(&'static str, Procedure), CliError> {
    let known = || shipped_names().collect::<Vec<_>>().join(", ");
    let unknown =
        || CliError::Usage { what: format!("there is no procedure '{name}'; there is: {}", known()) };
    let (file, text) = shipped(name).ok_or_else(unknown)?;
    Ok((text, Procedure::parse(file, text).map_err(anyhow::Error::from)?))
}

fn show(name: &str, whole_text: bool, output: &Output) -> Result<Exit, CliError> {
    let (text, procedure) = of_name(name)?;
    let shown = if output.is_json() {
        let json = json!({ "name": procedure.name, "version": procedure.version, "digest": procedure.digest, "text": text });
        format!("{json:#}\n")
    } else if whole_text {
        text.to_owned()
    } else {
        render::procedure::procedure(&procedure, &output.look)
    };
    output.write(&shown)?;
    Ok(Exit::Ok)
}

fn check(path: &Path, output: &Output) -> Result<Exit, CliError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.into(), source })?;
    let (exit, shown) = checked(&path.display().to_string(), &text, output.is_json());
    output.write(&shown)?;
    Ok(exit)
}

fn checked(file: &str, text: &str, as_json: bool) -> (Exit, String) {
    match Procedure::parse(file, text) {
        Ok(_) if as_json => (Exit::Ok, "{\n  \"errors\": []\n}\n".to_owned()),
        Ok(procedure) => {
            let steps: usize = procedure.stages.iter().map(|stage| stage.steps.len()).sum();
            let (name, stages) = (procedure.name, procedure.stages.len());
            (Exit::Ok, format!("{file}: procedure {name} is right: {stages} stages, {steps} steps\n"))
        }
        Err(wrong) if as_json => {
            let errors: Vec<_> =
                wrong.0.iter().map(|d| json!({ "place": d.place, "message": d.message })).collect();
            (Exit::Problems, format!("{:#}\n", json!({ "errors": errors })))
        }
        Err(wrong) => (Exit::Problems, format!("{}\n", super::document::printable(&wrong.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_procedures_are_right() {
        for name in shipped_names() {
            let (file, text) = shipped(name).expect(name);
            let (exit, said) = checked(file, text, false);
            assert_eq!(exit, Exit::Ok, "{said}");
        }
        assert!(of_name("nothing").expect_err("there is none").to_string().contains("calico-openstack"));
    }

    #[test]
    fn mistakes_are_said_with_their_place() {
        let (exit, said) = checked("mine.toml", "[procedure]\nname = 1\n", false);
        assert_eq!(exit, Exit::Problems);
        assert!(said.contains("mine.toml:2:"), "{said}");
        let (_, said) = checked("mine.toml", "x", true);
        assert!(said.starts_with("{\n  \"errors\": [\n"), "{said}");
    }
}
