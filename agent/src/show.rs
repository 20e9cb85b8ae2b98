//! What `wavegate-agent facts`, `status` and `policy` print: JSON for programs, lines for people.

use std::fmt::Write;
use wavegate_common::etcd::told;
use wavegate_common::facts::Facts;
use wavegate_common::journal::{Journal, Next, TaskInJournal};
use wavegate_common::order::Work;
use wavegate_common::outcome::Outcome;
use wavegate_common::policy::{IniKeys, Policy};
use wavegate_common::rollout::TaskResult;

/// Facts for people.
#[must_use]
pub fn facts(facts: &Facts) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    let roles = list(facts.roles.iter().map(ToString::to_string).collect());
    let versions =
        list(facts.versions.iter().map(|(component, version)| format!("{component} {version}")).collect());
    let release = facts.release.map_or_else(|| "no Neutron found".to_owned(), |release| release.to_string());
    let lines = [
        ("node", facts.node.to_string()),
        ("host name", facts.hostname.clone()),
        (
            "platform",
            format!(
                "{} ({}, {})",
                facts.platform.pretty_name, facts.platform.package_manager, facts.platform.service_manager
            ),
        ),
        ("kernel", facts.kernel.clone()),
        ("roles", roles),
        ("versions", versions),
        ("OpenStack", release),
        ("DHCP agent", facts.dhcp_agent.to_string()),
        ("agent", facts.agent_version.clone()),
    ];
    let of_etcd = facts.etcd.iter().flat_map(told::lines);
    lines.into_iter().chain(of_etcd).fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<11} {value}");
        text
    })
}

/// What a journal says, for people.
#[must_use]
pub fn status(journal: &Journal) -> String {
    let mut text = format!("generation  {}\n", journal.generation());
    let Some(task) = journal.current().or_else(|| journal.ended().back()) else {
        text.push_str("task        none yet\n");
        return text;
    };
    let _ = writeln!(text, "task        {}", task.order.key);
    let _ = writeln!(text, "state       {}", state(journal, task));
    for (index, step) in task.order.steps.iter().enumerate() {
        let outcome = match task.steps.get(index) {
            Some(ended) => ended.outcome.to_string(),
            None if task.started.as_ref() == Some(&step.id) => "running".to_owned(),
            None if task.result.is_some() => "not tried".to_owned(),
            None => "to come".to_owned(),
        };
        let _ = writeln!(text, "{:>4}  {:<28} {outcome}", index + 1, step.id.as_str());
        if let Some(Outcome::Failed { error }) = task.steps.get(index).map(|ended| &ended.outcome) {
            error.output.iter().for_each(|line| {
                let _ = writeln!(text, "        | {line}");
            });
            let _ = writeln!(text, "        next: {}", error.next);
        }
    }
    text
}

fn state(journal: &Journal, task: &TaskInJournal) -> String {
    let told = if task.acknowledged {
        "the coordinator has it in its log"
    } else {
        "the coordinator does not know yet"
    };
    match (task.result, journal.next()) {
        (Some(TaskResult::Finished), _) => format!("finished; {told}"),
        (Some(TaskResult::Failed), _) => format!("failed; {told}"),
        (None, Next::Step { index, .. }) => {
            let step = &task.order.steps[index];
            let action = match &step.work {
                Work::Run { action, .. } => action.name(),
                Work::Skip { .. } => "skip",
            };
            format!("step {} of {}: {} ({action})", index + 1, task.order.steps.len(), step.title)
        }
        (None, Next::End { .. } | Next::Idle) => "about to end".to_owned(),
    }
}

/// What a policy permits, for people: a line for every key that permits something, lists wrapped.
#[must_use]
pub fn policy(policy: &Policy) -> String {
    let Policy {
        packages,
        whole_distribution,
        removals,
        downgrades,
        archives,
        http_checks,
        services,
        etcd,
        python,
        programs,
        processes,
        ini,
    } = policy;
    let mut text = String::new();
    list(&mut text, "packages", packages);
    let flags =
        [(whole_distribution, "the whole distribution"), (removals, "removals"), (downgrades, "downgrades")];
    let flags = flags.into_iter().filter(|(on, _)| **on).map(|(_, word)| word);
    list(&mut text, "beyond these", flags);
    list(&mut text, "archives", archives);
    list(&mut text, "http_checks", http_checks);
    list(&mut text, "services.restart", &services.restart);
    list(&mut text, "services.disable", &services.disable);
    list(&mut text, "etcd.backups", &etcd.backups);
    list(&mut text, "python.install", &python.install);
    list(&mut text, "python.uninstall", &python.uninstall);
    let files = programs.iter().flat_map(|of| of.names.iter().map(|name| format!("{}/{name}", of.directory)));
    list(&mut text, "programs", files);
    list(&mut text, "processes", processes.iter().map(|of| format!("{} of {}", of.program, of.pid_files)));
    let keys = |of: &IniKeys| {
        let (file, section) = (of.file.clone(), of.section.clone());
        of.keys.iter().map(move |key| format!("{file} [{section}] {key}")).collect::<Vec<_>>()
    };
    list(&mut text, "ini", ini.iter().flat_map(keys));
    if text.is_empty() {
        text.push_str("nothing is permitted\n");
    }
    text
}

/// Columns of a line.
const WIDTH: usize = 110;
/// Columns before the items.
const INDENT: usize = 18;

fn list<T: ToString>(text: &mut String, key: &str, items: impl IntoIterator<Item = T>) {
    let mut column = 0;
    for item in items {
        let item = item.to_string();
        if column == 0 {
            let _ = write!(text, "{key:<INDENT$}{item}");
            column = INDENT + item.len();
        } else if column + item.len() + 2 > WIDTH {
            let _ = write!(text, ",\n{:INDENT$}{item}", "");
            column = INDENT + item.len();
        } else {
            let _ = write!(text, ", {item}");
            column += item.len() + 2;
        }
    }
    if column > 0 {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_common::policy::SHIPPED;

    #[test]
    fn a_policy_is_shown_key_by_key() {
        let shipped = Policy::parse("policy.toml", SHIPPED).expect("a policy");
        insta::assert_snapshot!(policy(&shipped), @r"
        packages          etcd, etcd-*, calico-common, calico-compute, calico-control, calico-dhcp-agent, calico-felix,
                          networking-calico, python-etcd, dnsmasq, dnsmasq-base, openstack-neutron,
                          openstack-neutron-*, openstack-nova-*, conntrack, ipset, libipset*, libmnl0,
                          libnetfilter-conntrack*, net-tools, iptables-persistent, netfilter-persistent,
                          python-dnspython, python*-urllib3, conntrack-tools, ipset-libs, libnetfilter_*,
                          python*-neutron, python*-nova, python*-dns
        archives          https://github.com/coreos/etcd/releases/download/,
                          https://github.com/projectcalico/python-etcd/archive/master.tar.gz
        http_checks       http://127.0.0.1:9696/
        services.restart  etcd, calico-felix, calico-dhcp-agent, neutron-dhcp-agent, neutron-server
        services.disable  neutron-dhcp-agent
        etcd.backups      /var/lib/wavegate/etcd-backups
        python.install    python-etcd
        python.uninstall  networking-calico
        programs          /usr/local/bin/etcd, /usr/local/bin/etcdctl
        processes         dnsmasq of /var/lib/neutron/dhcp
        ini               /etc/neutron/neutron.conf [oslo_concurrency] lock_path
        ");
        assert_eq!(policy(&Policy::default()), "nothing is permitted\n");
        let all = Policy { whole_distribution: true, removals: true, downgrades: true, ..Policy::default() };
        assert_eq!(policy(&all), "beyond these      the whole distribution, removals, downgrades\n");
    }

    use wavegate_common::id::{Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
    use wavegate_common::journal::Record;
    use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder};
    use wavegate_common::outcome::StepError;
    use wavegate_common::platform::Stage;

    #[test]
    fn the_status_says_where_the_task_is() {
        let step = |name: &str| StepId::new(name).expect("an id");
        let planned = |name: &str| PlannedStep {
            id: step(name),
            title: format!("Do {name}"),
            work: Work::Skip { reason: "not here".to_owned() },
        };
        let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
        let plan = PlanId::new("p1").expect("an id");
        let key = TaskKey { rollout, plan, stage: Stage::Compute, node, attempt: 2 };
        let steps = ["install", "restart", "check"].map(planned).to_vec();
        let order =
            TaskOrder { key: key.clone(), generation: Generation(7), planned: None, steps: steps.into() };
        let mut journal = Journal::default();
        let mut add = |record: Record| {
            journal.apply(&record).expect("it fits");
            status(&journal)
        };
        let at = Timestamp(1);
        add(Record::Accepted { order, at });
        let outcome = Outcome::AlreadySo { evidence: "felix 1.4.6".to_owned() };
        add(Record::StepEnded { key: key.clone(), step: step("install"), at, outcome });
        let running = add(Record::StepStarted { key: key.clone(), step: step("restart"), at });
        insta::assert_snapshot!(running, @r"
        generation  7
        task        r1 compute n1 attempt 2
        state       step 2 of 3: Do restart (skip)
           1  install                      already so: felix 1.4.6
           2  restart                      running
           3  check                        to come
        ");
        let (what, next) = ("it is down".to_owned(), "start it by hand and retry".to_owned());
        let error = StepError { what, output: vec!["felix: no etcd".to_owned()], next };
        add(Record::StepEnded {
            key: key.clone(),
            step: step("restart"),
            at,
            outcome: Outcome::Failed { error },
        });
        let failed = add(Record::TaskEnded { key, result: TaskResult::Failed, at });
        insta::assert_snapshot!(failed, @r"
        generation  7
        task        r1 compute n1 attempt 2
        state       failed; the coordinator does not know yet
           1  install                      already so: felix 1.4.6
           2  restart                      failed: it is down
                | felix: no etcd
                next: start it by hand and retry
           3  check                        not tried
        ");
    }
}
