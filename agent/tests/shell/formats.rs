//! What wavegate keeps and sends, in format 1, as version 0.1.0 wrote it (`tests/formats`): every later version reads it and takes
//! it for what it was. How samples are made is in the README there; those that are there are never changed.

use crate::support::{key, node, observed, order_as_planned, shipped_plan, shipped_steps};
use std::collections::BTreeSet;
use wavegate_agent::host::fake::FakeMachine;
use wavegate_agent::host::{Command, Host, real::RealHost};
use wavegate_agent::journal::lines::{self, FORMAT, Reading};
use wavegate_agent::output::{Output, last_line};
use wavegate_agent::show;
use wavegate_common::facts::Facts;
use wavegate_common::id::{Generation, LeaderId, StepId, Timestamp};
use wavegate_common::journal::{ChangedAt, Next, Record, TaskInJournal};
use wavegate_common::order::{PlannedStep, TaskOrder, Work};
use wavegate_common::outcome::{Change, Outcome, StepError};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{EndedStep, TaskResult};

const JOURNAL: &str = include_str!("../formats/v1/journal");
const FACTS: &str = include_str!("../formats/v1/facts.json");
const PLAN: &str = include_str!("../formats/v1/plan.json");
const ORDER: &str = include_str!("../formats/v1/order.json");
const RESULT: &str = include_str!("../formats/v1/transaction-result.json");
const OUTPUT: &str = include_str!("../formats/v1/output");

fn id(name: &str) -> StepId {
    StepId::new(name).expect("an id")
}

/// The recorded order, as another attempt: what is written today does not depend on the procedure that ships today.
fn short_order(attempt: u32) -> TaskOrder {
    let order: TaskOrder = serde_json::from_str(ORDER).expect("an order");
    TaskOrder { key: key(attempt), ..order }
}

/// An order of three steps, for a sample.
fn order_of_today() -> TaskOrder {
    let machine = FakeMachine::debian_compute();
    let mut steps = shipped_steps(&machine, Stage::Compute, &[]);
    steps.retain(|step| ["install-packages", "restart-felix"].contains(&step.id.as_str()));
    let work = Work::Skip { reason: "not on this platform".to_owned() };
    steps.push(PlannedStep { id: id("last"), title: "Skipped".to_owned(), work });
    order_as_planned(1, 3, &steps, &machine)
}

/// Every kind of record, with every kind of outcome and change.
fn records() -> Vec<Record> {
    let at = Timestamp;
    let order = short_order(1);
    let steps: Vec<StepId> = order.steps.iter().map(|step| step.id.clone()).collect();
    let text = str::to_owned;
    let changes = vec![
        Change::Package { name: text("calico-felix"), from: Some(text("1.4.6")), to: Some(text("2.0.0")) },
        Change::Version { of: text("etcd"), from: None, to: text("3.4.23") },
        Change::Service { unit: text("calico-felix"), what: text("restarted") },
        Change::Process { pid: 7, program: text("dnsmasq"), why: text("it runs a file that was replaced") },
        Change::File { path: text("/etc/neutron/neutron.conf"), what: text("line 2 added") },
    ];
    let changed = Outcome::Changed { changes, evidence: text("calico-felix 2.0.0") };
    let already = Outcome::AlreadySo { evidence: text("it is there") };
    let error = StepError { what: text("it broke"), output: vec![text("E: broken")], next: text("mend it") };
    let earlier = TaskInJournal {
        order: TaskOrder { planned: None, ..short_order(9) }.into(),
        steps: vec![EndedStep { step: steps[0].clone(), ended_at: at(40), outcome: already.clone() }],
        started: None,
        begun: true,
        result: Some(TaskResult::Failed),
        acknowledged: true,
    };
    let changed_at = vec![ChangedAt { stage: Stage::Etcd, step: id("install-etcd"), at: at(30) }];
    let started = |attempt, step: &StepId, ms| Record::StepStarted {
        key: key(attempt),
        step: step.clone(),
        at: at(ms),
    };
    let ended = |attempt, step: &StepId, ms, outcome| Record::StepEnded {
        key: key(attempt),
        step: step.clone(),
        at: at(ms),
        outcome,
    };
    vec![
        Record::Generation { generation: Generation(3), leader: Some(LeaderId::new(0xabc)) },
        Record::Compacted { changed_at, ended: vec![earlier] },
        Record::Accepted { order, at: at(100) },
        started(1, &steps[0], 101),
        ended(1, &steps[0], 102, changed),
        started(1, &steps[1], 103),
        ended(1, &steps[1], 104, Outcome::Failed { error }),
        Record::TaskEnded { key: key(1), result: TaskResult::Failed, at: at(105) },
        Record::Acknowledged { key: key(1) },
        Record::Accepted { order: short_order(2), at: at(200) },
        ended(2, &steps[0], 201, already),
        started(2, &steps[1], 1_763_841_600_000),
    ]
}

fn text_of(records: &[Record]) -> String {
    let lines: Vec<String> = records.iter().map(|record| lines::line(record).expect("JSON")).collect();
    format!("{FORMAT}\n{}", lines.concat())
}

fn read(text: &str) -> Reading {
    lines::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

/// What today's programs write, for a sample of a new format.
#[test]
fn what_is_written_today_can_be_had_as_a_sample() {
    let machine = FakeMachine::debian_compute();
    let pretty = |value: serde_json::Value| format!("{value:#}\n");
    let json = |value: Result<serde_json::Value, serde_json::Error>| pretty(value.expect("JSON"));
    let state = tempfile::tempdir().expect("a directory");
    let output = Output::kept_in(state.path());
    output.begin(&key(1), &id("install-packages"));
    output.line("Reading package lists...");
    let host = RealHost::with_runner(state.path().to_owned(), env!("CARGO_BIN_EXE_wavegate-agent").into());
    let command = Command::new(["sh", "-c", "echo begun; exit 7"]);
    host.transact("r1:compute:1:install.0", &command, &mut |_| ()).expect("it ends");
    let transaction = state.path().join("transactions").join("r1_compute_1_install.0-f9ea9a07");
    let file = |path: std::path::PathBuf| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    let samples = [
        ("journal", text_of(&records())),
        ("facts.json", json(serde_json::to_value(observed(&machine)))),
        ("plan.json", serde_json::to_string(&shipped_plan(&machine, &[])).expect("JSON") + "\n"),
        ("order.json", json(serde_json::to_value(order_of_today()))),
        ("transaction-result.json", file(transaction.join("result.json"))),
        ("output", file(state.path().join("output"))),
    ];
    for (name, text) in samples {
        assert!(!text.is_empty(), "{name}");
        if let Some(directory) = std::env::var_os("WAVEGATE_WRITE_SAMPLES") {
            std::fs::write(std::path::Path::new(&directory).join(name), text).expect("written");
        }
    }
}

#[test]
fn a_journal_means_what_it_meant() {
    let reading = read(JOURNAL);
    let journal = &reading.journal;
    assert_eq!(reading.torn, None);
    assert_eq!(*journal, read(&text_of(&records())).journal, "it has everything that is written today");
    assert_eq!((journal.generation(), journal.leader().id), (Generation(3), Some(LeaderId::new(0xabc))));
    assert_eq!(journal.next(), Next::Step { index: 1, interrupted: true });
    assert_eq!(reading.started_at, Some(Timestamp(1_763_841_600_000)));
    assert_eq!(journal.changed_at(Stage::Etcd, &id("install-etcd")), Some(Timestamp(30)));
    assert_eq!(journal.changed_at(Stage::Compute, &id("install-packages")), Some(Timestamp(102)));
    let ended: Vec<_> =
        journal.ended().iter().map(|task| (task.order.key.attempt, task.result, task.acknowledged)).collect();
    assert_eq!(ended, [(9, Some(TaskResult::Failed), true), (1, Some(TaskResult::Failed), true)]);
    insta::assert_snapshot!(show::status(journal), @r"
    generation  3
    task        r1 compute compute-1 attempt 2
    state       step 2 of 3: Restart Felix, so that it picks up the changes (service.restart)
       1  install-packages             already so: it is there
       2  restart-felix                running
       3  last                         to come
    ");
}

#[test]
fn the_journals_sample_has_every_kind_of_record() {
    let kind = |record: &Record| match record {
        Record::Generation { .. } => "generation",
        Record::Accepted { .. } => "accepted",
        Record::StepStarted { .. } => "step_started",
        Record::StepEnded { .. } => "step_ended",
        Record::TaskEnded { .. } => "task_ended",
        Record::Acknowledged { .. } => "acknowledged",
        Record::Compacted { .. } => "compacted",
    };
    let today: BTreeSet<&str> = records().iter().map(kind).collect();
    assert_eq!(today.len(), 7);
    for kind in today {
        assert!(JOURNAL.contains(&format!("{{\"record\":\"{kind}\"")), "{kind}");
    }
}

#[test]
fn what_a_record_says_beyond_what_is_known_is_ignored() {
    let more = |line: &str| {
        let json = line.split_once(' ').expect("a checksum").1;
        let mut value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let places = [
            "",
            "/key",
            "/order",
            "/order/key",
            "/order/planned",
            "/order/steps/0",
            "/outcome",
            "/outcome/error",
        ];
        for place in places {
            if let Some(object) = value.pointer_mut(place).and_then(serde_json::Value::as_object_mut) {
                object.insert("of_a_later_version".to_owned(), serde_json::json!({ "a": [1] }));
            }
        }
        let json = value.to_string();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    };
    let text: String = JOURNAL.lines().skip(1).map(more).collect();
    assert_eq!(text.matches("of_a_later_version").count(), 32);
    assert_eq!(read(&format!("{FORMAT}\n{text}")).journal, read(JOURNAL).journal);
}

#[test]
fn documents_mean_what_they_meant() {
    let facts: Facts = serde_json::from_str(FACTS).expect("facts");
    insta::assert_snapshot!(show::facts(&facts), @r"
    node        compute-1
    host name   node
    platform    Ubuntu 16.04.7 LTS (apt, systemd)
    kernel      4.4.0-210-generic
    roles       compute
    versions    felix 1.3.1, networking-calico 1:1.1.2, neutron 2:8.0.0-0ubuntu1, dnsmasq 2.75-1
    OpenStack   mitaka
    DHCP agent  neutron
    agent       0.1.0
    ");
    let order: TaskOrder = serde_json::from_str(ORDER).expect("an order");
    let planned = order.planned.as_ref().expect("what the plan saw");
    insta::assert_snapshot!(format!("{} of {}, planned for {}: {:?}\n{:#?}", order.key, order.generation, planned.platform, planned.versions, &order.steps[..]), @r#"
    r1 compute compute-1 attempt 1 of 3, planned for ubuntu 16.04, apt/systemd: {Felix: "1.3.1", NetworkingCalico: "1:1.1.2", Neutron: "2:8.0.0-0ubuntu1", Dnsmasq: "2.75-1"}
    [
        PlannedStep {
            id: StepId(
                "install-packages",
            ),
            title: "Upgrade the Calico packages of a compute node",
            work: Run {
                action: PackageInstall(
                    PackageInstall {
                        packages: [
                            PackageSpec {
                                name: "calico-compute",
                                version: None,
                            },
                            PackageSpec {
                                name: "calico-felix",
                                version: None,
                            },
                            PackageSpec {
                                name: "calico-common",
                                version: None,
                            },
                            PackageSpec {
                                name: "python-etcd",
                                version: None,
                            },
                            PackageSpec {
                                name: "networking-calico",
                                version: None,
                            },
                        ],
                        if_installed: [
                            PackageSpec {
                                name: "calico-dhcp-agent",
                                version: None,
                            },
                            PackageSpec {
                                name: "dnsmasq-base",
                                version: None,
                            },
                        ],
                        scope: Named,
                        also: [
                            PackagePattern(
                                "conntrack",
                            ),
                            PackagePattern(
                                "ipset",
                            ),
                            PackagePattern(
                                "libipset*",
                            ),
                            PackagePattern(
                                "libmnl0",
                            ),
                            PackagePattern(
                                "libnetfilter-conntrack*",
                            ),
                            PackagePattern(
                                "net-tools",
                            ),
                            PackagePattern(
                                "iptables-persistent",
                            ),
                            PackagePattern(
                                "netfilter-persistent",
                            ),
                            PackagePattern(
                                "python-dnspython",
                            ),
                            PackagePattern(
                                "python-urllib3",
                            ),
                        ],
                        allow_removals: false,
                        allow_downgrades: false,
                        keep_down: [],
                    },
                ),
                timeout_s: 1800,
            },
        },
        PlannedStep {
            id: StepId(
                "restart-felix",
            ),
            title: "Restart Felix, so that it picks up the changes",
            work: Run {
                action: ServiceRestart(
                    ServiceRestart {
                        unit: "calico-felix",
                        newer_than_packages: [
                            "calico-felix",
                            "calico-common",
                            "networking-calico",
                            "python-etcd",
                        ],
                        newer_than_steps: [
                            StepId(
                                "uninstall-pip-networking-calico",
                            ),
                        ],
                        enable: false,
                    },
                ),
                timeout_s: 180,
            },
        },
        PlannedStep {
            id: StepId(
                "last",
            ),
            title: "Skipped",
            work: Skip {
                reason: "not on this platform",
            },
        },
    ]
    "#);
    // A digest is over what is written: one that does not match would end every rollout that was begun before.
    let plan: Plan = serde_json::from_str(PLAN).expect("a plan");
    plan.verify().expect("it is the one that was sealed");
    let steps =
        |stage: Stage| plan.stage(stage).map(|planned| planned.tasks.get(&node()).map(|steps| steps.len()));
    assert_eq!(
        [Stage::Etcd, Stage::Compute, Stage::Control].map(steps),
        [Some(None), Some(Some(14)), Some(None)]
    );
    insta::assert_snapshot!(format!("{} {} {}", plan.id, plan.body.procedure, plan.body.procedure_version), @"d6e5f73b6cc2 calico-openstack 3");
}

#[test]
fn what_an_agent_before_left_on_the_disk_is_found() {
    let state = tempfile::tempdir().expect("a directory");
    let transaction = state.path().join("transactions").join("r1_compute_1_install.0-f9ea9a07");
    std::fs::create_dir_all(&transaction).expect("a directory");
    for (name, text) in [("result.json", RESULT), ("output.log", "begun\n"), ("lock", "")] {
        std::fs::write(transaction.join(name), text).expect("written");
    }
    let host = RealHost::with_runner(state.path().to_owned(), "/nowhere".into());
    let exit =
        host.transact("r1:compute:1:install.0", &Command::new(["sh"]), &mut |_| ()).expect("it is found");
    assert_eq!((exit.code, exit.stdout.as_str()), (7, "begun\n"));
    std::fs::write(state.path().join("output"), OUTPUT).expect("written");
    assert_eq!(
        last_line(state.path(), &key(1), &id("install-packages")).as_deref(),
        Some("Reading package lists...")
    );
}
