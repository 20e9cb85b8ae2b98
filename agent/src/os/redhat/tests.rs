//! What yum, dnf and rpm print, and what is read out of it. The texts of dnf are those of dnf 4.14; those of yum are written
//! after its sources, not recorded: cli.py, output.py, utils.py and yummain.py of 3.4.

use super::*;
use crate::os::packages::Wanted;
use proptest::prelude::*;
use wavegate_common::action::PackageSpec;

fn wanted(packages: &[&str], installed: &[(&str, &str)]) -> Wanted {
    let spec = |text: &&str| PackageSpec::try_from((*text).to_owned()).expect("a package");
    let packages = packages.iter().map(spec).collect();
    let installed =
        installed.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
    Wanted { packages, installed, ..Wanted::default() }
}

fn printed(stdout: &str, stderr: &str) -> Exit {
    Exit { code: 1, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

fn lines(commands: &[Command]) -> String {
    commands.iter().map(|command| command.argv.join(" ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn command_lines() {
    let packages =
        ["calico-felix=1.4.6-1", "calico-dhcp-agent=1:1.3.0", "etcd", "dnsmasq", "calico-common=1.4.6"];
    let installed = [("calico-felix", "1.3.1-1"), ("etcd", "3.2-1"), ("calico-common", "1.4.6-1")];
    let both = wanted(&packages, &installed);
    let whole = Wanted { distribution: true, ..both.clone() };
    let yum = PackageManager::Yum;
    assert_eq!(refresh(PackageManager::Dnf), None);
    let mut commands: Vec<Command> = refresh(yum).into_iter().collect();
    commands.extend(operations(&both).iter().map(|operation| operation.simulation(yum)));
    let versions_of = |names: &[(&str, &str)]| Simulated {
        installs: names.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect(),
        ..Simulated::default()
    };
    let resolved = versions_of(&[
        ("etcd", "3.3-1"),
        ("dnsmasq", "2.75-2"),
        ("calico-dhcp-agent", "1:1.3.0-1"),
        ("x", "1"),
    ]);
    commands.push(together(&both, &resolved).transaction(PackageManager::Dnf));
    commands.extend(downgrade(yum, &both, &resolved).iter().map(|operation| operation.transaction(yum)));
    assert_eq!(downgrade(PackageManager::Dnf, &both, &resolved), None);
    commands.extend(operations(&whole).iter().map(|operation| operation.transaction(yum)));
    commands.extend([audit(), versions(&["etcd"]), owner("/usr/bin/etcd"), configuration_files(&["etcd"])]);
    commands.extend(repairs(yum, |program| program == "package-cleanup", true));
    commands.extend(repairs(yum, |_| false, true));
    commands.extend(repairs(yum, |_| true, false));
    commands.extend(repairs(PackageManager::Dnf, |_| true, true));
    assert!(repairs(yum, |program| program == "package-cleanup", false).is_empty());
    insta::assert_snapshot!(lines(&commands), @r"
    yum -q --setopt=exit_on_lock=True clean expire-cache
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update etcd
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-felix-1.4.6-1 calico-dhcp-agent-1:1.3.0 dnsmasq
    dnf -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-dhcp-agent-1:1.3.0-1 etcd-3.3-1 dnsmasq-2.75-2
    yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False downgrade calico-felix-1.4.6-1
    yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update
    yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-felix-1.4.6-1 calico-dhcp-agent-1:1.3.0 dnsmasq
    rpm -qa --qf %{NAME}.%{ARCH}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n
    rpm -q --qf %{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{INSTALLTIME}\n -- etcd
    rpm -qf --qf %{NAME}\n -- /usr/bin/etcd
    rpm -qc -- etcd
    package-cleanup -y --cleandupes
    yum -y remove --duplicates
    yum-complete-transaction -y
    dnf -y remove --duplicates
    ");
}

const DNF: &str = "\
Last metadata expiration check: 0:00:10 ago on Sun Nov 22 13:08:23 2026.
Dependencies resolved.
==============================================================================================================
 Package                                                Arch    Version                             Repo
                                                                                                          Size
==============================================================================================================
Installing:
 a-package-with-a-very-long-name-that-no-column-holds   noarch  1.0.20221122.git.abcdef0123456789-1 lab  5.6 k
 newname                                                noarch  2.0-1                               lab  5.5 k
     replacing  oldname.noarch 1.0-1
Upgrading:
 calico-felix                                           noarch  0:1.4.6-1                           lab  998
Installing dependencies:
 calico-common                                          noarch  1.4.6-1                             lab  5.4 k
Removing dependent packages:
 calico-compute                                         noarch  1:1.1.2-1                           @lab   0
Downgrading:
 dnsmasq                                                x86_64  2.70-1                              lab  5.4 k
Skipping packages with conflicts:
(add '--best --allowerasing' to command line to force their upgrade):
 networking-calico                                      noarch  1:1.3.0-1                           lab  5.4 k

Transaction Summary
==============================================================================================================
Install  2 Packages
";

#[test]
fn a_table_of_dnf_is_read() {
    let simulated = read_simulation(&printed(DNF, "Operation aborted.\n")).expect("it reads");
    let installs: Vec<String> =
        simulated.installs.iter().map(|(name, version)| format!("{name} {version}")).collect();
    insta::assert_snapshot!(installs.join("\n"), @r"
    a-package-with-a-very-long-name-that-no-column-holds 1.0.20221122.git.abcdef0123456789-1
    calico-common 1.4.6-1
    calico-felix 1.4.6-1
    dnsmasq 2.70-1
    newname 2.0-1
    ");
    assert_eq!(simulated.removes.into_iter().collect::<Vec<_>>(), ["calico-compute", "oldname"]);
    assert_eq!(simulated.downgrades.into_iter().collect::<Vec<_>>(), ["dnsmasq"]);
    assert_eq!(simulated.kept_back.into_iter().collect::<Vec<_>>(), ["networking-calico"]);
}

const YUM: &str = "\
Loaded plugins: fastestmirror
Resolving Dependencies
--> Running transaction check
---> Package calico-felix.noarch 0:1.3.1-1.el7 will be updated
---> Package calico-felix.noarch 0:1.4.6-1.el7 will be an update
--> Finished Dependency Resolution

Dependencies Resolved

================================================================================
 Package                    Arch   Version                    Repository   Size
================================================================================
Updating:
 calico-felix               noarch 1.4.6-1.el7                calico       1.2 M
 a-package-with-a-very-long-name
                            noarch 1:2.0-1.el7.20221122gitabcdef0123456789
                                                              calico       5.4 k
Installing for dependencies:
 conntrack-tools            x86_64 1.4.4-7.el7                base         187 k
Removing for dependencies:
 old-agent                  noarch 1.0-1.el7                  @calico       12 k

Transaction Summary
================================================================================
Install             ( 1 Dependent package)
Upgrade  2 Packages
Remove              ( 1 Dependent package)

Total download size: 1.4 M
Exiting on user command
";

#[test]
fn a_table_of_yum_is_read_though_its_rows_are_broken() {
    let simulated = read_simulation(&printed(YUM, "")).expect("it reads");
    let installs: Vec<String> =
        simulated.installs.iter().map(|(name, version)| format!("{name} {version}")).collect();
    insta::assert_snapshot!(installs.join("\n"), @r"
    a-package-with-a-very-long-name 1:2.0-1.el7.20221122gitabcdef0123456789
    calico-felix 1.4.6-1.el7
    conntrack-tools 1.4.4-7.el7
    ");
    assert_eq!(simulated.removes.into_iter().collect::<Vec<_>>(), ["old-agent"]);
}

#[test]
fn nothing_to_do_is_told_from_a_refusal() {
    let nothing = [
        "Dependencies resolved.\nNothing to do.\nComplete!\n",
        "No packages marked for update\n",
        "Nothing to do\n",
    ];
    for text in nothing {
        assert!(read_simulation(&printed(text, "")).expect(text).is_empty(), "{text}");
    }
    let refused = |stdout: &str, stderr: &str| {
        read_simulation(&printed(stdout, stderr)).expect_err("a refusal").to_string()
    };
    let refusals = [
        refused("No match for argument: no-such\n", "Error: Unable to find a match: no-such\n"),
        // yum installs the rest then, and exits 0; without a rest, it is an error.
        refused("Loaded plugins: fastestmirror\nNo package no-such available.\n", "Error: Nothing to do\n"),
        refused("Package(s) no-such available, but not installed.\nNo packages marked for update\n", ""),
        refused(
            "(try to add '--allowerasing' to command line ...)\n",
            "Error: \n Problem: problem with installed package calico-dhcp-agent-1:1.1.2-1.noarch\n  - package ...\n",
        ),
        refused("", "Error: Failed to download metadata for repo 'lab': Cannot download repomd.xml\n"),
        // A repository that is away (urlgrabber's grabber.py), and no word of what follows from it.
        refused(
            "http://mirror.example/repodata/repomd.xml: [Errno 14] curl#7 - \"Connection refused\"\nTrying other mirror.\n",
            "",
        ),
        refused("", ""),
        refused("Dependencies resolved.\nUpgrading:\n a noarch ! lab 1 k\nTransaction Summary\n", ""),
        refused("Dependencies resolved.\nWondering:\n a noarch 1 lab 1 k\nTransaction Summary\n", ""),
        refused("Dependencies resolved.\nUpgrading:\n a noarch 1\nTransaction Summary\n", ""),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    No match for argument: no-such
    No package no-such available.
    Package(s) no-such available, but not installed.
    Problem: problem with installed package calico-dhcp-agent-1:1.1.2-1.noarch
    Error: Failed to download metadata for repo 'lab': Cannot download repomd.xml
    http://mirror.example/repodata/repomd.xml: [Errno 14] curl#7 - "Connection refused"
    unexpected answer without a transaction: 'nothing'
    unexpected row of the transaction: 'a noarch ! lab 1 k'
    unexpected group of packages in the transaction: 'Wondering:'
    unexpected row of the transaction: 'a noarch 1'
    "#);
}

#[test]
fn versions_owners_and_doubles_are_read() {
    let text = "calico-felix\t1.4.6-1\t1795352914\npackage nope is not installed\nkernel\t3.10-2\t20\nkernel\t3.10-1\t10\n\
                networking-calico\t0:1.3.0-1\t7\n";
    let versions = read_versions(&printed(text, "")).expect("it reads");
    assert_eq!(versions["calico-felix"], ("1.4.6-1".to_owned(), Timestamp(1_795_352_914_000)));
    assert_eq!(versions["kernel"].0, "3.10-2");
    assert_eq!(versions["networking-calico"].0, "1.3.0-1");
    let error = read_versions(&printed("a\t1\tsoon\n", "")).expect_err("no time");
    assert_eq!(error.to_string(), "unexpected line of rpm -q: 'a\t1\tsoon'");

    let owned = Exit { code: 0, stdout: "dnsmasq\n".to_owned(), stderr: String::new() };
    assert_eq!(read_owner(&owned).as_deref(), Some("dnsmasq"));
    assert_eq!(read_owner(&printed("file /x is not owned by any package\n", "")), None);

    let doubles = "a.noarch\t1\na.noarch\t2\nb.i686\t1\nb.x86_64\t1\nkernel.x86_64\t1\nkernel.x86_64\t2\n\
                   gpg-pubkey.(none)\t1\ngpg-pubkey.(none)\t2\n";
    let twice = read_audit(&printed(doubles, "")).expect("it reads");
    assert_eq!(twice.into_iter().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn complaints_are_recognised() {
    assert!(locked(
        "Existing lock /var/run/yum.pid: another copy is running as pid 12.\nAnother app is currently holding the yum lock; waiting for it to exit..."
    ));
    assert!(locked("error: can't create transaction lock on /var/lib/rpm/.rpm.lock"));
    assert!(!locked("Nothing to do"));
    let repomd = "http://deploy-1/rpm/repodata/repomd.xml: [Errno 14]";
    assert!(unreachable(&format!("{repomd} curl#7 - \"No route to host\"")));
    assert!(!unreachable(&format!("{repomd} HTTP Error 404 - Not Found")));
    let output = "warning: /etc/neutron/neutron.conf created as /etc/neutron/neutron.conf.rpmnew\n  \
                  Updating : x\nwarning: /etc/sysconfig/etcd saved as /etc/sysconfig/etcd.rpmsave\n";
    let kept: Vec<String> = kept_files(output).iter().map(|(path, what)| format!("{path}: {what}")).collect();
    insta::assert_snapshot!(kept.join("\n"), @r"
    /etc/neutron/neutron.conf: kept; the package's own is /etc/neutron/neutron.conf.rpmnew
    /etc/sysconfig/etcd: replaced by the package's own; the one before is /etc/sysconfig/etcd.rpmsave
    ");
}

#[test]
fn what_changes_no_package_is_passed_over() {
    let text = "Dependencies resolved.\nInstalling module profiles:\n perl/common\nInstalling Groups:\n Tools\n\
                Upgrading:\n a noarch 2-1 lab 1 k\nTransaction Summary\n";
    let simulated = read_simulation(&printed(text, "")).expect("it reads");
    assert_eq!(simulated.installs.into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn locks_interruptions_and_damage_are_recognised() {
    assert!(locked("metadata already locked by 4711"), "dnf 4.14 with exit_on_lock");
    let damage = "error: rpmdb: BDB0113 Thread/process 1/2 failed: BDB1507 Thread died in Berkeley DB library\n\
                  error: cannot open Packages index using db5 -  (-30973)\n";
    assert_eq!(damaged(&printed("", damage)).map(|line| line.len()), damage.lines().next().map(str::len));
    assert_eq!(damaged(&printed("package a is not installed\n", "")), None);
    let names = [
        "transaction-all.2026-11-22.12:00.00",
        "transaction-done.2026-11-22.12:00.00",
        "history",
        "transaction-all.2019-01-01.10:00.00.disabled",
    ]
    .map(str::to_owned);
    assert_eq!(interrupted(&names), ["/var/lib/yum/transaction-all.2026-11-22.12:00.00"]);
    let files = "/etc/calico/felix.cfg\n(contains no files)\npackage no-such is not installed\n";
    assert_eq!(read_configuration_files(&printed(files, "")).expect("it reads"), ["/etc/calico/felix.cfg"]);
    assert!(read_configuration_files(&printed("felix.cfg\n", "")).is_err());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(
        text in any::<String>(),
        rows in "(Installing:\n|Removing:\n|Skipping:\n| [a-z.:0-9-]{0,6} [a-z]{0,3} [0-9:.-]{0,4}|     replacing  [a-z.]{0,5}|\n){0,12}",
    ) {
        for stdout in [text.clone(), rows.clone(), format!("Dependencies Resolved\n{rows}")] {
            let exit = printed(&stdout, &text);
            let _ = (read_simulation(&exit), read_versions(&exit), read_audit(&exit), read_owner(&exit));
            let _ = (kept_files(&stdout), locked(&stdout), damaged(&exit), read_configuration_files(&exit).is_ok());
        }
    }
}
