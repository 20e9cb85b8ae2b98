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
            what: format!(
                "{} was written and does not read back: something else writes {}",
                key(action),
                action.file
            ),
            output: Vec::new(),
            next: "stop what writes the file on the node (a configuration tool?), then retry".to_owned(),
        });
    }
    let what = format!(
        "{} = {}: {}, the file before is {}",
        key(action),
        action.value,
        edit.change,
        backup.display()
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::{Bench, shown};
    use crate::host::fake::FakeMachine;
    use wavegate_common::action::Action;

    const FILE: &str = "/etc/neutron/neutron.conf";

    fn set() -> Action {
        Action::IniSet(IniSet {
            file: FILE.to_owned(),
            section: "oslo_concurrency".to_owned(),
            key: "lock_path".to_owned(),
            value: "$state_path/lock".to_owned(),
        })
    }

    fn content(bench: &Bench, path: &str) -> String {
        String::from_utf8_lossy(&bench.machine().files[Path::new(path)].content).into_owned()
    }

    #[test]
    fn the_key_is_set_once_and_the_file_before_is_kept() {
        let bench = Bench::new(FakeMachine::redhat_compute());
        let before = content(&bench, FILE);
        insta::assert_snapshot!(
            bench.would(&set()),
            @"/etc/neutron/neutron.conf: [oslo_concurrency] lock_path = $state_path/lock: line 5 uncommented and set"
        );
        insta::assert_snapshot!(bench.done(&set()), @r"
        /etc/neutron/neutron.conf: [oslo_concurrency] lock_path = $state_path/lock: line 5 uncommented and set, the file before is /etc/neutron/neutron.conf.wavegate-r1-compute-1-step
        [oslo_concurrency] lock_path is $state_path/lock in /etc/neutron/neutron.conf
        ");
        assert_eq!(
            content(&bench, FILE),
            before.replace("# lock_path = <None>", "lock_path = $state_path/lock")
        );
        assert_eq!(content(&bench, "/etc/neutron/neutron.conf.wavegate-r1-compute-1-step"), before);
        bench.apply(&set()).expect("nothing to do");
        assert_eq!(bench.history().matches("replace").count(), 1);
    }

    #[test]
    fn an_agent_killed_after_the_file_was_replaced_finds_it_done() {
        let bench = Bench::new(FakeMachine::redhat_compute());
        bench.machine().faults.kill_before("replace");
        bench.apply_killed(&set());
        bench.would(&set());
        bench.machine().faults.kill_after("replace");
        bench.apply_killed(&set());
        bench.already_so(&set());
    }

    #[test]
    fn a_file_that_can_not_be_read_is_left_as_it_is() {
        let bench = Bench::new(FakeMachine::redhat_compute());
        let refused = |text: &[u8]| {
            bench.machine().put_file(FILE, text);
            let error = shown(&bench.check(&set()).expect_err("refused"));
            assert_eq!(bench.machine().files[Path::new(FILE)].content, text);
            error
        };
        insta::assert_snapshot!(refused(b"[a]\nnonsense\n"), @r"
        /etc/neutron/neutron.conf is left as it is: line 2: neither a comment nor a [section] nor 'key = value'
        next: correct that line in the file on the node, then retry
        ");
        assert!(refused(b"[a]\n\nb = \xff\n").contains("line 3 is not UTF-8"));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_unless_a_package_is_to_bring_it() {
        let mut bench = Bench::new(FakeMachine::redhat());
        insta::assert_snapshot!(bench.refused(&set()), @r"
        /etc/neutron/neutron.conf is not there
        next: install and configure what the file belongs to, then retry
        ");
        bench.forecast.packages.insert("openstack-neutron".to_owned());
        assert!(bench.would(&set()).ends_with("lock_path set, once earlier steps have brought the file"));
    }
}
