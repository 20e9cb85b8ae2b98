//! Reading a procedure's text: all of it is checked, and everything that is wrong is said at once.

use super::arguments::{read_arguments, read_conditions, read_seconds};
use super::diagnostic::{Diagnostics, Report, suggestion};
use super::fields::Fields;
use super::parameters::Parameters;
use super::schema::{ACTIONS, ActionSchema};
use super::template::Argument;
use super::{BuildError, Procedure, StageSteps, Step, refuse_zero};
use crate::id::StepId;
use crate::plan::Limits;
use crate::platform::{OsFamily, Role, Stage};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;

const STAGE_FIELDS: &[&str] =
    &["stage", "roles", "canary", "max_unavailable", "errors_allowed", "when", "steps"];
const STEP_FIELDS: &[&str] = &["id", "title", "page", "platforms", "when", "action", "with", "timeout_s"];

impl Procedure {
    /// Reads and checks a procedure; `file` is only for messages.
    ///
    /// # Errors
    /// Everything that is wrong, each with `file:line:column` and what would be right.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut report = Report::new(file, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            report.add(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()));
        }
        // What follows a syntax error was guessed by the parser; complaints about it would mislead.
        let procedure =
            if errors.is_empty() { Reader::read(&mut report, root.get_ref(), text) } else { None };
        match procedure {
            Some(procedure) if report.is_clean() => Ok(procedure),
            _ => Err(Diagnostics(report.into_diagnostics())),
        }
    }
}

/// A step that was read so far that later ones can be held against it.
struct Earlier {
    id: StepId,
    platforms: BTreeSet<OsFamily>,
}

struct Reader<'r, 'p> {
    report: &'r mut Report<'p>,
    parameters: Parameters,
    platforms: BTreeSet<OsFamily>,
}

impl Reader<'_, '_> {
    fn read(report: &mut Report<'_>, root: &DeTable<'_>, text: &str) -> Option<Procedure> {
        let document =
            Fields::open(report, "a procedure", 0..0, root, &["procedure", "parameters", "stages"]);
        let parameters = document.table(report, "parameters");
        let parameters = Parameters::read(report, parameters.map(|(_, table)| table));
        document.required(report, "procedure");
        let head = document.table(report, "procedure").map(|(at, table)| {
            Fields::open(report, "[procedure]", at, table, &["name", "version", "title", "platforms"])
        });
        let mut reader = Reader { report, parameters, platforms: BTreeSet::new() };
        let words = head.as_ref().map(|head| {
            reader.platforms = reader.procedure_platforms(head);
            ["name", "version", "title"]
                .map(|key| head.text(reader.report, key).map(|text| text.into_inner().to_owned()))
        });
        let stages = reader.stages(&document);
        let Reader { report, parameters, platforms } = reader;
        let parameters = parameters.finish(report);
        let [name, version, title] = words?;
        let digest = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Procedure {
            name: name?,
            version: version?,
            title: title?,
            platforms,
            parameters,
            stages,
            digest,
        })
    }

    fn procedure_platforms(&mut self, head: &Fields<'_, '_>) -> BTreeSet<OsFamily> {
        head.required(self.report, "platforms");
        let platforms = head.texts(self.report, "platforms");
        let read = self.words("platform", &platforms, OsFamily::ALL, |family| family.as_str());
        if let (true, Some(node)) = (platforms.is_empty(), head.optional("platforms")) {
            self.report
                .add(&node.span(), "a procedure for no platform does nothing; name at least one platform");
        }
        read.into_iter().collect()
    }

    /// Words of a closed set; each that is unknown or there twice is reported.
    fn words<T: Copy + PartialEq>(
        &mut self,
        what: &str,
        words: &[Spanned<&str>],
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Vec<T> {
        let mut read: Vec<T> = Vec::new();
        for word in words {
            match all.iter().find(|known| name(**known) == *word.get_ref()) {
                Some(known) if read.contains(known) => {
                    self.report.add(
                        &word.span(),
                        format!("{what} '{}' is there twice; once is enough", word.get_ref()),
                    );
                }
                Some(known) => read.push(*known),
                None => {
                    let hint = suggestion(word.get_ref(), all.iter().map(|known| name(*known)));
                    self.report.add(&word.span(), format!("unknown {what} '{}'{hint}", word.get_ref()));
                }
            }
        }
        read
    }

    fn stages(&mut self, document: &Fields<'_, '_>) -> Vec<StageSteps> {
        document.required(self.report, "stages");
        let mut stages = Vec::new();
        let mut seen: Vec<Stage> = Vec::new();
        for (at, table) in document.tables(self.report, "stages") {
            let fields = Fields::open(self.report, "a stage", at, table, STAGE_FIELDS);
            let name = self.stage_name(&fields, &mut seen);
            stages.extend(self.stage(&fields, name));
        }
        stages
    }

    fn stage_name(&mut self, fields: &Fields<'_, '_>, seen: &mut Vec<Stage>) -> Option<Stage> {
        let word = fields.text(self.report, "stage")?;
        let stage =
            *self.words("stage", std::slice::from_ref(&word), Stage::ALL, |stage| stage.as_str()).first()?;
        if seen.contains(&stage) {
            self.report
                .add(&word.span(), format!("stage '{stage}' is there twice; write its steps in one stage"));
        } else if let Some(later) = seen.iter().find(|earlier| **earlier > stage) {
            let order = Stage::ALL.iter().map(|stage| stage.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("stage '{stage}' stands after stage '{later}'; the order is {order}");
            self.report.add(&word.span(), message);
        }
        seen.push(stage);
        Some(stage)
    }

    fn stage(&mut self, fields: &Fields<'_, '_>, stage: Option<Stage>) -> Option<StageSteps> {
        let what = stage.map_or_else(|| "this stage".to_owned(), |stage| format!("stage '{stage}'"));
        let roles = fields.texts(self.report, "roles");
        if roles.is_empty() {
            let known = Role::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
            self.report
                .add(&fields.at, format!("{what} has no roles; name in 'roles' who takes part: {known}"));
        }
        let roles = self.words("role", &roles, Role::ALL, |role| role.as_str());
        let limits = self.limits(fields);
        let when = self.conditions(fields);
        let steps = self.steps(fields, &what);
        Some(StageSteps { stage: stage?, roles, limits: limits?, when, steps })
    }

    fn limits(&mut self, fields: &Fields<'_, '_>) -> Option<Limits> {
        let [canary, max_unavailable, errors_allowed] =
            ["canary", "max_unavailable", "errors_allowed"].map(|key| fields.number(self.report, key));
        for (name, limit) in [("canary", &canary), ("max_unavailable", &max_unavailable)] {
            if let Some(limit) = limit
                && let Some(refusal) = refuse_zero(name, *limit.get_ref())
            {
                self.report.add(&limit.span(), refusal);
            }
        }
        Some(Limits {
            canary: canary?.into_inner(),
            max_unavailable: max_unavailable?.into_inner(),
            errors_allowed: errors_allowed?.into_inner(),
        })
    }

    fn conditions(&mut self, fields: &Fields<'_, '_>) -> Vec<super::Condition> {
        let texts = fields.texts(self.report, "when");
        read_conditions(self.report, &mut self.parameters, &texts)
    }

    fn steps(&mut self, fields: &Fields<'_, '_>, what: &str) -> Vec<Step> {
        let tables = fields.tables(self.report, "steps");
        if tables.is_empty() {
            self.report.add(&fields.at, format!("{what} has no steps; write at least one [[stages.steps]]"));
            return Vec::new();
        }
        let mut covered = BTreeSet::new();
        let mut earlier = Vec::new();
        let mut steps = Vec::new();
        for (at, table) in tables {
            let fields = Fields::open(self.report, "a step", at, table, STEP_FIELDS);
            let errors_before = self.report.len();
            let platforms = self.step_platforms(&fields);
            // A platform that is written wrong would bring a second complaint, that it has no step.
            let meant = if self.report.len() > errors_before { &self.platforms } else { &platforms };
            covered.extend(meant.iter().copied());
            steps.extend(self.step(&fields, platforms, &mut earlier));
        }
        for family in self.platforms.difference(&covered) {
            let message = format!(
                "{what} has no step for platform '{family}'; write one, or take '{family}' out of the procedure's platforms"
            );
            self.report.add(&fields.at, message);
        }
        steps
    }

    fn step_platforms(&mut self, fields: &Fields<'_, '_>) -> BTreeSet<OsFamily> {
        let Some(node) = fields.optional("platforms") else { return self.platforms.clone() };
        let texts = fields.texts(self.report, "platforms");
        let platforms = self.words("platform", &texts, OsFamily::ALL, |family| family.as_str());
        let listed = node.get_ref().as_array().is_some_and(|items| items.is_empty());
        if listed {
            let message =
                "this step is for no platform; name one, or leave 'platforms' out for all of the procedure's";
            self.report.add(&node.span(), message);
        }
        for family in platforms.iter().filter(|family| !self.platforms.contains(family)) {
            let message =
                format!("platform '{family}' is not one of the procedure's; add it to [procedure] platforms");
            self.report.add(&node.span(), message);
        }
        platforms.into_iter().collect()
    }

    fn step(
        &mut self,
        fields: &Fields<'_, '_>,
        platforms: BTreeSet<OsFamily>,
        earlier: &mut Vec<Earlier>,
    ) -> Option<Step> {
        let id = self.step_id(fields, &platforms, earlier);
        let [title, page] = ["title", "page"].map(|key| fields.text(self.report, key));
        let when = self.conditions(fields);
        let errors_before = self.report.len();
        let action = self.action(fields);
        let with = fields.table(self.report, "with");
        let arguments = action.map(|action| {
            let at = with.as_ref().map_or_else(|| fields.at.clone(), |(at, _)| at.clone());
            let table = with.as_ref().map(|(_, table)| *table);
            read_arguments(self.report, &mut self.parameters, action, &at, table)
        });
        if let Some((_, table)) = &with {
            self.newer_than_steps(table, &platforms, earlier);
        }
        let timeout_s = match fields.optional("timeout_s") {
            Some(node) => read_seconds(self.report, &mut self.parameters, "timeout_s", node),
            None => action.map(|action| Argument::Number(action.timeout_s)),
        };
        let argument_errors = self.report.len() > errors_before;
        earlier.extend(id.clone().map(|id| Earlier { id, platforms: platforms.clone() }));
        let step = Step {
            id: id?,
            title: title?.into_inner().to_owned(),
            page: page?.into_inner().to_owned(),
            platforms,
            when,
            action: action?,
            with: arguments?,
            timeout_s: timeout_s?,
        };
        if !argument_errors {
            self.try_build(&fields.at, &step);
        }
        Some(step)
    }

    fn step_id(
        &mut self,
        fields: &Fields<'_, '_>,
        platforms: &BTreeSet<OsFamily>,
        earlier: &[Earlier],
    ) -> Option<StepId> {
        let text = fields.text(self.report, "id")?;
        let id = StepId::new(*text.get_ref())
            .map_err(|error| self.report.add(&text.span(), error.to_string()))
            .ok()?;
        if earlier.iter().any(|other| other.id == id && !other.platforms.is_disjoint(platforms)) {
            let message =
                format!("step id '{id}' is there twice on a platform of this stage; give one another id");
            self.report.add(&text.span(), message);
        }
        Some(id)
    }

    fn action(&mut self, fields: &Fields<'_, '_>) -> Option<&'static ActionSchema> {
        let text = fields.text(self.report, "action")?;
        let action = ActionSchema::named(text.get_ref());
        if action.is_none() {
            let hint = suggestion(text.get_ref(), ACTIONS.iter().map(|action| action.name));
            self.report.add(&text.span(), format!("unknown action '{}'{hint}", text.get_ref()));
        }
        action
    }

    /// A step can only be newer than what has been done on the node by then.
    fn newer_than_steps(&mut self, with: &DeTable<'_>, platforms: &BTreeSet<OsFamily>, earlier: &[Earlier]) {
        let steps = with.iter().find(|(key, _)| key.get_ref() == "newer_than_steps");
        let items = steps.and_then(|(_, node)| node.get_ref().as_array());
        for item in items.into_iter().flat_map(|items| items.iter()) {
            let Some(name) = item.get_ref().as_str() else { continue };
            let stands = |family: &OsFamily| {
                earlier.iter().any(|other| other.id.as_str() == name && other.platforms.contains(family))
            };
            let Some(family) = platforms.iter().find(|family| !stands(family)) else { continue };
            let known = earlier
                .iter()
                .filter(|other| other.platforms.contains(family))
                .map(|other| other.id.as_str());
            let hint = suggestion(name, known);
            let message =
                format!("step '{name}' does not stand before this one on platform '{family}'{hint}");
            self.report.add(&item.span(), message);
        }
    }

    /// Makes the action with the defaults, if all its parameters have one: what a site sets is tried with the plan.
    fn try_build(&mut self, at: &Range<usize>, step: &Step) {
        let Err(errors) = step.build(&|name| self.parameters.default(name)) else { return };
        for error in errors {
            match error {
                BuildError::Missing { .. } => {}
                BuildError::Wrong { what } => self.report.add(at, what),
            }
        }
    }
}
