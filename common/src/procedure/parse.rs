//! Reading a procedure's text: all of it is checked, and everything that is wrong is said at once.

use super::arguments::read_conditions;
use super::diagnostic::{Diagnostics, Report, unknown_word};
use super::fields::Fields;
use super::parameters::Parameters;
use super::{Condition, Procedure, StageSteps};
use crate::platform::{OsFamily, Role, Stage, UnknownWord};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::str::FromStr;
use toml::Spanned;
use toml::de::DeTable;

const STAGE_FIELDS: &[&str] = &[
    "stage",
    "roles",
    "canary",
    "batches",
    "group_by",
    "max_unavailable",
    "errors_allowed",
    "soak_s",
    "start",
    "when",
    "steps",
];

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

/// Reads a document that is TOML; `steps` has the part about steps.
pub(super) struct Reader<'r, 'p> {
    pub(super) report: &'r mut Report<'p>,
    pub(super) parameters: Parameters,
    /// The procedure's platforms; empty if they are wrong.
    pub(super) platforms: BTreeSet<OsFamily>,
}

impl Reader<'_, '_> {
    fn read(report: &mut Report<'_>, root: &DeTable<'_>, text: &str) -> Option<Procedure> {
        let document =
            Fields::open(report, "the procedure", 0..0, root, &["procedure", "parameters", "stages"]);
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
        let read = self.words(&platforms);
        if let (true, Some(node)) = (platforms.is_empty(), head.optional("platforms")) {
            self.report
                .add(&node.span(), "a procedure for no platform does nothing; name at least one platform");
        }
        read.into_iter().collect()
    }

    /// Words of a closed set; each that is unknown or there twice is reported.
    pub(super) fn words<T>(&mut self, words: &[Spanned<&str>]) -> Vec<T>
    where
        T: FromStr<Err = UnknownWord> + PartialEq,
    {
        let mut read: Vec<T> = Vec::new();
        for word in words {
            match word.get_ref().parse() {
                Ok(known) if read.contains(&known) => {
                    self.report
                        .add(&word.span(), format!("'{}' is there twice; once is enough", word.get_ref()));
                }
                Ok(known) => read.push(known),
                Err(error) => self.report.add(&word.span(), unknown_word(&error)),
            }
        }
        read
    }

    fn stages(&mut self, document: &Fields<'_, '_>) -> Vec<StageSteps> {
        document.required(self.report, "stages");
        let mut stages = Vec::new();
        let mut seen: Vec<Stage> = Vec::new();
        for (at, table) in document.tables(self.report, "stages") {
            let what = Fields::name("stage", table, "stage");
            let fields = Fields::open(self.report, what, at, table, STAGE_FIELDS);
            let name = self.stage_name(&fields, &mut seen);
            stages.extend(self.stage(&fields, name));
        }
        stages
    }

    fn stage_name(&mut self, fields: &Fields<'_, '_>, seen: &mut Vec<Stage>) -> Option<Stage> {
        let word = fields.text(self.report, "stage")?;
        let stage: Stage = *self.words(std::slice::from_ref(&word)).first()?;
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
        let roles = fields.texts(self.report, "roles");
        if roles.is_empty() {
            let known = Role::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
            self.report.add(
                &fields.at,
                format!("{} has no roles; name in 'roles' who takes part: {known}", fields.what),
            );
        }
        let roles = self.words(&roles);
        let waves = self.waves(fields);
        let when = self.conditions(fields);
        let steps = self.steps(fields, &roles);
        Some(StageSteps { stage: stage?, roles, waves: waves?, when, steps })
    }

    pub(super) fn conditions(&mut self, fields: &Fields<'_, '_>) -> Vec<Condition> {
        let texts = fields.texts(self.report, "when");
        read_conditions(self.report, &mut self.parameters, &texts)
    }
}
