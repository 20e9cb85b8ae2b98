//! The procedure as data: what to do, stage by stage, role by role, platform by platform. What becomes of it on a
//! fleet is `crate::plan`'s business.
//!
//! The text is TOML, written and read by people; [`Procedure::parse`] checks all of it and says everything that is
//! wrong at once.

mod arguments;
mod condition;
pub(crate) mod diagnostic;
pub(crate) mod fields;
mod parameters;
mod parse;
mod schema;
mod site;
mod steps;
mod template;
mod value;
mod waves;

pub(crate) use condition::release_of;
pub use condition::{Condition, Verdict};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use schema::{ACTIONS, ActionSchema, ArgumentSchema, Kind};
pub use site::{SiteFile, Values};
pub use template::{Argument, Lookup, Template};
pub use value::{AUTO, Type, Value};

use crate::action::Action;
use crate::id::StepId;
use crate::platform::{OsFamily, Role, Stage};
use crate::waves::WavePolicy;
use std::collections::{BTreeMap, BTreeSet};

/// A procedure whose text has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Procedure {
    /// Its name.
    pub name: String,
    /// Its version, changed by whoever changes it.
    pub version: String,
    /// What it upgrades, for people.
    pub title: String,
    /// The platforms it has steps for, in every stage.
    pub platforms: BTreeSet<OsFamily>,
    /// What a site may vary, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// The stages, in order.
    pub stages: Vec<StageSteps>,
    /// SHA-256 of the text, hexadecimal.
    pub digest: String,
}

/// Something that a site may vary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What its value must be.
    pub kind: Type,
    /// The value where a site sets none. Without one a site must set it, if a step of its plan uses it.
    pub default: Option<Value>,
    /// What it is for, in a line.
    pub help: String,
}

/// One stage of a procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSteps {
    /// Which.
    pub stage: Stage,
    /// Nodes with one of these roles take part; the order of the roles is the order of work.
    pub roles: Vec<Role>,
    /// How its nodes are put into waves, unless the operator says otherwise.
    pub waves: WavePolicy,
    /// Conditions on every step of the stage.
    pub when: Vec<Condition>,
    /// The steps, in order, for all platforms.
    pub steps: Vec<Step>,
}

/// One step of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its id, unique in its stage on each platform.
    pub id: StepId,
    /// What it is, for people.
    pub title: String,
    /// What it is on the page of commands that the procedure comes from.
    pub page: String,
    /// The platforms that have it.
    pub platforms: BTreeSet<OsFamily>,
    /// The roles that have it: a node with one of these. Those of the stage, where the step names none.
    pub roles: BTreeSet<Role>,
    /// Conditions that must all hold; a step of which one does not is shown as skipped.
    pub when: Vec<Condition>,
    /// What it does.
    pub action: &'static ActionSchema,
    /// The action's arguments.
    pub with: BTreeMap<&'static str, Argument>,
    /// After so many seconds it has failed.
    pub timeout_s: Argument,
}

/// Why a step can't be made into an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It uses a parameter without a value.
    #[error("parameter {parameter} has no value")]
    Missing {
        /// The parameter.
        parameter: String,
    },
    /// A value does not fit where it is used.
    #[error("{what}")]
    Wrong {
        /// What is wrong; what would be right.
        what: String,
    },
}

impl Step {
    /// The action with the parameters' values filled in, and its time limit in seconds.
    ///
    /// # Errors
    /// Every parameter without a value, and every value that does not fit.
    pub fn build(&self, value: Lookup<'_>) -> Result<(Action, u64), Vec<BuildError>> {
        let mut errors = Vec::new();
        let mut arguments = serde_json::Map::new();
        arguments.insert("action".to_owned(), self.action.name.into());
        let (mut longest, mut settle) = (0, None);
        for argument in self.action.arguments {
            let Some(written) = self.with.get(argument.name) else { continue };
            match self.fill(argument, written, value) {
                Ok(Value::Number(seconds)) if argument.name == schema::WITHIN => {
                    longest = seconds;
                    arguments.insert(argument.name.to_owned(), seconds.into());
                }
                Ok(Value::Number(seconds)) if argument.name == schema::SETTLE => {
                    settle = Some(seconds);
                    arguments.insert(argument.name.to_owned(), seconds.into());
                }
                Ok(filled) => drop(arguments.insert(argument.name.to_owned(), serde_json::json!(filled))),
                Err(wrong) => errors.extend(wrong),
            }
        }
        if let Some(settle) = settle.filter(|settle| *settle >= longest) {
            let (within, own) = (schema::WITHIN, schema::SETTLE);
            let what = format!("{own} {settle} does not fit in {within} {longest}; make {within} greater");
            errors.push(BuildError::Wrong { what });
        }
        let timeout_s =
            self.time_limit(longest, value).map_err(|wrong| errors.extend(wrong)).unwrap_or_default();
        if !errors.is_empty() {
            errors.dedup();
            return Err(errors);
        }
        let action = serde_json::from_value(arguments.into()).map_err(|error| {
            vec![BuildError::Wrong {
                what: format!("{} cannot be made of its arguments: {error}", self.action.name),
            }]
        })?;
        Ok((action, timeout_s))
    }

    fn fill(
        &self,
        argument: &ArgumentSchema,
        written: &Argument,
        value: Lookup<'_>,
    ) -> Result<Value, Vec<BuildError>> {
        let filled = written.render(value).map_err(missing)?;
        argument.accept(filled).map_err(|what| {
            let what = format!("argument '{}' of {}: {what}", argument.name, self.action.name);
            vec![BuildError::Wrong { what }]
        })
    }

    /// A check that looks for longer than its step may take would always end in the limit, never in an answer.
    fn time_limit(&self, longest: u64, value: Lookup<'_>) -> Result<u64, Vec<BuildError>> {
        let wrong = |what: String| Err(vec![BuildError::Wrong { what }]);
        match self.timeout_s.render(value).map_err(missing)? {
            Value::Number(limit) if limit > longest => Ok(limit),
            Value::Number(limit) if longest > 0 => wrong(format!(
                "timeout_s {limit} ends the step before {} {longest} is over; make timeout_s greater",
                schema::WITHIN
            )),
            other => {
                wrong(format!("timeout_s {other} leaves no time; it must be a number of seconds, 1 or more"))
            }
        }
    }
}

fn missing(parameters: Vec<String>) -> Vec<BuildError> {
    parameters.into_iter().map(|parameter| BuildError::Missing { parameter }).collect()
}

/// The procedures that ship with wavegate, by name: file name and text.
#[must_use]
pub fn shipped(name: &str) -> Option<(&'static str, &'static str)> {
    SHIPPED.iter().find(|(known, ..)| *known == name).map(|(_, file, text)| (*file, *text))
}

/// The names that [`shipped`] knows.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, ..)| *name)
}

const SHIPPED: &[(&str, &str, &str)] =
    &[("calico-openstack", "calico-openstack.toml", include_str!("../../procedures/calico-openstack.toml"))];

#[cfg(test)]
mod tests;
