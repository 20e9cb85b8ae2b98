//! Warnings of a plan that whoever starts it says to know of: given on the command line, or asked for one by one. A general
//! yes covers none of them.

use super::{CliError, Invocation, question, render};
use wavegate_common::plan::Plan;

/// The argument of commands that start plans.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Acknowledge {
    /// Warning of the plan that is known and meant, by its id. May be given more than once
    #[arg(long = "acknowledge", value_name = "ID")]
    pub(super) ids: Vec<String>,
}

impl Acknowledge {
    /// Asks for each warning of the plan that was not given; gives all ids.
    ///
    /// # Errors
    /// [`CliError::Declined`] where one is not known.
    pub(super) fn ask(&self, invocation: &Invocation, plan: &Plan) -> Result<Vec<String>, CliError> {
        let mut known = self.ids.clone();
        for id in self.open(plan) {
            // People have them before their eyes, with the plan in short; who has the plan as JSON does not.
            let output = &invocation.output;
            for warning in plan.body.warnings.iter().filter(|warning| output.is_json() && warning.id == id) {
                output.note(&format!("\n{}", render::plan::warning(warning, &output.look).trim_end()));
            }
            question::ask(&format!("\nIs {id} known and meant?"))?;
            known.push(id.to_owned());
        }
        Ok(known)
    }

    fn open<'p>(&self, plan: &'p Plan) -> Vec<&'p str> {
        let given = |id: &&str| self.ids.iter().any(|known| known == id);
        render::plan::ids(plan).into_iter().filter(|id| !given(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::samples;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        acknowledge: Acknowledge,
    }

    #[test]
    fn what_was_not_given_is_open_and_each_id_once() {
        let mut plan = samples::plan();
        plan.body.warnings = samples::warnings();
        let open = |line: &str| {
            let line = Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
            line.acknowledge.open(&plan).join(" ")
        };
        assert_eq!(open("start"), "etcd-data-in-memory etcd-no-spare-member");
        assert_eq!(open("start --acknowledge etcd-no-spare-member"), "etcd-data-in-memory");
        assert_eq!(open("start --acknowledge etcd-no-spare-member --acknowledge etcd-data-in-memory"), "");
    }
}
