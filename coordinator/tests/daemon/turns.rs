//! The engine's loop by itself, without a daemon that tells it of time: what a turn may not forget, however much there is to do.

use super::support::{Site, enrolled, node, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::{Actor, LeaderId};
use wavegate_common::leader::Leader;
use wavegate_coordinator::clock::{Clock, Hands};
use wavegate_coordinator::engine::{Connected, Engine, Input, Port, Session, Timing, ToAgent, TokenWish};
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::store::Store;

/// Silence that ends a session.
const SILENCE_MS: u64 = 30_000;

/// An engine with one node, its loop's other end, and what moves its clock.
struct Bench {
    _site: Site,
    store: Arc<Store>,
    port: Port,
    hands: Arc<Hands>,
    killed: Arc<AtomicBool>,
    run: Option<Box<dyn FnOnce() + Send>>,
}

/// The agent's end of a session.
struct Agent {
    _messages: mpsc::Receiver<Box<ToAgent>>,
    ended: oneshot::Receiver<()>,
}

impl Bench {
    fn new() -> Self {
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
    fn run(&mut self) -> JoinHandle<()> {
        std::thread::spawn(self.run.take().expect("it has not run"))
    }

    fn pass(&self, millis: u64) {
        self.hands.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.hands.wall.fetch_add(millis, Ordering::SeqCst);
    }

    async fn connect(&self) -> Agent {
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
        within(number).await.expect("a session");
        Agent { _messages: messages, ended }
    }

    /// Something that has a turn of its own. When it is answered, all that came before it is done.
    async fn ask(&self) {
        let (by, id) = (Actor("alice".to_owned()), "none".to_owned());
        let asked = self.port.ask(|reply| Input::RevokeToken { by, id, reply });
        within(asked).await.expect_err("no such token");
    }

    /// Two of these: the answer is there before the turn's own time has passed.
    async fn turn(&self) {
        self.ask().await;
        self.ask().await;
    }
}

#[tokio::test]
async fn time_passes_for_an_engine_that_nobody_can_tell_of_it() {
    let mut bench = Bench::new();
    let run = bench.run();
    let mut agent = bench.connect().await;
    bench.pass(SILENCE_MS);
    bench.turn().await;
    assert_eq!(agent.ended.try_recv(), Err(TryRecvError::Empty), "it was silent at one look");
    bench.pass(2000);
    bench.turn().await;
    assert_eq!(agent.ended.try_recv(), Err(TryRecvError::Closed), "there was nothing but requests");
    bench.port.send(Input::Shutdown).await.expect("taken");
    tokio::task::spawn_blocking(move || run.join()).await.expect("joined").expect("a clean end");
}

#[tokio::test]
async fn a_tick_that_was_late_is_not_made_up_for_twice() {
    let mut bench = Bench::new();
    let run = bench.run();
    let mut agent = bench.connect().await;
    bench.pass(SILENCE_MS);
    bench.turn().await;
    bench.port.send(Input::Tick).await.expect("taken");
    bench.turn().await;
    assert_eq!(agent.ended.try_recv(), Err(TryRecvError::Empty), "it had no time to be heard");
    bench.port.send(Input::Tick).await.expect("taken");
    bench.turn().await;
    assert_eq!(agent.ended.try_recv(), Err(TryRecvError::Closed));
    bench.port.send(Input::Shutdown).await.expect("taken");
    tokio::task::spawn_blocking(move || run.join()).await.expect("joined").expect("a clean end");
}

#[tokio::test]
async fn what_is_in_the_queue_when_it_is_killed_is_not_done() {
    let mut bench = Bench::new();
    let (reply, mut answer) = oneshot::channel();
    let wish = TokenWish { valid_for_s: 600, node: None, uses: 1, declared: false };
    let asked = Input::CreateToken { by: Actor("alice".to_owned()), wish, reply };
    bench.port.send(asked).await.expect("in the queue");
    bench.killed.store(true, Ordering::SeqCst);
    let run = bench.run();
    tokio::task::spawn_blocking(move || run.join()).await.expect("joined").expect("a clean end");
    assert!(answer.try_recv().is_err(), "nobody is told");
    assert_eq!(bench.store.tokens().expect("tokens"), []);
    assert_eq!(bench.store.audited(10).expect("records"), []);
}
