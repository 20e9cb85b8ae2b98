//! Agents that are started before they are enrolled, against a coordinator on loopback: what they wait for, and in which order it
//! may come.

use crate::coordinator::{Coordinator, soon};
use crate::pki::{Authority, FLEET};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use wavegate_agent::admission::{Waiting, admitted};
use wavegate_agent::config::{Address, Config};
use wavegate_agent::credentials::{self, CredentialsError, Enrolled};
use wavegate_agent::enrol::{EnrolError, enrol};
use wavegate_agent::service_manager::Signs;
use wavegate_common::id::NodeId;
use wavegate_proto::tls;
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1::{EnrolRequest, EnrolResponse};

/// A fleet that takes tokens of one secret, and a machine that is to become a node of it.
struct Site {
    authority: Arc<Authority>,
    machine: tempfile::TempDir,
    asked: Arc<Mutex<Vec<EnrolRequest>>>,
}

/// An agent that waits.
struct Agent {
    ended: JoinHandle<Result<(Config, Enrolled), CredentialsError>>,
    looks: watch::Receiver<usize>,
}

impl Site {
    fn new() -> Self {
        let machine = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(machine.path().join("agent.d")).expect("made");
        let state = machine.path().join("state");
        let token = machine.path().join("join-token");
        let text = format!(
            "state_directory = \"{}\"\njoin_token_file = \"{}\"\nreconnect_max_s = 1\n",
            state.display(),
            token.display()
        );
        std::fs::write(machine.path().join("agent.toml"), text).expect("written");
        Self { authority: Arc::new(Authority::new()), machine, asked: Arc::default() }
    }

    /// A coordinator that breaks the connection of the first enrolments, so often.
    async fn coordinator_that_breaks(&self, times: usize) -> Coordinator {
        self.coordinator_at_first(times, || Status::unavailable("the connection broke")).await
    }

    /// A coordinator that gives this answer to the first enrolments, so often.
    async fn coordinator_at_first(
        &self,
        times: usize,
        answer: impl Fn() -> Status + Send + Sync + 'static,
    ) -> Coordinator {
        let (signer, asked) = (self.authority.clone(), self.asked.clone());
        let enrol = move |request: EnrolRequest| {
            let mut asked = asked.lock().expect("no panic before");
            asked.push(request.clone());
            if asked.len() <= times {
                return Err(answer());
            }
            if request.token_secret != "5a".repeat(32) {
                return Err(Status::failed_precondition("the join token has been used"));
            }
            let certificate_pem = signer.sign(&request.csr_pem, &format!("node/{}", request.node));
            Ok(EnrolResponse { fleet: FLEET.to_owned(), certificate_pem, ca_pem: signer.ca_pem.clone() })
        };
        Coordinator::enrolling(&self.authority.coordinator(), Arc::new(enrol)).await
    }

    async fn coordinator(&self) -> Coordinator {
        self.coordinator_that_breaks(0).await
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic before").len()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.machine.path().join(name)
    }

    fn token(&self, secret: &str) -> JoinToken {
        let ca_sha256 = tls::fingerprint(&self.authority.ca_pem).expect("a fingerprint");
        JoinToken { id: "0a".repeat(8), secret: secret.repeat(32), ca_sha256 }
    }

    fn give_coordinator(&self, address: &Address) {
        let text = format!("coordinator = \"{address}\"\n");
        std::fs::write(self.file("agent.d/coordinator.toml"), text).expect("written");
    }

    fn give_token(&self, token: &JoinToken, mode: u32) {
        write(&self.file("join-token"), &format!("{token}\n"), mode);
    }

    fn agent(&self) -> Agent {
        self.agent_called("compute-1.example.net")
    }

    fn agent_called(&self, host_name: &'static str) -> Agent {
        let path = self.file("agent.toml");
        let (looked, looks) = watch::channel(0);
        let waiting = Waiting {
            begin_with: Config::load(Some(&path)).expect("a configuration"),
            config: move || {
                looked.send_modify(|looks| *looks += 1);
                Config::load(Some(&path))
            },
            host_name: move || host_name.to_owned(),
            look_every: Duration::from_millis(1),
            seed: 7,
        };
        let ended = tokio::spawn(async move { admitted(waiting, &mut Signs::none()).await });
        Agent { ended, looks }
    }

    fn refused(&self) -> Option<String> {
        std::fs::read_to_string(self.file("join-token.refused")).ok()
    }
}

impl Agent {
    async fn admitted(self) -> (Config, Enrolled) {
        soon(self.ended).await.expect("no panic").expect("admitted")
    }

    async fn refused(self) -> CredentialsError {
        soon(self.ended).await.expect("no panic").map(drop).expect_err("it ends")
    }

    /// Waits until it has looked so often again: whatever there was to do is done.
    async fn looks(&mut self, more: usize) {
        let wanted = *self.looks.borrow() + more;
        soon(self.looks.wait_for(|looks| *looks >= wanted)).await.expect("it goes on looking");
        assert!(!self.ended.is_finished());
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("written");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).expect("its mode");
    std::fs::rename(beside, path).expect("put in place");
}

#[tokio::test]
async fn coordinator_and_token_may_come_in_any_order_and_later() {
    for coordinator_first in [true, false] {
        let site = Site::new();
        let coordinator = site.coordinator().await;
        let mut agent = site.agent();
        agent.looks(3).await;
        if coordinator_first {
            site.give_coordinator(&coordinator.address);
            agent.looks(3).await;
            assert_eq!(site.asked(), 0);
            site.give_token(&site.token("5a"), 0o600);
        } else {
            site.give_token(&site.token("5a"), 0o600);
            agent.looks(3).await;
            assert_eq!(site.asked(), 0);
            site.give_coordinator(&coordinator.address);
        }
        let (config, enrolled) = agent.admitted().await;
        assert_eq!(config.coordinator.as_ref(), Some(&coordinator.address));
        assert_eq!((enrolled.node.as_str(), enrolled.fleet.as_str()), ("compute-1", FLEET));
        assert!(!site.file("join-token").exists(), "it has served");
        assert_eq!((site.asked(), site.refused()), (1, None));
    }
}

#[tokio::test]
async fn credentials_that_another_process_gets_are_taken_up() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    let mut agent = site.agent();
    agent.looks(3).await;
    let node = NodeId::new("by-hand").expect("a name");
    enrol(&site.file("state"), &site.token("5a"), &coordinator.address, &node, false)
        .await
        .expect("enrolled");
    assert_eq!(agent.admitted().await.1.node, node);
}

#[tokio::test]
async fn only_one_process_enrols_a_node_at_a_time() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    let state = site.file("state");
    let alone = credentials::alone(&state).expect("a lock").expect("nobody else");
    let node = NodeId::new("by-hand").expect("a name");
    let token = site.token("5a");
    let busy = enrol(&state, &token, &coordinator.address, &node, false).await.expect_err("busy");
    assert!(matches!(busy, EnrolError::Busy) && !busy.token_is_refused(), "{busy}");
    drop(alone);
    enrol(&state, &token, &coordinator.address, &node, false).await.expect("enrolled");
}

#[tokio::test]
async fn a_coordinator_that_is_down_at_first_is_tried_again() {
    let site = Site::new();
    // Nobody listens on a port that the system gives to nobody.
    site.give_coordinator(&"127.0.0.1:1".parse().expect("an address"));
    site.give_token(&site.token("5a"), 0o600);
    let mut agent = site.agent();
    agent.looks(4).await;
    assert!(site.file("join-token").exists() && site.refused().is_none(), "it is kept for the next time");
    let coordinator = site.coordinator_that_breaks(2).await;
    site.give_coordinator(&coordinator.address);
    agent.admitted().await;
    assert_eq!(site.asked(), 3);
    assert!(!site.file("join-token").exists());
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_put_away_and_another_one_serves() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    let used = site.token("66");
    site.give_token(&used, 0o600);
    let mut agent = site.agent();
    agent.looks(4).await;
    assert_eq!(site.refused(), Some(format!("{used}\n")));
    assert_eq!(site.asked(), 1, "it is not tried again");
    site.give_token(&site.token("5a"), 0o600);
    agent.admitted().await;
    assert_eq!(site.refused(), None, "it might be good for another node");
}

#[tokio::test]
async fn a_token_outlives_an_address_that_is_another_fleets() {
    let (site, other) = (Site::new(), Site::new());
    let (coordinator, wrong) = (site.coordinator().await, other.coordinator().await);
    site.give_coordinator(&wrong.address);
    let token = site.token("5a");
    site.give_token(&token, 0o600);
    let mut agent = site.agent();
    agent.looks(6).await;
    assert_eq!(other.asked(), 0, "its secret is not told");
    assert!(site.file("join-token").exists() && site.refused().is_none(), "it is good still");
    let node = NodeId::new("by-hand").expect("a name");
    let error =
        enrol(&site.file("by-hand"), &token, &wrong.address, &node, false).await.expect_err("another");
    assert!(
        matches!(error, EnrolError::OtherCoordinator { .. }) && std::error::Error::source(&error).is_none(),
        "{error}"
    );
    site.give_coordinator(&coordinator.address);
    agent.admitted().await;
    assert!(!site.file("join-token").exists());
}

#[tokio::test]
async fn a_node_that_is_not_declared_yet_enrols_with_the_same_token_when_it_is() {
    let site = Site::new();
    let not_yet = "compute-1 is not in the inventory; declare it, or make a token for it: wavegate token create --node compute-1";
    let coordinator = site.coordinator_at_first(2, move || Status::resource_exhausted(not_yet)).await;
    site.give_coordinator(&coordinator.address);
    site.give_token(&site.token("5a"), 0o600);
    site.agent().admitted().await;
    assert_eq!((site.asked(), site.refused()), (3, None));
    assert!(!site.file("join-token").exists());
    // By hand it is an error that says that the same token is good.
    let coordinator = site.coordinator_at_first(4, move || Status::resource_exhausted(not_yet)).await;
    let node = NodeId::new("by-hand").expect("a name");
    let error = enrol(&site.file("by-hand"), &site.token("5a"), &coordinator.address, &node, false).await;
    let error = error.expect_err("not yet");
    assert!(
        !error.token_is_refused() && error.to_string().ends_with(". The same token serves when that is done"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_comes_while_another_one_is_refused_is_left_in_its_place() {
    let site = Site::new();
    let (file, beside) = (site.file("join-token"), site.file("another"));
    write(&beside, &format!("{}\n", site.token("5a")), 0o600);
    let coordinator = site
        .coordinator_at_first(1, move || {
            std::fs::rename(&beside, &file).expect("put in its place");
            Status::permission_denied("the join token has expired")
        })
        .await;
    site.give_coordinator(&coordinator.address);
    site.give_token(&site.token("66"), 0o600);
    site.agent().admitted().await;
    assert_eq!((site.asked(), site.refused()), (2, None));
    let asked = site.asked.lock().expect("no panic");
    assert_eq!(asked[1].token_secret, "5a".repeat(32));
}

#[tokio::test]
async fn credentials_that_can_not_be_looked_at_are_waited_for() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    // A file in the way of the directory: the system says neither that they are there nor that they are not.
    std::fs::create_dir(site.file("state")).expect("made");
    std::fs::write(site.file("state/credentials"), "").expect("written");
    let mut agent = site.agent();
    agent.looks(4).await;
    std::fs::remove_file(site.file("state/credentials")).expect("removed");
    site.give_token(&site.token("5a"), 0o600);
    agent.admitted().await;
}

#[tokio::test]
async fn a_token_that_others_could_have_is_put_away() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    let mut agent = site.agent();
    for mode in [0o644, 0o620, 0o640] {
        let token = site.token("5a");
        site.give_token(&token, mode);
        agent.looks(5).await;
        assert_eq!(site.refused(), Some(format!("{token}\n")), "{mode:o}");
        assert!(!site.file("join-token").exists());
        let refused = site.file("join-token.refused");
        let mode_now = refused.metadata().expect("metadata").permissions().mode() & 0o7777;
        assert_eq!(mode_now, 0o600, "nobody else reads it any more");
        std::fs::remove_file(refused).expect("removed");
    }
    let elsewhere = site.file("elsewhere");
    write(&elsewhere, &site.token("5a").to_string(), 0o600);
    std::os::unix::fs::symlink(&elsewhere, site.file("join-token")).expect("a link");
    agent.looks(5).await;
    assert!(site.file("join-token.refused").is_symlink() && elsewhere.exists());
    assert_eq!(site.asked(), 0);
    site.give_token(&site.token("5a"), 0o600);
    agent.admitted().await;
    assert!(!site.file("join-token.refused").is_symlink() && elsewhere.exists());
}

#[tokio::test]
async fn a_token_that_can_not_be_put_away_is_not_tried_again() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    // What stands where it would go can't be replaced.
    std::fs::create_dir_all(site.file("join-token.refused/kept")).expect("made");
    site.give_token(&site.token("66"), 0o600);
    let mut agent = site.agent();
    agent.looks(6).await;
    assert_eq!(site.asked(), 1);
    assert!(site.file("join-token").exists());
    site.give_token(&site.token("5a"), 0o600);
    agent.admitted().await;
}

#[tokio::test]
async fn an_agent_that_was_killed_before_it_removed_the_token_is_enrolled() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    site.give_token(&site.token("5a"), 0o600);
    let node = NodeId::new("compute-1").expect("a name");
    // All that an agent does with a token but the removal of its file.
    enrol(&site.file("state"), &site.token("5a"), &coordinator.address, &node, false)
        .await
        .expect("enrolled");
    let (_, enrolled) = site.agent().admitted().await;
    assert_eq!(enrolled.node, node);
    assert_eq!(site.asked(), 1, "the token is not used a second time");
    assert!(site.file("join-token").exists() && site.refused().is_none(), "nor is it called refused");
}

#[tokio::test]
async fn a_machine_without_a_name_of_its_own_does_not_spend_its_token() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    site.give_coordinator(&coordinator.address);
    site.give_token(&site.token("5a"), 0o600);
    let mut agent = site.agent_called("localhost.localdomain");
    agent.looks(3).await;
    assert_eq!((site.asked(), site.refused()), (0, None));
    std::fs::write(site.file("agent.d/name.toml"), "node = \"compute-7\"\n").expect("written");
    assert_eq!(agent.admitted().await.1.node.as_str(), "compute-7");
}

#[tokio::test]
async fn a_configuration_that_stays_wrong_is_waited_for_and_nothing_is_done_meanwhile() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    let mut agent = site.agent();
    agent.looks(2).await;
    let wrong = site.file("agent.d/wrong.toml");
    std::fs::write(&wrong, "cordinator = \"a:1\"\n").expect("written");
    site.give_coordinator(&coordinator.address);
    site.give_token(&site.token("5a"), 0o600);
    agent.looks(6).await;
    assert_eq!((site.asked(), site.refused()), (0, None));
    std::fs::remove_file(wrong).expect("mended");
    agent.admitted().await;
}

#[tokio::test]
async fn an_enrolled_agent_that_waits_for_its_coordinator_outlives_a_typo() {
    let site = Site::new();
    let coordinator = site.coordinator().await;
    let node = NodeId::new("by-hand").expect("a name");
    enrol(&site.file("state"), &site.token("5a"), &coordinator.address, &node, false)
        .await
        .expect("enrolled");
    let mut agent = site.agent();
    agent.looks(2).await;
    std::fs::write(site.file("agent.d/coordinator.toml"), "coordinator = a:1\n").expect("written");
    agent.looks(4).await;
    site.give_coordinator(&coordinator.address);
    assert_eq!(agent.admitted().await.1.node, node);
}

#[tokio::test]
async fn credentials_that_can_not_be_used_end_the_agent() {
    let site = Site::new();
    let mut agent = site.agent();
    agent.looks(2).await;
    let broken = tls::Credentials {
        key_pem: "k".to_owned(),
        certificate_pem: "not PEM".to_owned(),
        ca_pem: String::new(),
    };
    credentials::keep(&site.file("state"), &broken).expect("kept");
    let error = agent.refused().await;
    assert!(matches!(error, CredentialsError::Certificate { .. }), "{error}");
}
