//! Reading the steps of a stage, each held against those before it.

use super::arguments::{read_arguments, read_seconds};
use super::diagnostic::suggestion;
use super::fields::Fields;
use super::parse::Reader;
use super::schema::{ACTIONS, ActionSchema};
use super::template::Argument;
use super::{BuildError, Step};
use crate::id::StepId;
use crate::platform::{OsFamily, Role};
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::DeTable;

const STEP_FIELDS: &[&str] =
    &["id", "title", "page", "platforms", "roles", "when", "action", "with", "timeout_s"];

/// The platforms of a step. Where they are written wrong it has all of them, so that the one mistake does not bring
/// complaints about platforms without steps.
#[derive(Clone)]
struct Platforms {
    families: BTreeSet<OsFamily>,
    certain: bool,
}

impl Platforms {
    fn surely_meet(&self, other: &Self) -> bool {
        self.certain && other.certain && !self.families.is_disjoint(&other.families)
    }
}

/// A step that was read so far that later ones can be held against it.
struct Earlier {
    id: StepId,
    platforms: Platforms,
    roles: BTreeSet<Role>,
}

impl Reader<'_, '_> {
    /// The steps of a stage, in order.
    pub(super) fn steps(&mut self, fields: &Fields<'_, '_>, roles: &[Role]) -> Vec<Step> {
        let tables = fields.tables(self.report, "steps");
        if tables.is_empty() {
            self.report.add(
                &fields.at,
                format!("{} has no steps; write at least one [[stages.steps]]", fields.what),
            );
            return Vec::new();
        }
        let mut covered = BTreeSet::new();
        let mut earlier = Vec::new();
        let mut steps = Vec::new();
        for (at, table) in tables {
            let what = Fields::name("step", table, "id");
            let fields = Fields::open(self.report, what, at, table, STEP_FIELDS);
            let platforms = self.step_platforms(&fields);
            let own = self.step_roles(&fields, roles);
            let both = |family: &OsFamily| own.iter().map(|role| (*family, *role)).collect::<Vec<_>>();
            covered.extend(platforms.families.iter().flat_map(both));
            steps.extend(self.step(&fields, platforms, own, &mut earlier));
        }
        self.refuse_uncovered(fields, roles, &covered);
        steps
    }

    /// A node with a role of the stage must have something to do in it, on each platform.
    fn refuse_uncovered(
        &mut self,
        fields: &Fields<'_, '_>,
        roles: &[Role],
        covered: &BTreeSet<(OsFamily, Role)>,
    ) {
        for family in &self.platforms {
            let without: Vec<&Role> =
                roles.iter().filter(|role| !covered.contains(&(*family, **role))).collect();
            if !roles.is_empty() && without.len() == roles.len() {
                let message = format!(
                    "{} has no step for platform '{family}'; write one, or take '{family}' out of the procedure's \
                     platforms",
                    fields.what
                );
                self.report.add(&fields.at, message);
                continue;
            }
            for role in without {
                let message = format!(
                    "{} has no step for role '{role}' on platform '{family}'; write one, or take '{role}' out of the \
                     stage's roles",
                    fields.what
                );
                self.report.add(&fields.at, message);
            }
        }
    }

    fn step_platforms(&mut self, fields: &Fields<'_, '_>) -> Platforms {
        let all = |certain| Platforms { families: self.platforms.clone(), certain };
        let Some(node) = fields.optional("platforms") else { return all(true) };
        let (uncertain, errors_before) = (all(false), self.report.len());
        let texts = fields.texts(self.report, "platforms");
        let families: Vec<OsFamily> = self.words(&texts);
        if node.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            let hint = "name one, or leave 'platforms' out for all of the procedure's";
            self.report.add(&node.span(), format!("{} is for no platform; {hint}", fields.what));
        }
        let foreign = |family: &&OsFamily| !self.platforms.is_empty() && !self.platforms.contains(family);
        for family in families.iter().filter(foreign) {
            let hint = "add it to [procedure] platforms";
            self.report
                .add(&node.span(), format!("platform '{family}' is not one of the procedure's; {hint}"));
        }
        if self.report.len() > errors_before {
            return uncertain;
        }
        Platforms { families: families.into_iter().collect(), certain: true }
    }

    /// The roles of a step: of those that take part in the stage.
    fn step_roles(&mut self, fields: &Fields<'_, '_>, of_stage: &[Role]) -> BTreeSet<Role> {
        let all = || of_stage.iter().copied().collect();
        let Some(node) = fields.optional("roles") else { return all() };
        let errors_before = self.report.len();
        let texts = fields.texts(self.report, "roles");
        let roles: Vec<Role> = self.words(&texts);
        if node.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            let hint = "name one, or leave 'roles' out for all of the stage's";
            self.report.add(&node.span(), format!("{} is for no role; {hint}", fields.what));
        }
        for role in roles.iter().filter(|role| !of_stage.is_empty() && !of_stage.contains(role)) {
            let hint = "add it to the stage's roles";
            self.report.add(&node.span(), format!("role '{role}' takes no part in the stage; {hint}"));
        }
        if self.report.len() > errors_before { all() } else { roles.into_iter().collect() }
    }

    fn step(
        &mut self,
        fields: &Fields<'_, '_>,
        platforms: Platforms,
        roles: BTreeSet<Role>,
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
            self.newer_than_steps(table, &platforms.families, &roles, earlier);
        }
        let timeout_s = match fields.optional("timeout_s") {
            Some(node) => read_seconds(self.report, &mut self.parameters, "timeout_s", node),
            None => action.map(|action| Argument::Number(action.timeout_s)),
        };
        let written = with.as_ref().map_or(0, |(_, table)| table.len());
        let complete = arguments.as_ref().is_some_and(|arguments| arguments.len() == written);
        let arguments_fit = complete && self.report.len() == errors_before;
        earlier.extend(id.clone().map(|id| Earlier {
            id,
            platforms: platforms.clone(),
            roles: roles.clone(),
        }));
        let step = Step {
            id: id?,
            title: title?.into_inner().to_owned(),
            page: page?.into_inner().to_owned(),
            platforms: platforms.families,
            roles,
            when,
            action: action?,
            with: arguments?,
            timeout_s: timeout_s?,
        };
        if arguments_fit {
            self.try_build(&fields.at, &step);
        }
        Some(step)
    }

    fn step_id(
        &mut self,
        fields: &Fields<'_, '_>,
        platforms: &Platforms,
        earlier: &[Earlier],
    ) -> Option<StepId> {
        let text = fields.text(self.report, "id")?;
        let id = StepId::new(*text.get_ref())
            .map_err(|error| self.report.add(&text.span(), error.to_string()))
            .ok()?;
        if earlier.iter().any(|other| other.id == id && other.platforms.surely_meet(platforms)) {
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
    fn newer_than_steps(
        &mut self,
        with: &DeTable<'_>,
        platforms: &BTreeSet<OsFamily>,
        roles: &BTreeSet<Role>,
        earlier: &[Earlier],
    ) {
        let steps = with.iter().find(|(key, _)| key.get_ref() == "newer_than_steps");
        let items = steps.and_then(|(_, node)| node.get_ref().as_array());
        for item in items.into_iter().flat_map(|items| items.iter()) {
            let Some(name) = item.get_ref().as_str() else { continue };
            let on = |family: &OsFamily| {
                let family = *family;
                earlier.iter().filter(move |other| other.platforms.families.contains(&family))
            };
            let named = |family: &OsFamily| on(family).filter(|other| other.id.as_str() == name);
            if let Some(family) = platforms.iter().find(|family| named(family).next().is_none()) {
                let hint = suggestion(name, on(family).map(|other| other.id.as_str()));
                let message =
                    format!("step '{name}' does not stand before this one on platform '{family}'{hint}");
                self.report.add(&item.span(), message);
                continue;
            }
            let without = |role: &&Role| {
                platforms.iter().any(|family| !named(family).any(|other| other.roles.contains(role)))
            };
            if let Some(role) = roles.iter().find(without) {
                let hint = "this one is for that role too: name the role there, or leave it out here";
                let message = format!("step '{name}' is not for role '{role}'; {hint}");
                self.report.add(&item.span(), message);
            }
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
