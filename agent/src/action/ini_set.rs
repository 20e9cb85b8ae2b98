//! `ini.set`: one key of one section of an ini file; every other line stays as it is, and a copy of the file is kept.

use super::{Applied, Check, Context, failed};
use std::path::{Path, PathBuf};
use wavegate_common::action::IniSet;
use wavegate_common::ini::{self, Edit, IniError, LineChange};
use wavegate_common::outcome::{Change, StepError};

/// Looks what setting the key would change.
///
/// # Errors
/// [`StepError`] if the file is not there and nothing will bring it, or is not in the dialect.
pub fn check(action: &IniSet, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let Some(text) = read(action, cx)? else {
        if cx.forecast.packages.is_empty() {
            return Err(absent(action));
        }
        let what = format!("{} set, once earlier steps have brought the file", key(action));
        return Ok(Check::WouldChange { changes: vec![change(action, what)] });
    };
    let edit = edit(action, &text)?;
    if edit.change == LineChange::Unchanged {
        return Ok(Check::AlreadySo { evidence: evidence(action) });
    }
    let what = format!("{} = {}: {}", key(action), action.value, edit.change);
    Ok(Check::WouldChange { changes: vec![change(action, what)] })
}

/// Sets the key, and reads it back.
///
/// # Errors
/// [`StepError`] if the file is not there, not in the dialect, can't be written, or does not read back.
pub fn apply(action: &IniSet, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let text = read(action, cx)?.ok_or_else(|| absent(action))?;
    let edit = edit(action, &text)?;
    if edit.change == LineChange::Unchanged {
        return Ok(Applied { changes: Vec::new(), evidence: evidence(action) });
    }
    let backup = backup(action, cx);
    let next = "see that the file's disk has room and is writable on the node, then retry";
    let replaced = cx.host.replace(Path::new(&action.file), edit.text.as_bytes(), Some(&backup), false);
    replaced.map_err(|error| failed(&error, next))?;

    let again = read(action, cx)?.ok_or_else(|| absent(action))?;
    if self::edit(action, &again)?.change != LineChange::Unchanged {
        return Err(StepError {
            what: format!("{} was written and does not read back: something else writes {}", key(action), action.file),
            output: Vec::new(),
            next: "stop what writes the file on the node (a configuration tool?), then retry".to_owned(),
        });
    }
    let what = format!("{} = {}: {}, the file before is {}", key(action), action.value, edit.change, backup.display());
    Ok(Applied { changes: vec![change(action, what)], evidence: evidence(action) })
}

fn read(action: &IniSet, cx: &Context<'_>) -> Result<Option<String>, StepError> {
    let next = "see that the agent runs as root on the node and the file is a plain file, then retry";
    let content = cx.host.read(Path::new(&action.file)).map_err(|error| failed(&error, next))?;
    let text = content.map(String::from_utf8).transpose();
    text.map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        untouched(action, &format!("line {line} is not UTF-8"))
    })
}

fn edit(action: &IniSet, text: &str) -> Result<Edit, StepError> {
    ini::set(text, &action.section, &action.key, &action.value).map_err(|error| match error {
        IniError::Line { .. } => untouched(action, &error.to_string()),
        IniError::Argument { .. } => StepError {
            what: format!("{} can't be set to '{}': {error}", key(action), action.value),
            output: Vec::new(),
            next: "correct the step in the procedure, then plan again".to_owned(),
        },
    })
}

fn untouched(action: &IniSet, what: &str) -> StepError {
    StepError {
        what: format!("{} is left as it is: {what}", action.file),
        output: Vec::new(),
        next: "correct that line in the file on the node, then retry".to_owned(),
    }
}

fn absent(action: &IniSet) -> StepError {
    StepError {
        what: format!("{} is not there", action.file),
        output: Vec::new(),
        next: "install and configure what the file belongs to, then retry".to_owned(),
    }
}

/// Where the file as it was goes: one name a step and attempt, so that no later edit overwrites it. It ends in nothing
/// that a `--config-dir` would read (`*.conf`).
fn backup(action: &IniSet, cx: &Context<'_>) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = cx.transaction.chars().map(plain).collect();
    PathBuf::from(format!("{}.wavegate-{name}", action.file))
}

fn key(action: &IniSet) -> String {
    format!("[{}] {}", action.section, action.key)
}

fn evidence(action: &IniSet) -> String {
    format!("{} is {} in {}", key(action), action.value, action.file)
}

fn change(action: &IniSet, what: String) -> Change {
    Change::File { path: action.file.clone(), what }
}
