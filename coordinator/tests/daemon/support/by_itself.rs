//! An engine by itself, without a daemon, agents or a wire: its loop, what is put into its queue, and a clock that is moved by hand.

use super::{Site, enrolled, node, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::{Actor, LeaderId};
use wavegate_common::leader::Leader;
use wavegate_coordinator::clock::{Clock, Hands};
use wavegate_coordinator::engine::{Connected, Engine, Input, Port, Session, Timing, ToAgent};
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::store::Store;

/// An engine with one node, c1, its loop's other end, and what moves its clock.
pub struct Bench {
    _site: Site,
    pub store: Arc<Store>,
    pub port: Port,
    pub killed: Arc<AtomicBool>,
    hands: Arc<Hands>,
    run: Option<Box<dyn FnOnce() + Send>>,
}

/// The agent's end of a session.
pub struct AgentsEnd {
    pub session: u64,
    pub messages: mpsc::Receiver<Box<ToAgent>>,
    pub ended: oneshot::Receiver<()>,
}

impl Bench {
    pub fn new() -> Self {
        let wall = AtomicU64::new(Clock::system().now().0);
        let hands = Arc::new(Hands { wall, elapsed: AtomicU64::new(0) });
        let clock = Clock::by_hands(hands.clone());
        let site = Site::set_up(|_| {}, clock.clone());
        let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
        let store = Arc::new(Store::in_memory(authority.fleet()).expect("a store"));
        store.put_node(&enrolled(node("c1"))).expect("kept");
        let timing = Timing { heartbeat_interval_s: 10, lost_after_ms: 60_000 };
        let engine = Engine::load(store.clone(), authority, clock, timing, LeaderId::new(1));
        let engine = engine.expect("loaded");
        let (port, inputs) = engine.port();
        let killed = Arc::new(AtomicBool::new(false));
        let flag = killed.clone();
        let run = Box::new(move || engine.run(inputs, &flag));
        Self { _site: site, store, port, hands, killed, run: Some(run) }
    }

    /// Lets the loop run, over what is in its queue first.
    pub fn run(&mut self) -> JoinHandle<()> {
        std::thread::spawn(self.run.take().expect("it has not run"))
    }

    pub fn pass(&self, millis: u64) {
        self.hands.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.hands.wall.fetch_add(millis, Ordering::SeqCst);
    }

    pub async fn connect(&self) -> AgentsEnd {
        let (outbound, messages) = mpsc::channel(64);
        let (alive, ended) = oneshot::channel();
        let session = Session { outbound, heard: Arc::default(), alive };
        let number = self.port.ask(|reply| {
            Input::Connected(Box::new(Connected {
                node: node("c1"),
                fingerprint: "f".to_owned(),
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                seen: Leader::default(),
                facts: None,
                not_understood: None,
                session,
                reply,
            }))
        });
        let session = within(number).await.expect("a session");
        AgentsEnd { session, messages, ended }
    }

    /// Something that has a turn of its own. When it is answered, all that came before it is done.
    pub async fn ask(&self) {
        let (by, id) = (Actor("alice".to_owned()), "none".to_owned());
        let asked = self.port.ask(|reply| Input::RevokeToken { by, id, reply });
        within(asked).await.expect_err("no such token");
    }

    /// Two of these: the answer is there before the turn's own time has passed.
    pub async fn turn(&self) {
        self.ask().await;
        self.ask().await;
    }

    /// The loop's end, when it is asked for.
    pub async fn end(&self, run: JoinHandle<()>) {
        self.port.send(Input::Shutdown).await.expect("taken");
        joined(run).await;
    }
}

/// The loop's end, which has a cause.
pub async fn joined(run: JoinHandle<()>) {
    tokio::task::spawn_blocking(move || run.join()).await.expect("joined").expect("a clean end");
}
