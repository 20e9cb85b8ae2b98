//! Procedures as people read them: which ship, what a site may vary, and what their steps are.

use super::{Look, Tone};
use wavegate_common::procedure::{Parameter, Procedure, StageSteps, Value};

/// The procedures by name, version and title.
#[must_use]
pub fn list<'p>(procedures: impl Iterator<Item = &'p Procedure>, look: &Look) -> String {
    let mut table = look.table(&["PROCEDURE", "VERSION", "TITLE"]);
    for procedure in procedures {
        table.add_row([&procedure.name, &procedure.version, &procedure.title]);
    }
    look.lay_out(table, 0)
}

/// A procedure: its parameters, and stage by stage its steps.
#[must_use]
pub fn procedure(procedure: &Procedure, look: &Look) -> String {
    let platforms =
        procedure.platforms.iter().map(|platform| platform.as_str()).collect::<Vec<_>>().join(", ");
    let name = look.paint(Tone::Heading, &format!("{} {}", procedure.name, procedure.version));
    let mut text = format!("{name}: {}\nplatforms: {platforms}\n", procedure.title);
    if !procedure.parameters.is_empty() {
        text.push_str(&format!("\n{}\n", look.paint(Tone::Heading, "Parameters (plan --set NAME=VALUE)")));
        text.push_str(&parameters(procedure, look));
    }
    for stage in &procedure.stages {
        text.push('\n');
        text.push_str(&steps(stage, look));
    }
    text
}

fn parameters(procedure: &Procedure, look: &Look) -> String {
    let one = |(name, parameter): (&String, &Parameter)| {
        let default = match &parameter.default {
            None => look.paint(Tone::Bad, "no default, set it if it is used"),
            Some(value) if value.to_string().is_empty() => "default: empty".to_owned(),
            // A list's items are told apart by blanks, so that a long list can be wrapped.
            Some(Value::List(items)) => format!("default: {}", items.join(" ")),
            Some(value) => format!("default: {value}"),
        };
        let head = format!("  {name} ({}), {default}", parameter.kind);
        let wide = head.chars().count() > look.width;
        let head = if wide { look.paragraph(head.trim_start(), 2) } else { format!("{head}\n") };
        head + &look.paragraph(&parameter.help, 6)
    };
    procedure.parameters.iter().map(one).collect()
}

fn steps(stage: &StageSteps, look: &Look) -> String {
    let roles = stage.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    let mut text =
        format!("{} (roles: {roles})\n", look.paint(Tone::Heading, &format!("Stage {}", stage.stage)));
    let mut table = look.table(&["STEP", "PLATFORMS", "ACTION", "TITLE"]);
    for step in &stage.steps {
        let platforms =
            step.platforms.iter().map(|platform| platform.as_str()).collect::<Vec<_>>().join(", ");
        table.add_row([step.id.as_str(), &platforms, step.action.name, &step.title]);
    }
    text.push_str(&look.lay_out(table, 2));
    text
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_shipped_procedure_can_be_shown() {
        for name in wavegate_common::procedure::shipped_names() {
            let (file, text) = wavegate_common::procedure::shipped(name).expect("it ships");
            let parsed = Procedure::parse(file, text).expect("it is right");
            let text = procedure(&parsed, &samples::look());
            for parameter in parsed.parameters.keys() {
                assert!(text.contains(parameter.as_str()), "{parameter}");
            }
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            assert!(list(std::iter::once(&parsed), &samples::look()).contains(name));
        }
    }
}
