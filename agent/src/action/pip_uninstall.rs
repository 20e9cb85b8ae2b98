//! `pip.uninstall`: removes a distribution that pip installed. One that a package owns stays: pip would remove files of
//! an RPM if asked to, and the package database would never know.

use super::python::{Copy, copies, interpreters};
use super::to_its_end;
use super::{Applied, Check, Context, exit_failed};
use crate::host::Command;
use wavegate_common::action::PipUninstall;
use wavegate_common::outcome::{Change, StepError};

/// Looks for copies that no package owns, in every interpreter that the node has.
///
/// # Errors
/// [`StepError`] if an interpreter or the package database can't tell.
pub fn check(action: &PipUninstall, cx: &mut Context<'_>) -> Result<Check, StepError> {
    if to_its_end::begun(cx) {
        return Ok(Check::WouldChange { changes: Vec::new() });
    }
    let (mut changes, mut owners) = (Vec::new(), Vec::new());
    for interpreter in interpreters(cx) {
        for copy in copies(interpreter, &action.distribution, cx)? {
            match &copy.owner {
                Some(owner) => owners.push(format!("{} belongs to package {owner}", copy.path.display())),
                None => changes.push(change(action, &copy, "would be removed")),
            }
        }
    }
    // `python` and `python3` may be the same interpreter.
    changes.dedup();
    owners.dedup();
    if changes.is_empty() {
        owners.insert(0, format!("no {} outside of packages", action.distribution));
        return Ok(Check::AlreadySo { evidence: owners.join(", ") });
    }
    Ok(Check::WouldChange { changes })
}

/// Uninstalls them.
///
/// # Errors
/// As [`check`], and if pip fails, is not there, or would hit a copy that a package owns.
pub fn apply(action: &PipUninstall, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    to_its_end::wait_for_earlier(cx)?;
    let mut changes = Vec::new();
    for interpreter in interpreters(cx) {
        // pip removes the copy that is found first, so that there may be another behind it.
        while let Some(copy) = first_unowned(interpreter, action, cx)? {
            let change = change(action, &copy, "removed");
            if changes.contains(&change) {
                return Err(stays(action, &copy));
            }
            uninstall(interpreter, action, &copy, cx)?;
            changes.push(change);
        }
    }
    Ok(Applied { changes, evidence: format!("no {} outside of packages", action.distribution) })
}

fn change(action: &PipUninstall, copy: &Copy, what: &str) -> Change {
    let what = format!("{what}: {} {}, which no package owns", action.distribution, copy.version);
    Change::File { path: copy.path.display().to_string(), what }
}

fn first_unowned(
    interpreter: &str,
    action: &PipUninstall,
    cx: &Context<'_>,
) -> Result<Option<Copy>, StepError> {
    let copies = copies(interpreter, &action.distribution, cx)?;
    let Some(unowned) = copies.iter().position(|copy| copy.owner.is_none()) else { return Ok(None) };
    match copies[..unowned].first() {
        None => Ok(Some(copies[unowned].clone())),
        Some(owned) => Err(StepError {
            what: format!(
                "pip would remove {}, which belongs to package {}, before it gets to {}",
                owned.path.display(),
                owned.owner.as_deref().unwrap_or_default(),
                copies[unowned].path.display()
            ),
            output: Vec::new(),
            next: format!("remove {} on the node by hand, then retry", copies[unowned].path.display()),
        }),
    }
}

fn stays(action: &PipUninstall, copy: &Copy) -> StepError {
    StepError {
        what: format!(
            "pip says that it uninstalled {}, but {} is still there",
            action.distribution,
            copy.path.display()
        ),
        output: Vec::new(),
        next: format!("remove {} on the node by hand, then retry", copy.path.display()),
    }
}

fn uninstall(
    interpreter: &str,
    action: &PipUninstall,
    copy: &Copy,
    cx: &mut Context<'_>,
) -> Result<(), StepError> {
    let next =
        format!("read the output above; remove {} on the node by hand, then retry", copy.path.display());
    let command = Command::new([interpreter, "-m", "pip", "uninstall", "-y", action.distribution.as_str()]);
    // From pip 23.0.1 on a system may forbid pip to touch anything, and this permits it. The option of this name would be an error
    // to an older pip, which passes over variables that name no option of its (baseparser.py).
    let command = command.env("PIP_BREAK_SYSTEM_PACKAGES", "1");
    let line = command.argv.join(" ");
    (cx.output)(&line);
    let exit = to_its_end::run(cx, &command, &next)?;
    if exit.code == 0 {
        return Ok(());
    }
    Err(exit_failed(format!("'{line}' failed with exit code {}", exit.code), &exit, next))
}

#[cfg(test)]
mod tests {
    use crate::action::bench::Bench;
    use crate::host::fake::{FakeDistribution, FakeInstalled, FakeMachine};
    use std::path::PathBuf;
    use wavegate_common::action::{Action, PipUninstall};

    const LOCAL: &str = "/usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info";
    const OWNED: &str = "/usr/lib/python3/dist-packages/networking_calico-1.1.2.egg-info";

    fn action() -> Action {
        Action::PipUninstall(PipUninstall { distribution: "networking-calico".to_owned() })
    }

    fn copy(version: &str, path: &str) -> FakeDistribution {
        FakeDistribution {
            name: "networking-calico".to_owned(),
            version: version.to_owned(),
            path: path.into(),
        }
    }

    fn bench(copies: &[FakeDistribution]) -> Bench {
        let mut machine = FakeMachine::debian();
        let files = vec![PathBuf::from(OWNED)];
        machine
            .installed
            .insert("networking-calico".to_owned(), FakeInstalled { files, ..FakeInstalled::default() });
        machine.distributions = copies.to_vec();
        Bench::new(machine)
    }

    #[test]
    fn nothing_there_is_already_so() {
        assert_eq!(bench(&[]).already_so(&action()), "no networking-calico outside of packages");
        let owned = bench(&[copy("1.1.2", OWNED)]);
        insta::assert_snapshot!(owned.already_so(&action()), @"no networking-calico outside of packages, /usr/lib/python3/dist-packages/networking_calico-1.1.2.egg-info belongs to package networking-calico");
        assert!(owned.apply(&action()).expect("it applies").changes.is_empty());
        assert!(!owned.history().contains("pip"));
    }

    #[test]
    fn what_pip_installed_goes() {
        let bench = bench(&[copy("1.0.0", LOCAL)]);
        insta::assert_snapshot!(bench.would(&action()), @"/usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info: would be removed: networking-calico 1.0.0, which no package owns");
        insta::assert_snapshot!(bench.done(&action()), @r"
        /usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info: removed: networking-calico 1.0.0, which no package owns
        no networking-calico outside of packages
        ");
        assert!(bench.history().contains("python3 -m pip uninstall -y networking-calico"));
    }

    #[test]
    fn a_packages_files_are_not_put_at_risk() {
        let bench = bench(&[copy("1.1.2", OWNED), copy("1.0.0", LOCAL)]);
        insta::assert_snapshot!(bench.refused(&action()), @r"
        pip would remove /usr/lib/python3/dist-packages/networking_calico-1.1.2.egg-info, which belongs to package networking-calico, before it gets to /usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info
        next: remove /usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info on the node by hand, then retry
        ");
        assert!(!bench.history().contains("pip uninstall -y"));
    }

    #[test]
    fn after_a_kill_it_is_looked_at_again() {
        let bench = bench(&[copy("1.0.0", LOCAL)]);
        bench.machine().faults.kill_after("pip uninstall -y");
        bench.apply_killed(&action());
        assert!(bench.apply(&action()).expect("it applies").changes.is_empty());
        assert_eq!(bench.history().matches("pip uninstall -y").count(), 1);
    }
}
