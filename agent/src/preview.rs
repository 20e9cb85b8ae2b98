//! What the steps of a task would change on this node, found out by their checks alone. Changes nothing.

use crate::action::{self, Check, Context, Forecast, Memory};
use crate::runner::Machine;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{StepId, Timestamp};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Change, Preview, StepError};
use wavegate_common::plan::StepPreview;

/// Runs the check of each step, in order; each sees what the steps before it would have changed. Steps that the plan
/// skips are left out; one that is outside the node's policy is blocked. `changed_at` is the journal's, for the stage of the steps.
#[must_use]
pub fn preview(
    steps: &[PlannedStep],
    machine: Machine<'_>,
    changed_at: &dyn Fn(&StepId) -> Option<Timestamp>,
) -> Vec<StepPreview> {
    let policy = machine.policy.read_for_order();
    let (mut forecast, memory) = (Forecast::default(), Memory::default());
    let mut previews = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let Work::Run { action, timeout_s } = &step.work else { continue };
        let permitted = policy.as_ref().map_err(StepError::clone).and_then(|policy| {
            policy.judge(action)?;
            Ok(policy)
        });
        let policy = match permitted {
            Ok(policy) => policy,
            Err(error) => {
                previews.push(StepPreview { step: step.id.clone(), preview: Preview::Blocked { error } });
                continue;
            }
        };
        let mut cx = Context {
            host: machine.host,
            os: machine.os,
            policy,
            node: None,
            planned: None,
            etcd: machine.etcd,
            // No transaction is started by a check.
            transaction: "preview".to_owned(),
            timeout: Duration::from_secs(*timeout_s),
            // Whoever asked waits for the answer.
            patience: Duration::ZERO,
            output: &mut |_| {},
            changed_at,
            forecast: &forecast,
            memory: &memory,
            earlier: &steps[..index],
            to_come: &steps[index + 1..],
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
        Change::Version { .. } | Change::Service { .. } | Change::Process { .. } | Change::File { .. } => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::EtcdSettings;
    use crate::host::fake::{FakeHost, FakeMachine};
    use crate::os::Os;
    use crate::policy::PolicyFile;
    use crate::policy::tests::{any_package_line, policy_in};
    use wavegate_common::action::{
        IniSet, PackageInstall, PackageSpec, ProcessKillStale, Scope, ServiceCheck, ServiceDisable,
        ServiceRestart,
    };

    fn previewed(steps: &[PlannedStep], host: &FakeHost, os: &Os, policy: &PolicyFile) -> Vec<StepPreview> {
        let machine = Machine { host, os, policy, extra_roles: &[].into(), etcd: &EtcdSettings::default() };
        preview(steps, machine, &|_| None)
    }

    /// A preview under a policy that permits what these tests order.
    fn permitted(steps: &[PlannedStep], host: &FakeHost, os: &Os) -> Vec<StepPreview> {
        let state = tempfile::tempdir().expect("a directory");
        let text = any_package_line()
            + r#"
            removals = true
            services.restart = ["neutron-dhcp-agent", "calico-felix", "calico-dhcp-agent"]
            services.disable = ["absent"]
            processes = [{ program = "dnsmasq", pid_files = "/var/lib/neutron/dhcp" }]
            ini = [{ file = "/etc/neutron/neutron.conf", section = "oslo_concurrency", keys = ["lock_path"] }]
            "#;
        previewed(steps, host, os, &policy_in(state.path(), &text))
    }

    #[test]
    fn what_the_policy_does_not_permit_is_blocked_and_the_node_is_not_asked() {
        let state = tempfile::tempdir().expect("a directory");
        let machine = FakeMachine::redhat_compute();
        let os = Os { platform: machine.platform.clone() };
        let host = FakeHost::new(machine);
        let policy = policy_in(state.path(), "services.disable = [\"absent\"]");
        let text = |previews: Vec<StepPreview>| {
            let lines = previews.iter().map(|preview| format!("{}: {}", preview.step, preview.preview));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(text(previewed(&steps()[..4], &host, &os, &policy)), @r"
        lock-path: blocked: ini.set is outside this node's policy: key lock_path of section [oslo_concurrency] in /etc/neutron/neutron.conf is not permitted by 'ini'
        restart: blocked: service.restart is outside this node's policy: service neutron-dhcp-agent is not permitted by 'services.restart'
        felix: blocked: service.restart is outside this node's policy: service calico-felix is not permitted by 'services.restart'
        ");
        assert!(host.machine().history.is_empty());
        let policy = policy_in(state.path(), "services = 1");
        let blocked = text(previewed(&steps(), &host, &os, &policy));
        assert_eq!(blocked.matches("blocked: this node's policy cannot be used").count(), 5, "{blocked}");
        assert!(host.machine().history.is_empty());
    }

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
        let previews = permitted(&steps(), &host, &os);
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
        let previews = permitted(&steps(), &FakeHost::new(machine), &os);
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
            also: ["calico-compute", "networking-calico", "python-etcd"]
                .map(|name| name.to_owned().try_into().expect("a pattern"))
                .to_vec(),
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
        let previews = permitted(&steps, &FakeHost::new(machine), &os);
        let text: Vec<String> = previews.iter().map(|preview| preview.preview.to_string()).collect();
        assert!(text[0].contains("calico-dhcp-agent - -> 1:1.3.0"), "{}", text[0]);
        assert_eq!(text[1].matches("will be replaced with dnsmasq-base").count(), 2, "{}", text[1]);
        assert_eq!(text[2], "calico-dhcp-agent: started, once earlier steps have brought it");
    }
}
