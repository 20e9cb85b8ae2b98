//! What the steps of a task would change on this node, found out by their checks alone. Changes nothing.

use crate::action::{self, Check, Context, Forecast};
use crate::host::Host;
use crate::os::Os;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{StepId, Timestamp};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Change, Preview};
use wavegate_common::plan::StepPreview;

/// Runs the check of each step, in order; each sees what the steps before it would have changed. Steps that the plan
/// skips are left out. `changed_at` is the journal's, for the stage of the steps.
#[must_use]
pub fn preview(
    steps: &[PlannedStep],
    host: &dyn Host,
    os: &Os,
    changed_at: &dyn Fn(&StepId) -> Option<Timestamp>,
) -> Vec<StepPreview> {
    let mut forecast = Forecast::default();
    let mut previews = Vec::new();
    for step in steps {
        let Work::Run { action, timeout_s } = &step.work else { continue };
        let mut cx = Context {
            host,
            os,
            // No transaction is started by a check.
            transaction: "preview".to_owned(),
            timeout: Duration::from_secs(*timeout_s),
            // Whoever asked waits for the answer.
            patience: Duration::ZERO,
            output: &mut |_| {},
            changed_at,
            forecast: &forecast,
        };
        let preview = look(action, &mut cx);
        if let Preview::WouldChange { changes } = &preview {
            forecast.steps.insert(step.id.clone());
            forecast.packages.extend(changes.iter().filter_map(package));
        }
        previews.push(StepPreview { step: step.id.clone(), preview });
    }
    previews
}

fn look(action: &Action, cx: &mut Context<'_>) -> Preview {
    if action.is_check() {
        return Preview::WouldCheck;
    }
    match action::check(action, cx) {
        Ok(Check::AlreadySo { evidence }) => Preview::AlreadySo { evidence },
        Ok(Check::WouldChange { changes }) => Preview::WouldChange { changes },
        Err(error) => Preview::Blocked { error },
    }
}

fn package(change: &Change) -> Option<String> {
    match change {
        Change::Package { name, .. } => Some(name.clone()),
        Change::Service { .. } | Change::Process { .. } | Change::File { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, FakeMachine};
    use wavegate_common::action::{
        IniSet, PackageInstall, PackageSpec, ProcessKillStale, Scope, ServiceCheck, ServiceDisable,
        ServiceRestart,
    };

    fn step(id: &str, work: Work) -> PlannedStep {
        PlannedStep { id: StepId::new(id).expect("a step id"), title: String::new(), work }
    }

    fn run(id: &str, action: Action) -> PlannedStep {
        step(id, Work::Run { action, timeout_s: 60 })
    }

    fn steps() -> Vec<PlannedStep> {
        let restart = |unit: &str, steps: &[&str]| {
            Action::ServiceRestart(ServiceRestart {
                unit: unit.to_owned(),
                newer_than_packages: Vec::new(),
                newer_than_steps: steps.iter().map(|id| StepId::new(*id).expect("a step id")).collect(),
                enable: true,
            })
        };
        let ini = IniSet {
            file: "/etc/neutron/neutron.conf".to_owned(),
            section: "oslo_concurrency".to_owned(),
            key: "lock_path".to_owned(),
            value: "/run/lock".to_owned(),
        };
        vec![
            step("skipped", Work::Skip { reason: "not here".to_owned() }),
            run("lock-path", Action::IniSet(ini)),
            run("restart", restart("neutron-dhcp-agent", &["lock-path"])),
            run("felix", restart("calico-felix", &[])),
            run("nothing", Action::ServiceDisable(ServiceDisable { unit: "absent".to_owned() })),
            run(
                "check",
                Action::ServiceCheck(ServiceCheck {
                    active: vec!["absent".to_owned()],
                    ..ServiceCheck::default()
                }),
            ),
        ]
    }

    #[test]
    fn each_step_sees_what_those_before_it_would_change_and_nothing_is_touched() {
        let machine = FakeMachine::redhat_compute();
        let os = Os { platform: machine.platform.clone() };
        let before = machine.clone();
        let host = FakeHost::new(machine);
        let previews = preview(&steps(), &host, &os, &|_| None);
        let lines = previews.iter().map(|preview| format!("{}: {}", preview.step, preview.preview));
        let text = lines.collect::<Vec<_>>().join("\n");
        let felix = before.services["calico-felix"].main_pid.expect("it runs").to_string();
        insta::assert_snapshot!(text.replace(&felix, "PID"), @r"
        lock-path: /etc/neutron/neutron.conf: [oslo_concurrency] lock_path = /run/lock: line 5 uncommented and set
        restart: neutron-dhcp-agent: restarted: step 'lock-path' will have changed the node
        felix: already so: process PID has run for 86403 s from the file on disk
        nothing: already so: it is not installed
        check: checked afterwards
        ");
        let after = host.machine();
        assert_eq!((&after.files, &after.services), (&before.files, &before.services));
        assert_eq!((&after.processes, &after.installed), (&before.processes, &before.installed));
    }

    #[test]
    fn what_can_not_be_done_is_told_beforehand() {
        let machine = FakeMachine::redhat();
        let os = Os { platform: machine.platform.clone() };
        let previews = preview(&steps(), &FakeHost::new(machine), &os, &|_| None);
        assert!(
            matches!(&previews[0].preview, Preview::Blocked { error } if error.what.ends_with("is not there"))
        );
    }

    #[test]
    fn packages_that_would_change_are_foreseen_by_what_depends_on_them() {
        let spec = |name: &str| PackageSpec { name: name.to_owned(), version: None };
        let install = PackageInstall {
            packages: vec![spec("calico-dhcp-agent"), spec("dnsmasq-base")],
            if_installed: Vec::new(),
            scope: Scope::Named,
            allow_removals: true,
            ..PackageInstall::default()
        };
        let kill = ProcessKillStale {
            program: "dnsmasq".to_owned(),
            pid_files: "/var/lib/neutron/dhcp".to_owned(),
            packages: vec!["dnsmasq-base".to_owned()],
            owner: None,
        };
        let restart = ServiceRestart {
            unit: "calico-dhcp-agent".to_owned(),
            newer_than_packages: vec!["calico-dhcp-agent".to_owned()],
            newer_than_steps: Vec::new(),
            enable: true,
        };
        let steps = [
            run("install", Action::PackageInstall(install)),
            run("kill", Action::ProcessKillStale(kill)),
            run("restart", Action::ServiceRestart(restart)),
        ];
        let machine = FakeMachine::debian_compute();
        let os = Os { platform: machine.platform.clone() };
        let previews = preview(&steps, &FakeHost::new(machine), &os, &|_| None);
        let text: Vec<String> = previews.iter().map(|preview| preview.preview.to_string()).collect();
        assert!(text[0].contains("calico-dhcp-agent - -> 1:1.3.0"), "{}", text[0]);
        assert_eq!(text[1].matches("will be replaced with dnsmasq-base").count(), 2, "{}", text[1]);
        assert_eq!(text[2], "calico-dhcp-agent: started, once earlier steps have brought it");
    }
}
