//! The packages as `make packages` makes them: what is in them, what their programs ask of a host, and that making them again
//! makes the same. What they do on hosts is shown on hosts of the lab.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;
use wavegate_tests::elf::Needs;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PACKAGES: [&str; 2] = ["wavegate-agent", "wavegate-coordinator"];

/// glibc of CentOS 7.
const GLIBC: (u32, u32) = (2, 17);
/// What the agent may take on every host of a fleet.
const AGENT_AT_MOST: u64 = 8 * 1024 * 1024;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Where `make packages` left them.
fn made() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let packages = target.join("packages");
    assert!(
        deb_in(&packages, PACKAGES[0]).exists(),
        "there are no packages in {}: make packages",
        packages.display()
    );
    packages
}

fn deb_in(directory: &Path, package: &str) -> PathBuf {
    directory.join(format!("{package}_{VERSION}-1_amd64.deb"))
}

fn rpm_in(directory: &Path, package: &str) -> PathBuf {
    directory.join(format!("{package}-{VERSION}-1.x86_64.rpm"))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// A tag of an rpm, for every file a line if the format is in brackets.
fn query(package: &str, format: &str) -> String {
    run("rpm", &["-qp", "--qf", format, text_of(&rpm_in(&made(), package))])
}

/// A deb unpacked: its files in `root`, its scripts in `control`.
struct Unpacked {
    directory: TempDir,
}

impl Unpacked {
    fn of(package: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let deb = deb_in(&made(), package);
        for (how, into) in [("-x", "root"), ("-e", "control")] {
            run("dpkg-deb", &[how, text_of(&deb), text_of(&directory.path().join(into))]);
        }
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn control(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.path().join("control").join(file)).expect(file)
    }
}

static AGENT: LazyLock<Unpacked> = LazyLock::new(|| Unpacked::of("wavegate-agent"));
static COORDINATOR: LazyLock<Unpacked> = LazyLock::new(|| Unpacked::of("wavegate-coordinator"));

fn unpacked() -> [(&'static str, &'static Unpacked); 2] {
    [(PACKAGES[0], &AGENT), (PACKAGES[1], &COORDINATOR)]
}

/// Every program of the packages, with its content.
fn programs() -> Vec<(String, Vec<u8>)> {
    let mut programs = Vec::new();
    for (_, unpacked) in unpacked() {
        for entry in std::fs::read_dir(unpacked.root().join("usr/bin")).expect("programs") {
            let path = entry.expect("a program").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            programs.push((name, std::fs::read(&path).expect("a program")));
        }
    }
    programs.sort();
    assert_eq!(programs.len(), 3);
    programs
}

/// A program that today's toolchain made for this machine: what is looked for in the packages is found in it.
fn of_today() -> Vec<u8> {
    std::fs::read(std::env::current_exe().expect("this program")).expect("this program")
}

#[test]
fn programs_ask_for_nothing_that_an_old_host_lacks() {
    for (name, program) in programs() {
        let needs = Needs::of(&program).expect("a program");
        assert_eq!(needs.newer_than(GLIBC), Vec::<&str>::new(), "{name}");
        assert!(needs.versions.contains("GLIBC_2.17"), "{name} asks for {:?}", needs.versions);
        let of_glibc =
            ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "ld-linux-x86-64.so.2"];
        let others = needs.libraries.iter().filter(|library| !of_glibc.contains(&library.as_str()));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}");
    }
    let today = Needs::of(&of_today()).expect("this program");
    assert!(
        !today.newer_than(GLIBC).is_empty(),
        "this program would be taken for one of an old host: {today:?}"
    );
    assert!(today.libraries.contains("libgcc_s.so.1"), "{:?}", today.libraries);
}

#[test]
fn programs_are_stripped() {
    for (name, program) in programs() {
        assert!(Needs::of(&program).expect("a program").for_debuggers.is_empty(), "{name}");
    }
    assert!(Needs::of(&of_today()).expect("this program").for_debuggers.contains(".symtab"));
}

#[test]
fn programs_know_nothing_of_where_they_were_built() {
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let places = [text_of(&workspace()).to_owned(), home.expect("a home")];
    let contains =
        |program: &[u8], place: &str| program.windows(place.len()).any(|part| part == place.as_bytes());
    let today = of_today();
    for place in &places {
        for (name, program) in programs() {
            assert!(!contains(&program, place), "{name} contains {place}");
        }
        assert!(contains(&today, place), "this program contains {place}");
    }
}

#[test]
fn the_agent_is_small() {
    let listed = run("dpkg-deb", &["-c", text_of(&deb_in(&made(), "wavegate-agent"))]);
    let deb: u64 =
        listed.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum();
    let rpm: u64 = query("wavegate-agent", "%{SIZE}").parse().expect("a size");
    println!(
        "wavegate-agent installed: {deb} bytes from the deb, {rpm} from the rpm, at most {AGENT_AT_MOST}"
    );
    for size in [deb, rpm] {
        assert!(size <= AGENT_AT_MOST, "{size}");
        assert!(size > 1024 * 1024, "{size}");
    }
}

#[test]
fn both_families_get_the_same_programs() {
    for (package, unpacked) in unpacked() {
        let digests = query(package, "[%{FILENAMES} %{FILEDIGESTS}\n]");
        for line in digests.lines().filter(|line| line.starts_with("/usr/bin/")) {
            let (name, digest) = line.split_once(' ').expect("a digest");
            let file = unpacked.root().join(&name[1..]);
            assert_eq!(run("sha256sum", &[text_of(&file)]).split_whitespace().next(), Some(digest), "{name}");
        }
        assert!(digests.contains("/usr/bin/wavegate"), "{digests}");
    }
}

/// The lines of a deb's list without sizes and times; the pages for commands are one line, since verbs come and go.
fn files_of_deb(package: &str) -> String {
    let listed = run("dpkg-deb", &["-c", text_of(&deb_in(&made(), package))]);
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5].trim_start_matches('.'))
    };
    without_commands(listed.lines().map(line))
}

fn files_of_rpm(package: &str) -> String {
    let format = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES} %{FILEFLAGS:fflags}\n]";
    let listed = query(package, format);
    without_commands(listed.lines().map(|line| line.trim_end().to_owned()))
}

fn without_commands(lines: impl Iterator<Item = String>) -> String {
    let of_a_command = |line: &String| {
        let page = line.split("/man/").nth(1).and_then(|page| page.split('/').nth(1)).unwrap_or_default();
        let name = page.split('.').next().unwrap_or_default();
        !["", "wavegate", "wavegate-agent", "wavegate-coordinator"].contains(&name)
    };
    lines.filter(|line| !of_a_command(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_agents_deb_installs_these_files() {
    insta::assert_snapshot!(files_of_deb("wavegate-agent"), @r"
    drwxr-xr-x root/root /
    drwxr-xr-x root/root /etc/
    drwxr-xr-x root/root /etc/wavegate/
    drwxr-xr-x root/root /etc/wavegate/agent.d/
    -rw-r--r-- root/root /etc/wavegate/agent.toml
    drwxr-xr-x root/root /lib/
    drwxr-xr-x root/root /lib/systemd/
    drwxr-xr-x root/root /lib/systemd/system/
    -rw-r--r-- root/root /lib/systemd/system/wavegate-agent.service
    drwxr-xr-x root/root /usr/
    drwxr-xr-x root/root /usr/bin/
    -rwxr-xr-x root/root /usr/bin/wavegate-agent
    drwxr-xr-x root/root /usr/share/
    drwxr-xr-x root/root /usr/share/bash-completion/
    drwxr-xr-x root/root /usr/share/bash-completion/completions/
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate-agent
    drwxr-xr-x root/root /usr/share/doc/
    drwxr-xr-x root/root /usr/share/doc/wavegate-agent/
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/changelog.Debian.gz
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/copyright
    drwxr-xr-x root/root /usr/share/doc/wavegate-agent/examples/
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/examples/policy.toml
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/rust-standard-library.html.gz
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/third-party-notices.gz
    drwxr-xr-x root/root /usr/share/fish/
    drwxr-xr-x root/root /usr/share/fish/vendor_completions.d/
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate-agent.fish
    drwxr-xr-x root/root /usr/share/lintian/
    drwxr-xr-x root/root /usr/share/lintian/overrides/
    -rw-r--r-- root/root /usr/share/lintian/overrides/wavegate-agent
    drwxr-xr-x root/root /usr/share/man/
    drwxr-xr-x root/root /usr/share/man/man5/
    -rw-r--r-- root/root /usr/share/man/man5/wavegate-agent.toml.5.gz
    drwxr-xr-x root/root /usr/share/man/man8/
    -rw-r--r-- root/root /usr/share/man/man8/wavegate-agent.8.gz
    drwxr-xr-x root/root /usr/share/wavegate-agent/
    drwxr-xr-x root/root /usr/share/wavegate-agent/upstart/
    -rw-r--r-- root/root /usr/share/wavegate-agent/upstart/wavegate-agent.conf
    drwxr-xr-x root/root /usr/share/zsh/
    drwxr-xr-x root/root /usr/share/zsh/vendor-completions/
    -rw-r--r-- root/root /usr/share/zsh/vendor-completions/_wavegate-agent
    drwxr-xr-x root/root /var/
    drwxr-xr-x root/root /var/lib/
    drwx--x--x root/root /var/lib/wavegate/
    drwx------ root/root /var/lib/wavegate/agent/
    ");
}

#[test]
fn the_coordinators_deb_installs_these_files() {
    insta::assert_snapshot!(files_of_deb("wavegate-coordinator"), @r"
    drwxr-xr-x root/root /
    drwxr-xr-x root/root /etc/
    drwxr-xr-x root/root /etc/wavegate/
    drwxr-xr-x root/root /etc/wavegate/coordinator.d/
    -rw-r--r-- root/root /etc/wavegate/coordinator.toml
    drwxr-xr-x root/root /lib/
    drwxr-xr-x root/root /lib/systemd/
    drwxr-xr-x root/root /lib/systemd/system/
    -rw-r--r-- root/root /lib/systemd/system/wavegate-coordinator.service
    drwxr-xr-x root/root /usr/
    drwxr-xr-x root/root /usr/bin/
    -rwxr-xr-x root/root /usr/bin/wavegate
    -rwxr-xr-x root/root /usr/bin/wavegate-coordinator
    drwxr-xr-x root/root /usr/share/
    drwxr-xr-x root/root /usr/share/bash-completion/
    drwxr-xr-x root/root /usr/share/bash-completion/completions/
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate-coordinator
    drwxr-xr-x root/root /usr/share/doc/
    drwxr-xr-x root/root /usr/share/doc/wavegate-coordinator/
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/changelog.Debian.gz
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/copyright
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/rust-standard-library.html.gz
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/third-party-notices.gz
    drwxr-xr-x root/root /usr/share/fish/
    drwxr-xr-x root/root /usr/share/fish/vendor_completions.d/
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate-coordinator.fish
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate.fish
    drwxr-xr-x root/root /usr/share/lintian/
    drwxr-xr-x root/root /usr/share/lintian/overrides/
    -rw-r--r-- root/root /usr/share/lintian/overrides/wavegate-coordinator
    drwxr-xr-x root/root /usr/share/man/
    drwxr-xr-x root/root /usr/share/man/man1/
    -rw-r--r-- root/root /usr/share/man/man1/wavegate.1.gz
    drwxr-xr-x root/root /usr/share/man/man5/
    -rw-r--r-- root/root /usr/share/man/man5/wavegate-coordinator.toml.5.gz
    drwxr-xr-x root/root /usr/share/man/man8/
    -rw-r--r-- root/root /usr/share/man/man8/wavegate-coordinator.8.gz
    drwxr-xr-x root/root /usr/share/zsh/
    drwxr-xr-x root/root /usr/share/zsh/vendor-completions/
    -rw-r--r-- root/root /usr/share/zsh/vendor-completions/_wavegate
    -rw-r--r-- root/root /usr/share/zsh/vendor-completions/_wavegate-coordinator
    drwxr-xr-x root/root /var/
    drwxr-xr-x root/root /var/lib/
    drwx--x--x root/root /var/lib/wavegate/
    drwx------ root/root /var/lib/wavegate/coordinator/
    ");
}

#[test]
fn the_agents_rpm_installs_these_files() {
    insta::assert_snapshot!(files_of_rpm("wavegate-agent"), @r"
    drwxr-xr-x root/root /etc/wavegate
    drwxr-xr-x root/root /etc/wavegate/agent.d
    -rw-r--r-- root/root /etc/wavegate/agent.toml cn
    -rwxr-xr-x root/root /usr/bin/wavegate-agent
    -rw-r--r-- root/root /usr/lib/systemd/system/wavegate-agent.service
    drwxr-xr-x root/root /usr/share/bash-completion
    drwxr-xr-x root/root /usr/share/bash-completion/completions
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate-agent
    drwxr-xr-x root/root /usr/share/doc/wavegate-agent
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/changelog d
    drwxr-xr-x root/root /usr/share/doc/wavegate-agent/examples
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/examples/policy.toml d
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/rust-standard-library.html.gz d
    -rw-r--r-- root/root /usr/share/doc/wavegate-agent/third-party-notices.gz d
    drwxr-xr-x root/root /usr/share/fish
    drwxr-xr-x root/root /usr/share/fish/vendor_completions.d
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate-agent.fish
    drwxr-xr-x root/root /usr/share/licenses/wavegate-agent
    -rw-r--r-- root/root /usr/share/licenses/wavegate-agent/LICENSE l
    -rw-r--r-- root/root /usr/share/man/man5/wavegate-agent.toml.5.gz d
    -rw-r--r-- root/root /usr/share/man/man8/wavegate-agent.8.gz d
    drwxr-xr-x root/root /usr/share/zsh
    drwxr-xr-x root/root /usr/share/zsh/site-functions
    -rw-r--r-- root/root /usr/share/zsh/site-functions/_wavegate-agent
    drwx--x--x root/root /var/lib/wavegate
    drwx------ root/root /var/lib/wavegate/agent
    ");
}

#[test]
fn the_coordinators_rpm_installs_these_files() {
    insta::assert_snapshot!(files_of_rpm("wavegate-coordinator"), @r"
    drwxr-xr-x root/root /etc/wavegate
    drwxr-xr-x root/root /etc/wavegate/coordinator.d
    -rw-r--r-- root/root /etc/wavegate/coordinator.toml cn
    -rwxr-xr-x root/root /usr/bin/wavegate
    -rwxr-xr-x root/root /usr/bin/wavegate-coordinator
    -rw-r--r-- root/root /usr/lib/systemd/system/wavegate-coordinator.service
    drwxr-xr-x root/root /usr/share/bash-completion
    drwxr-xr-x root/root /usr/share/bash-completion/completions
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate
    -rw-r--r-- root/root /usr/share/bash-completion/completions/wavegate-coordinator
    drwxr-xr-x root/root /usr/share/doc/wavegate-coordinator
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/changelog d
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/rust-standard-library.html.gz d
    -rw-r--r-- root/root /usr/share/doc/wavegate-coordinator/third-party-notices.gz d
    drwxr-xr-x root/root /usr/share/fish
    drwxr-xr-x root/root /usr/share/fish/vendor_completions.d
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate-coordinator.fish
    -rw-r--r-- root/root /usr/share/fish/vendor_completions.d/wavegate.fish
    drwxr-xr-x root/root /usr/share/licenses/wavegate-coordinator
    -rw-r--r-- root/root /usr/share/licenses/wavegate-coordinator/LICENSE l
    -rw-r--r-- root/root /usr/share/man/man1/wavegate.1.gz d
    -rw-r--r-- root/root /usr/share/man/man5/wavegate-coordinator.toml.5.gz d
    -rw-r--r-- root/root /usr/share/man/man8/wavegate-coordinator.8.gz d
    drwxr-xr-x root/root /usr/share/zsh
    drwxr-xr-x root/root /usr/share/zsh/site-functions
    -rw-r--r-- root/root /usr/share/zsh/site-functions/_wavegate
    -rw-r--r-- root/root /usr/share/zsh/site-functions/_wavegate-coordinator
    drwx--x--x root/root /var/lib/wavegate
    drwx------ wavegate/wavegate /var/lib/wavegate/coordinator
    ");
}

#[test]
fn every_command_has_a_page() {
    let man = AGENT.root().join("usr/share/man/man8");
    for page in ["wavegate-agent.8.gz", "wavegate-agent-run.8.gz", "wavegate-agent-enrol.8.gz"] {
        assert!(man.join(page).exists(), "{page}");
    }
    let man = COORDINATOR.root().join("usr/share/man");
    for page in
        ["man1/wavegate-token-create.1.gz", "man8/wavegate-coordinator-run.8.gz", "man1/wavegate-plan.1.gz"]
    {
        assert!(man.join(page).exists(), "{page}");
    }
}

#[test]
fn configuration_is_kept_and_debs_keep_nothing_else() {
    assert_eq!(AGENT.control("conffiles"), "/etc/wavegate/agent.toml\n");
    assert_eq!(COORDINATOR.control("conffiles"), "/etc/wavegate/coordinator.toml\n");
}

#[test]
fn an_old_dpkg_can_unpack_the_debs() {
    for package in PACKAGES {
        let members = run("ar", &["t", text_of(&deb_in(&made(), package))]);
        // 1.17.5 of Ubuntu 14.04 reads no control part in xz, and no data in zstd.
        assert_eq!(members, "debian-binary\ncontrol.tar.gz\ndata.tar.xz\n");
    }
}

#[test]
fn an_old_rpm_can_unpack_the_rpms() {
    for package in PACKAGES {
        let requires = run("rpm", &["-qp", "--requires", text_of(&rpm_in(&made(), package))]);
        let of_rpm: Vec<&str> = requires.lines().filter(|line| line.starts_with("rpmlib(")).collect();
        // All of them are in 4.11 of CentOS 7.
        insta::allow_duplicates! {
            insta::assert_snapshot!(of_rpm.join("\n"), @r"
            rpmlib(CompressedFileNames) <= 3.0.4-1
            rpmlib(FileDigests) <= 4.6.0-1
            rpmlib(PayloadFilesHavePrefix) <= 4.0-1
            rpmlib(PayloadIsXz) <= 5.2-1
            ");
        }
        assert_eq!(query(package, "%{PAYLOADCOMPRESSOR}"), "xz");
    }
}

#[test]
fn dependencies_are_few() {
    let depends = |unpacked: &Unpacked| {
        let control = unpacked.control("control");
        control.lines().find(|line| line.starts_with("Depends:")).expect("a field").to_owned()
    };
    assert_eq!(depends(&AGENT), "Depends: libc6 (>= 2.17)");
    assert_eq!(depends(&COORDINATOR), "Depends: libc6 (>= 2.17), passwd");
    let of_rpm = |package| {
        let requires = run("rpm", &["-qp", "--requires", text_of(&rpm_in(&made(), package))]);
        let mut names: Vec<String> = requires.lines().map(str::to_owned).collect();
        names.retain(|line| !line.starts_with("rpmlib("));
        names.dedup();
        names
    };
    assert_eq!(of_rpm("wavegate-agent"), ["/bin/sh", "libc.so.6(GLIBC_2.17)(64bit)", "systemd"]);
    assert_eq!(
        of_rpm("wavegate-coordinator"),
        ["/bin/sh", "libc.so.6(GLIBC_2.17)(64bit)", "shadow-utils", "systemd"]
    );
}

#[test]
fn versions_are_those_of_the_programs() {
    for (package, unpacked) in unpacked() {
        let control = unpacked.control("control");
        assert!(control.contains(&format!("\nVersion: {VERSION}-1\n")), "{control}");
        assert_eq!(query(package, "%{VERSION}-%{RELEASE}"), format!("{VERSION}-1"));
    }
    let changelog = std::fs::read_to_string(workspace().join("packaging/changelog")).expect("a changelog");
    assert!(changelog.starts_with(&format!("wavegate ({VERSION}) ")), "no entry for {VERSION}: {changelog}");
}

#[test]
fn scripts_are_whole_and_every_shell_reads_them() {
    let scratch = tempfile::tempdir().expect("a directory");
    let check = |name: &str, script: &str| {
        let file = scratch.path().join(name);
        std::fs::write(&file, script).expect("a script");
        run("sh", &["-n", text_of(&file)]);
        let left = ["#include", "@VERSION@", "@REVISION@", "@GLIBC@", "@STAGE@", "@SIZE@", "@CHANGELOG@"];
        assert!(!left.iter().any(|word| script.contains(word)), "{name} was not filled in: {script}");
        assert!(!script.contains("[["), "{name} is no POSIX shell");
    };
    for (package, unpacked) in unpacked() {
        for name in ["postinst", "prerm", "postrm"] {
            let script = unpacked.control(name);
            assert!(script.starts_with("#!/bin/sh\nset -e\n"), "{script}");
            check(name, &script);
        }
        for tag in ["PREIN", "POSTIN", "PREUN", "POSTUN", "POSTTRANS"] {
            check(tag, &query(package, &format!("%{{{tag}}}")));
        }
    }
}

/// Units and jobs name what is installed.
#[test]
fn services_start_what_is_installed() {
    for (package, unpacked) in unpacked() {
        let unit = unpacked.root().join(format!("lib/systemd/system/{package}.service"));
        let unit = std::fs::read_to_string(unit).expect("a unit");
        assert!(unit.contains(&format!("ExecStart=/usr/bin/{package} run\n")), "{unit}");
        assert!(unit.contains(&format!("Documentation=man:{package}(8)")), "{unit}");
        assert!(unpacked.root().join(format!("usr/bin/{package}")).exists());
    }
}

#[test]
fn notices_name_what_the_programs_contain() {
    for (package, unpacked) in unpacked() {
        let notices = unpacked.root().join(format!("usr/share/doc/{package}/third-party-notices.gz"));
        let notices = run("gzip", &["-dc", text_of(&notices)]);
        for words in [
            "  ring 0.17",
            "  tokio 1",
            "LICENSE-BoringSSL",
            "The Rust standard library",
            "Permission is hereby",
        ] {
            assert!(notices.contains(words), "{package}: {words}");
        }
    }
}

#[test]
fn the_same_programs_make_the_same_packages() {
    let scratch = tempfile::tempdir().expect("a directory");
    let programs = scratch.path().join("programs");
    std::fs::create_dir(&programs).expect("a directory");
    for (_, unpacked) in unpacked() {
        for entry in std::fs::read_dir(unpacked.root().join("usr/bin")).expect("programs") {
            let path = entry.expect("a program").path();
            std::fs::copy(&path, programs.join(path.file_name().expect("a name"))).expect("a copy");
        }
    }
    let digests = |name: &str| {
        let out = scratch.path().join(name);
        let build = workspace().join("packaging/build.sh");
        // A commit may come between the two.
        let at = "SOURCE_DATE_EPOCH=1500000000";
        let arguments =
            [at, text_of(&build), "--quick", "--binaries", text_of(&programs), "--out", text_of(&out)];
        run("env", &arguments);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&out)
            .expect("packages")
            .map(|entry| entry.expect("a package").path())
            .collect();
        files.sort();
        let named = |file: &PathBuf| file.file_name().expect("a name").to_string_lossy().into_owned();
        files
            .iter()
            .map(|file| (named(file), run("sha256sum", &[text_of(file)])[..64].to_owned()))
            .collect::<Vec<_>>()
    };
    let first = digests("first");
    assert_eq!(first.len(), 4, "{first:?}");
    assert_eq!(first, digests("second"));
}
