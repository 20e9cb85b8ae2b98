//! The shipped policy beside the shipped procedure, what is refused, and texts that are no policy.

use super::*;
use crate::action::{
    Action, HttpCheck, IniSet, PackageInstall, PackageSpec, ProcessKillStale, Scope, ServiceCheck,
    ServiceDisable, ServiceRestart,
};
use crate::platform::OsFamily;
use crate::procedure::{Procedure, Values, shipped};
use proptest::prelude::*;
use toml::Value as Toml;

fn policy(text: &str) -> Policy {
    Policy::parse("policy.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn values(procedure: &Procedure, more: &[&str]) -> Values {
    let digest = "0".repeat(64);
    let mut set = vec![
        format!("etcd_archive_sha256={digest}"),
        format!("python_etcd_archive_sha256={digest}"),
        "python_etcd_version=0.4.1".to_owned(),
    ];
    set.extend(more.iter().map(ToString::to_string));
    procedure.values(None, &set).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every step of the shipped procedure on every family, whatever its conditions, with default parameters; and the etcd of
/// two packages that the documentation has for Debian.
fn shipped_actions() -> Vec<(String, Action)> {
    let (file, text) = shipped("calico-openstack").expect("it ships");
    let procedure = Procedure::parse(file, text).unwrap_or_else(|errors| panic!("{errors}"));
    let mut actions = Vec::new();
    for more in [&[][..], &["etcd_packages=etcd-server,etcd-client"]] {
        let values = values(&procedure, more);
        for stage in &procedure.stages {
            for family in OsFamily::ALL {
                for step in stage.steps.iter().filter(|step| step.platforms.contains(family)) {
                    let built = step.build(&|name| procedure.value(name, &values));
                    let (action, _) = built.unwrap_or_else(|errors| panic!("{}: {errors:?}", step.id));
                    actions.push((format!("{} {family} {}", stage.stage, step.id), action));
                }
            }
        }
    }
    actions
}

fn refused(policy: &Policy) -> Vec<String> {
    let all = shipped_actions();
    let of = |(step, action): &(String, Action)| {
        let refusals = policy.refusals(action);
        refusals.iter().map(|refusal| format!("{step}: {refusal}")).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

#[test]
fn the_shipped_policy_covers_the_shipped_procedure() {
    assert_eq!(refused(&policy(SHIPPED)), [""; 0]);
}

/// Every text that has one item of a list, or one whole table, less.
fn with_one_item_less(value: &Toml) -> Vec<(String, Toml)> {
    match value {
        Toml::Array(items) => (0..items.len())
            .flat_map(|index| {
                let mut less = items.clone();
                let gone = less.remove(index);
                let mut all = vec![(gone.to_string(), Toml::Array(less))];
                all.extend(with_one_item_less(&items[index]).into_iter().map(|(gone, smaller)| {
                    let mut items = items.clone();
                    items[index] = smaller;
                    (gone, Toml::Array(items))
                }));
                all
            })
            .collect(),
        Toml::Table(table) => table
            .iter()
            .flat_map(|(key, value)| {
                with_one_item_less(value).into_iter().map(move |(gone, smaller)| {
                    let mut table = table.clone();
                    table.insert(key.clone(), smaller);
                    (format!("{key}: {gone}"), Toml::Table(table))
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn and_no_more() {
    let whole = Toml::Table(SHIPPED.parse().expect("TOML"));
    let less = with_one_item_less(&whole);
    assert!(less.len() > 40, "{}", less.len());
    for (gone, less) in less {
        let less = policy(&toml::to_string(&less).expect("TOML"));
        assert_ne!(refused(&less), [""; 0], "no step needs {gone}");
    }
    let shipped = policy(SHIPPED);
    assert!(!shipped.whole_distribution && !shipped.removals && !shipped.downgrades);
}

fn spec(name: &str) -> PackageSpec {
    PackageSpec::try_from(name.to_owned()).expect(name)
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Orders that a coordinator in wrong hands would give.
fn orders_of_a_stranger() -> Vec<Action> {
    let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).expect(text);
    let restart = |unit: &str, packages: &[&str]| {
        Action::ServiceRestart(ServiceRestart {
            unit: unit.to_owned(),
            newer_than_packages: texts(packages),
            newer_than_steps: Vec::new(),
            enable: true,
        })
    };
    let archive = |url: &str, directory: &str, program: &str| {
        let digest = "0".repeat(64);
        serde_json::from_value(serde_json::json!({
            "action": "etcd.install_archive", "url": url, "sha256": digest, "binaries": [program],
            "directory": directory, "unit": "etcd",
        }))
        .expect("an action")
    };
    let ini = |file: &str, key: &str, value: &str| {
        Action::IniSet(IniSet {
            file: file.to_owned(),
            section: "oslo_concurrency".to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        })
    };
    let good = "https://github.com/coreos/etcd/releases/download/x.tar.gz";
    vec![
        Action::PackageInstall(PackageInstall {
            packages: vec![spec("openssh-server=1:7"), spec("calico-felix")],
            if_installed: vec![spec("linux-image")],
            scope: Scope::Distribution,
            also: vec![pattern("lib*"), pattern("libipset13*")],
            allow_removals: true,
            allow_downgrades: true,
            keep_down: texts(&["sshd", "calico-felix"]),
        }),
        archive("https://github.com.evil/coreos/etcd/releases/download/x", "/usr/local/bin", "etcd"),
        archive(good, "/usr/bin", "sudo"),
        restart("sshd", &["etcd"]),
        restart("etcd", &["--pipe=sh", "etcd=3"]),
        Action::ServiceDisable(ServiceDisable { unit: "calico-felix".to_owned() }),
        Action::ProcessKillStale(ProcessKillStale {
            program: "dnsmasq".to_owned(),
            pid_files: "/".to_owned(),
            packages: Vec::new(),
            owner: Some("libvirtd".to_owned()),
        }),
        ini("/etc/sudoers", "lock_path", "x"),
        ini("/etc/neutron/neutron.conf", "auth", "none"),
        ini("/etc/neutron/neutron.conf", "lock_path", "/lock\n[DEFAULT]"),
        Action::ServiceCheck(ServiceCheck { active: texts(&["sshd"]), ..ServiceCheck::default() }),
        Action::HttpCheck(HttpCheck {
            url: "http://169.254.169.254/latest/meta-data/".to_owned(),
            contains: String::new(),
            within_s: 1,
        }),
        Action::HttpCheck(HttpCheck {
            url: "http://127.0.0.1:9696/../x".to_owned(),
            contains: String::new(),
            within_s: 1,
        }),
        serde_json::from_value(serde_json::json!({
            "action": "pip.uninstall", "distribution": "python-etcd",
        }))
        .expect("an action"),
        serde_json::from_value(serde_json::json!({
            "action": "version.check", "component": "felix", "package": "--eval",
        }))
        .expect("an action"),
        serde_json::from_value(serde_json::json!({
            "action": "process.check", "program": "sshd", "pid_files": "/run", "within_s": 1,
        }))
        .expect("an action"),
        serde_json::from_value(serde_json::json!({
            "action": "etcd.install_packages", "packages": ["openssh-server"], "also": ["lib*"], "allow_downgrades": true,
            "unit": "sshd", "within_s": 1, "max_lag": 1,
        }))
        .expect("an action"),
        serde_json::from_value(serde_json::json!({ "action": "etcd.back_up", "directory": "/var/www" }))
            .expect("an action"),
        serde_json::from_value(serde_json::json!({
            "action": "etcd.back_up", "directory": "/var/lib/wavegate/etcd-backups/../../../www",
        }))
        .expect("an action"),
    ]
}

#[test]
fn what_is_outside_is_named_with_the_key_that_would_permit_it() {
    let shipped = policy(SHIPPED);
    let lines = orders_of_a_stranger().into_iter().map(|action| {
        let refusals = shipped.refusals(&action);
        assert_ne!(refusals, [], "{action:?}");
        let refusals = refusals.iter().map(|refusal| format!("  {refusal}\n")).collect::<String>();
        format!("{}\n{refusals}", action.name())
    });
    insta::assert_snapshot!(lines.collect::<String>(), @r"
    package.install
      package openssh-server is not permitted by 'packages'
      package linux-image is not permitted by 'packages'
      package lib* is not permitted by 'packages'
      an upgrade of the whole distribution is not permitted by 'whole_distribution'
      the removal of packages is not permitted by 'removals'
      going back to older versions of packages is not permitted by 'downgrades'
      service sshd is not permitted by 'services'
    etcd.install_archive
      URL https://github.com.evil/coreos/etcd/releases/download/x is not permitted by 'archives'
    etcd.install_archive
      program sudo in /usr/bin is not permitted by 'programs'
    service.restart
      service sshd is not permitted by 'services.restart'
    service.restart
      '--pipe=sh' is no package's name; no policy permits that
      'etcd=3' is no package's name; no policy permits that
    service.disable
      service calico-felix is not permitted by 'services.disable'
    process.kill_stale
      ending or checking processes of dnsmasq in / is not permitted by 'processes'
      service libvirtd is not permitted by 'services'
    ini.set
      key lock_path of section [oslo_concurrency] in /etc/sudoers is not permitted by 'ini'
    ini.set
      key auth of section [oslo_concurrency] in /etc/neutron/neutron.conf is not permitted by 'ini'
    ini.set
      the value of lock_path has a line break or a control character; no policy permits that
    service.check
      service sshd is not permitted by 'services'
    http.check
      URL http://169.254.169.254/latest/meta-data/ is not permitted by 'http_checks'
    http.check
      'http://127.0.0.1:9696/../x' is not a URL that a policy can judge: write the path without '.' and '..'; no policy permits that
    pip.uninstall
      Python distribution python-etcd is not permitted by 'python.uninstall'
    version.check
      '--eval' is no package's name; no policy permits that
    process.check
      ending or checking processes of sshd in /run is not permitted by 'processes'
    etcd.install_packages
      package openssh-server is not permitted by 'packages'
      package lib* is not permitted by 'packages'
      going back to older versions of packages is not permitted by 'downgrades'
      service sshd is not permitted by 'services.restart'
    etcd.back_up
      backing etcd up to /var/www is not permitted by 'etcd.backups'
    etcd.back_up
      backing etcd up to /var/lib/wavegate/etcd-backups/../../../www is not permitted by 'etcd.backups'
    ");
}

#[test]
fn an_empty_policy_permits_nothing_that_touches_anything() {
    let nothing = policy("");
    assert_eq!(nothing, Policy::default());
    let permitted = |(_, action): &(String, Action)| nothing.refusals(action).is_empty();
    let names: Vec<String> =
        shipped_actions().into_iter().filter(permitted).map(|(_, action)| action.name().to_owned()).collect();
    // The program of one is ours, run with --version; the others ask etcd where the node's own configuration says.
    let harmless = ["version.check", "etcd.check_cluster", "etcd.check_member", "etcd.check_endpoint"];
    assert!(names.iter().all(|name| harmless.contains(&name.as_str())), "{names:?}");
}

#[test]
fn a_pattern_of_an_order_is_covered_by_a_wider_one_alone() {
    let policy = policy("packages = [\"lib*-dev\", \"etcd\"]");
    for (pattern, covered) in [
        ("libx-dev", true),
        ("lib*-dev", true),
        ("lib*x*-dev", true),
        ("lib*", false),
        ("lib*-de*", false),
        ("etcd*", false),
        ("etcd", true),
    ] {
        assert_eq!(policy.permits_package(pattern), covered, "{pattern}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = r#"
pakages = ["etcd"]
packages = ["*", "etcd", "etcd", 7]
whole_distribution = "no"
archives = ["https://user@github.com/", "github.com"]
[services]
restart = ["etcd.service", "-x"]
stop = []
[python]
install = ["a b"]
[[programs]]
directory = "usr/bin"
[[processes]]
program = "/bin/x"
pid_files = "/run/../etc"
[[ini]]
file = "/etc/"
section = ""
keys = ["a\nb"]
"#;
    let errors = Policy::parse("policy.toml", text).expect_err("refused");
    insta::assert_snapshot!(errors, @r"
    policy.toml:2:1: unknown field 'pakages' in the policy; did you mean 'packages'?
    policy.toml:3:13: packages: '*' is not a pattern of package names: a name of letters, digits and '+ - . _ :', with '*' for any letters, not '*' alone
    policy.toml:3:26: packages: 'etcd' is there twice; once is enough
    policy.toml:3:34: 'packages' has a number in it; it must be a list of strings
    policy.toml:4:22: whole_distribution: it is a string; it must be true or false
    policy.toml:5:13: archives: 'https://user@github.com/' is not a URL that a policy can judge: leave out the user before '@'
    policy.toml:5:41: archives: 'github.com' is not a URL that a policy can judge: begin it with http://, https:// or file:///
    policy.toml:7:12: restart: 'etcd.service' is a unit; write 'etcd', without .service
    policy.toml:7:28: restart: '-x' is not a service; write its name, of letters, digits and '@ : - _ .'
    policy.toml:8:1: unknown field 'stop' in [services]; known: restart, disable
    policy.toml:10:12: install: 'a b' is not a Python distribution; write its name, of letters, digits and '- _ .'
    policy.toml:11:1: [[programs]] has no 'names'; write one
    policy.toml:12:13: directory: 'usr/bin' is not a plain absolute path; write it from /, without '.', '..' and a '/' at its end
    policy.toml:14:11: program: '/bin/x' is not a program's name: a file name without a directory, of letters, digits and '+ - . _', not beginning with '-' or '.'
    policy.toml:15:13: pid_files: '/run/../etc' is not a plain absolute path; write it from /, without '.', '..' and a '/' at its end
    policy.toml:17:8: file: '/etc/' is not a plain absolute path; write it from /, without '.', '..' and a '/' at its end
    policy.toml:18:11: 'section' of [[ini]] is empty; write one
    policy.toml:19:9: keys: 'a\nb' has a line break or a control character
    ");
    let errors = Policy::parse("policy.toml", "packages = [\"etcd\"").expect_err("refused").to_string();
    assert!(errors.starts_with("policy.toml:1:"), "{errors}");
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}|((packages|archives|ini|\\[\\[ini\\]\\]|\\[services\\]|file) ?=? ?[\\[\\]{}\"a-z/,.:*\n]{0,24}\n){0,4}") {
        let _ = Policy::parse("policy.toml", &text);
    }

    /// What a permitted order names is in the lists, and a transaction that it permits by a pattern is permitted by name.
    #[test]
    fn what_is_permitted_is_within_the_lists(
        known in proptest::collection::vec("[a-c]{1,2}[a-c*]{0,2}", 0..4),
        named in proptest::collection::vec("[a-c]{1,3}", 0..3),
        also in "[a-c]{1,2}[a-c*]{0,3}",
        filling in "[a-c]{0,3}",
        units in proptest::collection::vec("[a-c]", 0..3),
        unit in "[a-c]",
    ) {
        let pattern = |text: String| PackagePattern::try_from(text).expect("a pattern");
        let policy = Policy {
            packages: known.into_iter().map(pattern).collect(),
            services: Services { restart: units.clone(), disable: Vec::new() },
            ..Policy::default()
        };
        let install = Action::PackageInstall(PackageInstall {
            packages: named.iter().map(|name| spec(name)).collect(),
            also: vec![pattern(also.clone())],
            ..PackageInstall::default()
        });
        if policy.refusals(&install).is_empty() {
            for name in named.into_iter().chain([also.replace('*', &filling)]) {
                prop_assert!(policy.permits_package(&name), "{}", name);
            }
        }
        let disable = Action::ServiceDisable(ServiceDisable { unit: unit.clone() });
        prop_assert!(!policy.refusals(&disable).is_empty());
        let look = ServiceCheck { active: vec![unit.clone()], ..ServiceCheck::default() };
        prop_assert_eq!(policy.refusals(&Action::ServiceCheck(look)).is_empty(), units.contains(&unit));
    }
}
