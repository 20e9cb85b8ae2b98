//! What apt, dpkg and dpkg-query print, and what is read out of it. The texts are those of apt 1.2 and 2.6, dpkg 1.18 and 1.21.

use super::*;
use proptest::prelude::*;
use wavegate_common::action::PackageSpec;

fn wanted(packages: &[&str]) -> Wanted {
    let spec = |text: &&str| PackageSpec::try_from((*text).to_owned()).expect("a package");
    Wanted { packages: packages.iter().map(spec).collect(), ..Wanted::default() }
}

fn printed(stdout: &str) -> Exit {
    Exit { code: 0, stdout: stdout.to_owned(), stderr: String::new() }
}

#[test]
fn command_lines() {
    let whole = Wanted { distribution: true, allow_removals: true, ..wanted(&["etcd=2.3.8-1"]) };
    let mut commands = vec![refresh(), audit(), versions(&["etcd"]), owner("/usr/bin/etcd")];
    commands.extend(simulations(&wanted(&["calico-felix", "etcd=2.3.8-1"]), None));
    commands.extend(transactions(&wanted(&["calico-felix"]), None));
    commands.extend(transactions(&whole, Some("--allow-downgrades")));
    commands.extend(repairs());
    let lines: Vec<String> = commands.iter().map(|command| command.argv.join(" ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    apt-get -q -o Acquire::Retries=3 update
    dpkg-query -W -f=${Package}\t${Status}\n
    dpkg-query -W -f=${Package}\t${Version}\t${Status}\n -- etcd
    dpkg-query -S -- /usr/bin/etcd
    apt-get -s -q -y -o APT::Get::Always-Include-Phased-Updates=true install calico-felix etcd=2.3.8-1
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 -o APT::Get::Always-Include-Phased-Updates=true --no-remove install calico-felix
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 -o APT::Get::Always-Include-Phased-Updates=true --allow-downgrades install etcd=2.3.8-1
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 -o APT::Get::Always-Include-Phased-Updates=true --allow-downgrades dist-upgrade
    dpkg --force-confdef --force-confold --configure -a
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 --no-remove -f install
    ");
    let env: Vec<String> = commands[5].env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(env.join(" "), @"APT_LISTCHANGES_FRONTEND=none DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1");
}

#[test]
fn simulations_are_read() {
    let text = "Reading package lists...\nInst libfoo:i386 (1.0 Debian:12.1/stable [i386])\n\
                Inst calico-felix [1.3.1] (1.4.6 LP-PPA:16.04/xenial, other:1 [all]) [calico-common:amd64 ]\n\
                Remv calico-dhcp-agent [1:1.1.2] [networking-calico ]\nConf calico-felix (1.4.6 x:1 [all])\n\
                Conf broken broken\n";
    let simulated = read_simulation(&printed(text)).expect("it reads");
    assert_eq!(simulated.installs["calico-felix"], "1.4.6");
    assert_eq!(simulated.installs["libfoo:i386"], "1.0");
    assert_eq!(simulated.removes.into_iter().collect::<Vec<_>>(), ["calico-dhcp-agent"]);
    let downgrade = "The following packages will be DOWNGRADED:\n  a b\n  c\n0 upgraded, 3 downgraded\n  d\n";
    let simulated = read_simulation(&printed(downgrade)).expect("it reads");
    assert_eq!(simulated.downgrades.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    let error = read_simulation(&printed("Inst odd\n")).expect_err("another form");
    assert_eq!(error.to_string(), "unexpected line of apt-get -s: 'Inst odd'");
}

#[test]
fn states_versions_and_owners_are_read() {
    let text = "a\t1.0\tinstall ok installed\nb\t2:1-1\tinstall ok half-configured\nc\t1\tdeinstall ok config-files\n\
                d\t\tunknown ok not-installed\n";
    let versions = read_versions(&printed(text)).expect("it reads");
    assert_eq!(
        versions.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), "1.0".to_owned()), ("b".to_owned(), "2:1-1".to_owned())]
    );
    let rows = "a\tinstall ok installed\nb\tinstall ok half-configured\nc\thold ok triggers-pending\n\
                d\tinstall reinst-required installed\ne\tdeinstall ok config-files\n";
    let audit = read_audit(&printed(rows)).expect("it reads");
    assert_eq!(audit.into_iter().collect::<Vec<_>>(), ["b", "c", "d"]);
    let error = read_audit(&printed("a\tinstall ok wonderful\n")).expect_err("no state");
    assert_eq!(error.to_string(), "unexpected line of dpkg-query -W: 'a\tinstall ok wonderful'");
    assert!(read_audit(&printed("a\n")).is_err());
    let owner = |text: &str| read_owner(&printed(text));
    assert_eq!(owner("diversion by dash from: /bin/sh\ndash: /bin/sh\n").as_deref(), Some("dash"));
    assert_eq!(owner("libc6:amd64, libc6:i386: /lib/x\n").as_deref(), Some("libc6"));
    assert_eq!(owner(""), None);
    let names = ["a.list", "a:amd64.list", "ab.list", "a.md5sums"].map(str::to_owned);
    assert_eq!(install_stamps("a", &names), ["a.list", "a:amd64.list"]);
}

#[test]
fn complaints_are_recognised() {
    assert!(locked("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)"));
    assert!(locked("dpkg: error: dpkg frontend lock is locked by another process"));
    assert!(locked("dpkg: error: dpkg frontend lock was locked by another process with pid 296"));
    assert!(!locked("E: Unable to locate package x"));
    let down = "W: Failed to fetch http://y/InRelease  Could not connect to y:80 (10.0.0.1). - connect (113: No route to host)";
    assert!(unreachable(down) && unreachable("E: Failed to fetch http://y/a.deb  Could not resolve 'y'"));
    assert!(!unreachable("E: Failed to fetch http://y/a.deb  404  Not Found [IP: 10.0.0.1 80]"));
    let update = "Err:2 file:/x ./ Packages\nGet:2 file:/x ./ Packages [2290 B]\nW: Failed to fetch http://y/Release\n";
    assert_eq!(failed_sources(&printed(update)), ["W: Failed to fetch http://y/Release"]);
    let dpkg = "Configuration file '/etc/default/etcd'\n ==> Modified (by you or by a script) since installation.\n \
                ==> Package distributor has shipped an updated version.\n ==> Keeping old config file as default.\n";
    assert_eq!(
        kept_files(dpkg),
        [(
            "/etc/default/etcd".to_owned(),
            "kept; the package's own is /etc/default/etcd.dpkg-dist".to_owned()
        )]
    );
}

#[test]
fn interruptions_configuration_files_and_versions_are_read() {
    let names = ["0001", "0002", "tmp.i", "lock"].map(str::to_owned);
    assert_eq!(interrupted(&names), ["/var/lib/dpkg/updates/0001", "/var/lib/dpkg/updates/0002"]);
    let text = "\n /etc/calico/felix.cfg 0a1b\n /etc/init/calico-felix.conf 2c3d obsolete\n\n";
    assert_eq!(read_configuration_files(&printed(text)).expect("it reads"), ["/etc/calico/felix.cfg"]);
    assert!(read_configuration_files(&printed("felix.cfg\n")).is_err());
    let option = |text: &str| downgrade_option(&printed(text)).map_err(|error| error.to_string());
    // Ubuntu 14.04, 16.04 and 24.04.
    assert_eq!(option("apt 1.0.1ubuntu2 for amd64 compiled on Jan 12 2016\n"), Ok("--force-yes"));
    assert_eq!(option("apt 1.2.35 (amd64)\n"), Ok("--allow-downgrades"));
    assert_eq!(option("apt 2.7.14 (amd64)\n"), Ok("--allow-downgrades"));
    assert_eq!(option("what?\n"), Err("unexpected line of apt-get --version: 'what?'".to_owned()));
}

#[test]
fn an_answer_that_did_not_come_is_not_an_empty_one() {
    let query = versions(&["felix"]);
    let exit = |code, stderr: &str| Exit { code, stdout: String::new(), stderr: stderr.to_owned() };
    assert_eq!(damaged(&query, &exit(1, "dpkg-query: no packages found matching felix\n")), None);
    assert_eq!(
        damaged(&query, &exit(2, "dpkg-query: error: parsing file\nmore\n")),
        Some("dpkg-query: error: parsing file")
    );
    assert_eq!(damaged(&query, &exit(137, "")), Some("it says nothing"));
    assert_eq!(damaged(&repair_simulation(), &exit(2, "dpkg has another meaning of it")), None);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), lines in "((Inst|Remv|Conf)? ?[a-z:()\\[\\]\t., \n]{0,12}){0,6}") {
        for exit in [printed(&text), printed(&lines)] {
            let _ = (read_simulation(&exit), read_versions(&exit), read_audit(&exit), read_owner(&exit));
            let _ = (read_configuration_files(&exit), downgrade_option(&exit).is_ok());
            let _ = (failed_sources(&exit), kept_files(&exit.stdout), locked(&exit.stdout));
        }
    }
}
