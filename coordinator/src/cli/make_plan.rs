//! Asking the coordinator for a plan: the arguments that `plan` and `upgrade` share, and the wait for the nodes' answers.

use super::document;
use super::error::CliError;
use super::output::Output;
use super::waves::WaveArgs;
use super::{Invocation, render};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;
use wavegate_proto::v1;
use wavegate_proto::v1::make_plan_response::Message;

/// What a plan is made of.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// The shipped procedure
    #[arg(long, default_value = "calico-openstack", value_name = "NAME", conflicts_with = "procedure_file")]
    procedure: String,
    /// A procedure of your own, in place of a shipped one
    #[arg(long, value_name = "FILE")]
    procedure_file: Option<PathBuf>,
    /// Values of the procedure's parameters (TOML)
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
    /// Value of one parameter; wins over the file. May be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<String>,
    #[command(flatten)]
    waves: WaveArgs,
}

fn setting(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl PlanArgs {
    /// The request, with the files read.
    fn request(&self) -> Result<v1::MakePlanRequest, CliError> {
        let (procedure_file, procedure_text) = read(self.procedure_file.as_ref())?;
        if self.procedure_file.is_some() && procedure_text.trim().is_empty() {
            // No text would mean the shipped procedure, which is not what was asked for.
            return Err(CliError::Usage {
                what: format!("{procedure_file} is empty; it must be a procedure"),
            });
        }
        let (parameters_file, parameters_text) = read(self.parameters.as_ref())?;
        Ok(v1::MakePlanRequest {
            procedure: self.procedure.clone(),
            procedure_text,
            procedure_file,
            parameters_text,
            parameters_file,
            settings: self.set.clone(),
            limits: self.waves.limits(),
        })
    }
}

/// A file's name and text; both empty for none.
fn read(path: Option<&PathBuf>) -> Result<(String, String), CliError> {
    let Some(path) = path else { return Ok(Default::default()) };
    let text =
        std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.clone(), source })?;
    Ok((path.display().to_string(), text))
}

/// Has a plan made. Gives the document as it came.
///
/// # Errors
/// What the coordinator says against it.
pub(super) async fn make_plan(invocation: &Invocation, args: &PlanArgs) -> Result<v1::Document, CliError> {
    let request = args.request()?;
    let mut answers = invocation.connect().await?.make_plan(request).await?.into_inner();
    let wait = Wait::begin(&invocation.output);
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(Message::Plan(document)) => return Ok(document),
            Some(Message::Progress(progress)) => wait.say(&asked(&progress)),
            None => {}
        }
    }
    Err(CliError::Incomplete("no plan came"))
}

fn asked(progress: &v1::PlanProgress) -> String {
    let v1::PlanProgress { nodes_asked, nodes_answered, waiting_for } = progress;
    let mut text = format!("asking the nodes what would change: {nodes_answered} of {nodes_asked} answered");
    if !waiting_for.is_empty() {
        text.push_str(&format!(", waiting for {}", document::printable(&waiting_for.join(", "))));
    }
    render::cut(&text, super::output::width().saturating_sub(2))
}

/// The wait, shown where somebody looks on.
struct Wait(Option<ProgressBar>);

impl Wait {
    fn begin(output: &Output) -> Self {
        Self(output.live.then(|| {
            let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message("asking the nodes what would change");
            bar
        }))
    }

    fn say(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_owned());
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn args(line: &str) -> PlanArgs {
        Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}")).plan
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = args("plan --parameters /nowhere/site.toml").request().expect_err("no file").to_string();
        assert_eq!(error, "/nowhere/site.toml cannot be read");
    }

    #[test]
    fn an_empty_procedure_is_not_the_shipped_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let line = format!("plan --procedure-file {}", file.path().display());
        let error = args(&line).request().expect_err("empty").to_string();
        assert!(error.ends_with("is empty; it must be a procedure"), "{error}");
    }

    #[test]
    fn the_wait_names_who_has_not_answered() {
        let progress = v1::PlanProgress {
            nodes_asked: 3,
            nodes_answered: 2,
            waiting_for: vec!["compute-2\u{1b}".into()],
        };
        insta::assert_snapshot!(asked(&progress), @"asking the nodes what would change: 2 of 3 answered, waiting for compute-2�");
    }
}
