//! The policy-rc.d that keeps services down while packages' scripts run: invoke-rc.d(8) and deb-systemd-invoke(1) ask it
//! before they start anything, and do not if it answers 101. There is one such file a system. One that was there is kept
//! aside, asked about everything that ours has no answer to, and put back; one that somebody else puts there meanwhile is
//! what is there afterwards.

use crate::action::{Context, failed};
use crate::host::HostError;
use std::collections::BTreeSet;
use std::path::Path;
use wavegate_common::outcome::StepError;

/// Where it is asked for (the Debian policy's invoke-rc.d interface).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Where the one that was there waits.
const ASIDE: &str = "/usr/sbin/policy-rc.d.wavegate-before";

/// The line by which ours is known.
const MARK: &str = "# wavegate: keeps services down while packages are installed, and goes away afterwards.";

/// Puts ours in place; again, if it is there.
///
/// # Errors
/// [`StepError`] if a file can't be written, or a service's name could be taken for shell script.
pub(super) fn put(units: &BTreeSet<String>, cx: &mut Context<'_>) -> Result<(), StepError> {
    let script = script(units)?;
    (cx.output)(&format!("{POLICY} keeps down for now: {}", list(units)));
    if there(cx)?.is_some_and(|text| !is_ours(&text)) {
        cx.host.rename(Path::new(POLICY), Path::new(ASIDE)).map_err(|error| unwritable(&error))?;
    }
    cx.host.replace(Path::new(POLICY), script.as_bytes(), None, true).map_err(|error| unwritable(&error))
}

/// Takes ours away and puts back the one before.
///
/// # Errors
/// [`StepError`] if a file can't be renamed or removed.
pub(super) fn take_away(cx: &mut Context<'_>) -> Result<(), StepError> {
    let there = there(cx)?;
    let kept = cx.host.exists(Path::new(ASIDE));
    let done = match there.map(|text| is_ours(&text)) {
        Some(true) | None if kept => cx.host.rename(Path::new(ASIDE), Path::new(POLICY)),
        Some(true) => cx.host.remove(Path::new(POLICY)),
        Some(false) if kept => {
            (cx.output)(&format!("{POLICY} is another one by now and stays; the one before is {ASIDE}"));
            Ok(())
        }
        Some(false) | None => Ok(()),
    };
    done.map_err(|error| unwritable(&error))
}

fn there(cx: &Context<'_>) -> Result<Option<String>, StepError> {
    let content = cx.host.read(Path::new(POLICY)).map_err(|error| unwritable(&error))?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

fn is_ours(text: &str) -> bool {
    text.lines().any(|line| line == MARK)
}

fn unwritable(error: &HostError) -> StepError {
    failed(error, format!("see that {POLICY} and files beside it can be read and written, then retry"))
}

fn list(units: &BTreeSet<String>) -> String {
    units.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// It is called as `policy-rc.d [OPTIONS] NAME ACTION...`, with a name as init scripts have it or a unit's.
fn script(units: &BTreeSet<String>) -> Result<String, StepError> {
    let plain = |unit: &str| unit.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:+".contains(c));
    if let Some(odd) = units.iter().find(|unit| !plain(unit)) {
        return Err(StepError {
            what: format!("'{odd}' cannot be a service's name"),
            output: Vec::new(),
            next: "correct keep_down of the step, then plan again".to_owned(),
        });
    }
    let names: Vec<String> = units.iter().map(|unit| format!("'{unit}'|'{unit}.service'")).collect();
    Ok(format!(
        "#!/bin/sh\n{MARK}\nfor name; do\n  case \"$name\" in -*) continue ;; esac\n  case \"$name\" in\n    {}) exit 101 ;;\n  esac\n  \
         break\ndone\nif [ -x {ASIDE} ]; then exec {ASIDE} \"$@\"; fi\nexit 0\n",
        names.join("|")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn units(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_script_forbids_the_named_services_alone() {
        let script = script(&units(&["calico-dhcp-agent", "getty@tty1"])).expect("a script");
        insta::assert_snapshot!(script, @r##"
        #!/bin/sh
        # wavegate: keeps services down while packages are installed, and goes away afterwards.
        for name; do
          case "$name" in -*) continue ;; esac
          case "$name" in
            'calico-dhcp-agent'|'calico-dhcp-agent.service'|'getty@tty1'|'getty@tty1.service') exit 101 ;;
          esac
          break
        done
        if [ -x /usr/sbin/policy-rc.d.wavegate-before ]; then exec /usr/sbin/policy-rc.d.wavegate-before "$@"; fi
        exit 0
        "##);
    }

    #[test]
    fn the_one_before_is_asked_about_other_services() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let write = |name: &str, text: &str| {
            std::fs::write(path(name), text).expect("a file");
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).expect("its mode");
        };
        let script = script(&units(&["calico-dhcp-agent"])).expect("a script");
        write("alone", &script);
        write("ours", &script.replace(ASIDE, &path("before")));
        write("before", "#!/bin/sh\n[ \"$1\" = calico-felix ] && exit 104\nexit 42\n");
        let questions = "ask() { \"$D/$@\"; echo \"$@: $?\"; }; ask alone calico-dhcp-agent start; \
                         ask alone --quiet calico-dhcp-agent.service restart; ask alone calico-felix start; \
                         ask alone calico-felix calico-dhcp-agent; ask ours calico-felix start; ask ours --list; \
                         ask ours calico-dhcp-agent start";
        let shell =
            std::process::Command::new("sh").args(["-c", questions]).env("D", directory.path()).output();
        let answers = String::from_utf8(shell.expect("sh runs").stdout).expect("text");
        insta::assert_snapshot!(answers.trim(), @r"
        alone calico-dhcp-agent start: 101
        alone --quiet calico-dhcp-agent.service restart: 101
        alone calico-felix start: 0
        alone calico-felix calico-dhcp-agent: 0
        ours calico-felix start: 104
        ours --list: 42
        ours calico-dhcp-agent start: 101
        ");
    }

    #[test]
    fn a_name_that_is_script_is_refused() {
        let error = super::script(&units(&["a'; reboot '"])).expect_err("no name");
        assert_eq!(error.what, "'a'; reboot '' cannot be a service's name");
    }
}
