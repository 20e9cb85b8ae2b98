//! The coordinator as a service: signs of life, the user that it runs as, and how its program ends.

use super::support::flaky::Disk;
use super::support::{PATIENCE, Site, newest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use wavegate_common::id::LeaderId;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::engine::{Engine, Timing};
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::watchdog::Watchdog;
use wavegate_proto::v1;

/// The user `nobody`, which every system has.
const NOBODY: u32 = 65_534;

#[test]
fn a_loop_that_stands_still_gives_no_sign_of_life() {
    let site = Site::set_up(|_| {}, Clock::system());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let disk = Disk::new();
    let timing = Timing { heartbeat_interval_s: 5, lost_after_ms: 30_000 };
    let store = Arc::new(disk.store("test"));
    let (give, given) = mpsc::channel();
    let watchdog = Watchdog::new(Duration::ZERO, move || give.send(()).expect("somebody looks on"));
    let engine = Engine::load(store, authority, Clock::system(), timing, LeaderId::new(7)).expect("loaded");
    let engine = engine.watched_by(Some(watchdog));
    let (port, inputs) = engine.port();
    let running = std::thread::spawn(move || engine.run(inputs, &AtomicBool::new(false)));
    given.recv_timeout(PATIENCE).expect("its first turn");
    port.tick();
    given.recv_timeout(PATIENCE).expect("a turn");

    disk.hang();
    port.refused("10.0.0.9".to_owned(), "a connection".to_owned());
    disk.until_it_hangs();
    port.tick();
    port.tick();
    given.try_recv().expect_err("it stands still, though there is enough to do");

    disk.let_go();
    for turn in ["what hung", "the ticks, which share a turn"] {
        given.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no sign after {turn}"));
    }
    drop(port);
    running.join().expect("a clean end");
}

/// The service manager's end of a coordinator's process.
struct Service {
    process: Child,
    told: UnixDatagram,
}

impl Service {
    fn start(config: &Path, socket: PathBuf) -> Self {
        let told = UnixDatagram::bind(&socket).expect("a socket");
        told.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let process = Command::new(env!("CARGO_BIN_EXE_wavegate-coordinator"))
            .args(["run", "--config"])
            .arg(config)
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "4000000")
            .env_remove("WATCHDOG_PID")
            .spawn()
            .expect("started");
        Self { process, told }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.told.recv(&mut buffer).expect("told in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }

    fn end(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.process.id().try_into().expect("a pid")), Signal::SIGTERM).expect("told");
        self.process.wait().expect("ended")
    }
}

#[test]
fn the_service_manager_is_told_of_begin_life_and_end() {
    let site = Site::set_up(|_| {}, Clock::system());
    let config = site.write_config();
    let mut service = Service::start(&config, site.folder().join("notify"));
    let (mut ready, mut alive) = (false, 0);
    while !ready || alive < 3 {
        match service.next().as_str() {
            "READY=1" => ready = true,
            "WATCHDOG=1" => alive += 1,
            other => panic!("{other}"),
        }
    }
    let ended = service.end();
    assert!(ended.success(), "{ended}");
    let last = std::iter::repeat_with(|| service.next()).find(|told| told != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}

fn coordinator(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavegate-coordinator"));
    command.args(arguments).arg("--config").arg(site.write_config());
    command.output().expect("run")
}

/// What it says on standard error, without the site's folder.
fn said(site: &Site, output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace(&site.folder().display().to_string(), "")
}

#[test]
fn what_only_a_person_can_mend_has_an_exit_code_of_its_own() {
    let site = Site::set_up(|_| {}, Clock::system());
    std::fs::remove_file(site.config.store_file()).expect("lost");
    let ended = coordinator(&site, &["run"]);
    assert_eq!(ended.status.code(), Some(4), "{}", said(&site, &ended));
    assert!(said(&site, &ended).contains("there is no store /state/store.redb"), "{}", said(&site, &ended));
    assert_eq!(coordinator(&site, &["new-store"]).status.code(), Some(0));
    std::fs::remove_file(site.config.pki_folder().join("ca.key")).expect("lost");
    let ended = coordinator(&site, &["run"]);
    assert_eq!(ended.status.code(), Some(4), "{}", said(&site, &ended));
}

/// Every path below a folder, with whose it is.
fn owners(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let there = std::fs::symlink_metadata(&path).expect("there");
        if there.is_dir() {
            found.extend(owners(&path));
        }
        found.push((path, there.uid()));
    }
    found
}

/// Only root can give a directory to somebody else; as another user, what a directory of root's says is seen instead.
#[test]
fn the_state_directory_stays_its_owners_whoever_works_in_it() {
    let site = Site::set_up(|_| {}, Clock::system());
    if !Uid::effective().is_root() {
        let mut config = site.config.clone();
        config.state_directory = PathBuf::from("/");
        let refused =
            wavegate_coordinator::owner::may_run(&config.state_directory).expect_err("it is root's");
        assert!(refused.to_string().contains("belongs to root"), "{refused}");
        return;
    }
    let state = site.folder().join("packaged");
    std::fs::set_permissions(site.folder(), PermissionsExt::from_mode(0o711)).expect("set");
    std::fs::create_dir(&state).expect("a folder");
    chown(&state, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).expect("given");
    let mut site = site;
    site.config.state_directory = state.clone();
    let config = site.folder().join("etc/coordinator.toml");
    let refused = Command::new(env!("CARGO_BIN_EXE_wavegate"))
        .args(["init", "--fleet", "test", "--listen", "0.0.0.0:443", "--coordinator-config"])
        .arg(&config)
        .arg("--state-directory")
        .arg(&state)
        .output()
        .expect("run");
    insta::assert_snapshot!(said(&site, &refused), @"wavegate: the coordinator cannot listen on 0.0.0.0:443: it runs without privileges, and ports below 1024 need them; take another one, such as 7443");
    assert!(owners(&state).is_empty() && !config.exists(), "something was made");
    let init = Command::new(env!("CARGO_BIN_EXE_wavegate"))
        .args(["init", "--fleet", "test", "--coordinator-config"])
        .arg(&config)
        .arg("--state-directory")
        .arg(&state)
        .output()
        .expect("run");
    assert!(init.status.success(), "{}", said(&site, &init));
    for tool in [&["raise-generation", "--above", "5"][..], &["new-store"]] {
        if tool[0] == "new-store" {
            std::fs::remove_file(site.config.store_file()).expect("lost");
        }
        let done = coordinator(&site, tool);
        assert!(done.status.success(), "{}", said(&site, &done));
    }
    // Where it is not there yet, what is above it says whose it will be.
    let state = state.join("another");
    let init = Command::new(env!("CARGO_BIN_EXE_wavegate"))
        .args(["init", "--fleet", "test", "--coordinator-config"])
        .arg(site.folder().join("etc/another.toml"))
        .arg("--state-directory")
        .arg(&state)
        .output()
        .expect("run");
    assert!(init.status.success(), "{}", said(&site, &init));
    let all = owners(&site.config.state_directory);
    assert!(all.len() > 16 && all.iter().all(|(_, owner)| *owner == NOBODY), "{all:?}");
    assert_eq!(std::fs::metadata(&config).expect("there").uid(), 0, "the configuration is root's");
    let refused = coordinator(&site, &["run"]);
    assert_eq!(refused.status.code(), Some(4));
    insta::assert_snapshot!(said(&site, &refused), @"wavegate-coordinator: the state directory /packaged belongs to user nobody, and this is user root: the coordinator runs as nobody alone, so that nothing in there becomes another's. Start it with: systemctl start wavegate-coordinator. If root is who should run it: chown -R root: /packaged");
}

/// Its package is upgraded in the middle of a rollout: ended with SIGTERM's means and begun again, with everybody looking on.
#[tokio::test]
async fn a_restart_waits_for_nobody_who_looks_on_and_everybody_is_back() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    let rollout = site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(site.operator().await.watch_status(newest()).await.expect("a stream").into_inner());
    }
    let logs = v1::LogsRequest { rollout, node: "e1".to_owned(), follow: true, ..v1::LogsRequest::default() };
    let logs = site.operator().await.logs(logs).await.expect("a stream").into_inner();
    let mut looking_on = Command::new(env!("CARGO_BIN_EXE_wavegate"))
        .args(["--coordinator", &format!("unix:{}", site.config.socket.display()), "watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(looking_on.stdout.take().expect("piped"));
    let (first, lines) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        (line, lines)
    })
    .await
    .expect("read");
    assert!(!first.is_empty(), "it looks on");

    let ended = tokio::time::timeout(PATIENCE, site.shut_down()).await;
    ended.expect("it does not wait for those who look on, who never end");
    drop((watches, logs));
    site.start_again().await;
    agents[0].script(|book| book.hold = false);
    for agent in &agents {
        agent.connect(&site).await;
    }
    site.until_status(Status::Finished).await;
    let (seen, ended) = tokio::task::spawn_blocking(move || {
        let seen: Vec<String> = lines.lines().map(|line| line.expect("text")).collect();
        (seen, looking_on.wait_with_output().expect("ended"))
    })
    .await
    .expect("read");
    let said = format!("{}\n{}", seen.join("\n"), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("the coordinator is back"), "{said}");
}
