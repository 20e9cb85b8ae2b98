//! `python.install_archive`: a Python distribution from a source archive, by its own `setup.py install`.

use super::archive::{find, unpacked};
use super::python::{interpreters, version};
use super::to_its_end;
use super::{Applied, Check, Context, exit_failed};
use crate::host::Command;
use std::path::Path;
use wavegate_common::action::PythonInstallArchive;
use wavegate_common::outcome::{Change, StepError};

/// `setup.py` in its own directory, which it expects to stand in. `runpy` is in every Python since 2.5.
const SETUP: &str = "\
import os, runpy, sys
os.chdir(sys.argv[1])
sys.argv = ['setup.py', 'install']
sys.path.insert(0, '')
runpy.run_path('setup.py', run_name='__main__')
";

/// Looks whether the interpreter finds the version already.
///
/// # Errors
/// [`StepError`] if there is no interpreter, or the archive can't be had or has another digest.
pub fn check(action: &PythonInstallArchive, cx: &mut Context<'_>) -> Result<Check, StepError> {
    if to_its_end::begun(cx) {
        return Ok(Check::WouldChange { changes: Vec::new() });
    }
    let interpreter = interpreter(cx)?;
    let before = version(interpreter, &action.distribution, cx)?;
    if before.as_ref() == Some(&action.version) {
        return Ok(Check::AlreadySo { evidence: evidence(interpreter, action) });
    }
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    find(&directory, "setup.py", &action.url, cx)?;
    Ok(Check::WouldChange { changes: vec![change(action, before)] })
}

/// Installs it, and asks the interpreter again.
///
/// # Errors
/// As [`check`], and if `setup.py` fails or the interpreter still finds another version.
pub fn apply(action: &PythonInstallArchive, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    to_its_end::wait_for_earlier(cx)?;
    let interpreter = interpreter(cx)?;
    let before = version(interpreter, &action.distribution, cx)?;
    if before.as_ref() == Some(&action.version) {
        return Ok(Applied { changes: Vec::new(), evidence: evidence(interpreter, action) });
    }
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let setup = find(&directory, "setup.py", &action.url, cx)?;
    let source = setup.parent().unwrap_or(Path::new("/")).display().to_string();
    let next =
        "read the output above; a missing compiler or setuptools is to be installed on the node; then retry";
    let command = Command::new([interpreter, "-c", SETUP, &source]);
    (cx.output)(&format!("{interpreter} setup.py install, in {source}"));
    let exit = to_its_end::run(cx, &command, next)?;
    if exit.code != 0 {
        let what = format!("'{interpreter} setup.py install' failed with exit code {}", exit.code);
        return Err(exit_failed(what, &exit, next));
    }
    match version(interpreter, &action.distribution, cx)? {
        Some(after) if after == action.version => {
            Ok(Applied { changes: vec![change(action, before)], evidence: evidence(interpreter, action) })
        }
        after => Err(StepError {
            what: format!(
                "{} was installed from {}, but {interpreter} finds {}, not {}",
                action.distribution,
                action.url,
                after.as_deref().unwrap_or("none"),
                action.version
            ),
            output: exit.stdout.lines().rev().take(20).map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect(),
            next: "see which copy comes first on the interpreter's path, and whether the archive holds the version that \
                   was named"
                .to_owned(),
        }),
    }
}

/// The interpreter that Neutron's scripts would take: the first that is there.
fn interpreter(cx: &Context<'_>) -> Result<&'static str, StepError> {
    interpreters(cx).first().copied().ok_or_else(|| StepError {
        what: "there is no python, python2 or python3 on the node".to_owned(),
        output: Vec::new(),
        next: "install the Python that Neutron uses, then retry".to_owned(),
    })
}

fn change(action: &PythonInstallArchive, from: Option<String>) -> Change {
    Change::Package { name: action.distribution.clone(), from, to: Some(action.version.clone()) }
}

fn evidence(interpreter: &str, action: &PythonInstallArchive) -> String {
    format!("{interpreter} finds {} {}", action.distribution, action.version)
}

#[cfg(test)]
mod tests {
    use crate::action::bench::Bench;
    use crate::host::fake::{FakeMachine, PYTHON_ETCD_ARCHIVE_URL, sha256};
    use wavegate_common::action::{Action, PythonInstallArchive};

    fn bench(version: &str) -> (Bench, Action) {
        let machine = FakeMachine::redhat_compute();
        let action = Action::PythonInstallArchive(PythonInstallArchive {
            distribution: "python-etcd".to_owned(),
            version: version.to_owned(),
            url: PYTHON_ETCD_ARCHIVE_URL.to_owned(),
            sha256: sha256(&machine.fetchable[PYTHON_ETCD_ARCHIVE_URL]).try_into().expect("a digest"),
        });
        (Bench::new(machine), action)
    }

    #[test]
    fn it_is_installed_once() {
        let (bench, action) = bench("0.4.3");
        insta::assert_snapshot!(bench.would(&action), @"python-etcd - -> 0.4.3");
        insta::assert_snapshot!(bench.done(&action), @r"
        python-etcd - -> 0.4.3
        python3 finds python-etcd 0.4.3
        ");
        assert!(bench.apply(&action).expect("it applies").changes.is_empty());
        assert_eq!(bench.history().matches("runpy.run_path").count(), 1);
    }

    #[test]
    fn another_version_than_named_is_no_success() {
        let (bench, action) = bench("0.4.5");
        insta::assert_snapshot!(super::super::bench::shown(&bench.apply(&action).expect_err("another")), @r"
        python-etcd was installed from https://archives.example/python-etcd-0.4.3.tar.gz, but python3 finds 0.4.3, not 0.4.5
        | Installed python-etcd 0.4.3
        next: see which copy comes first on the interpreter's path, and whether the archive holds the version that was named
        ");
    }

    #[test]
    fn after_a_kill_it_is_looked_at_again() {
        let (bench, action) = bench("0.4.3");
        bench.machine().faults.kill_after("runpy.run_path");
        bench.apply_killed(&action);
        assert!(bench.apply(&action).expect("it applies").changes.is_empty());
        assert_eq!(bench.history().matches("runpy.run_path").count(), 1);
    }
}
