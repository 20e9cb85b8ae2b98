//! The engine's loop by itself, without a daemon that tells it of time: what a turn may not forget, however much there is to do.

use super::support::by_itself::{Bench, joined};
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use wavegate_common::id::Actor;
use wavegate_coordinator::engine::{Input, TokenWish};

/// Silence that ends a session.
const SILENCE_MS: u64 = 30_000;

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
    bench.end(run).await;
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
    bench.end(run).await;
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
    joined(run).await;
    assert!(answer.try_recv().is_err(), "nobody is told");
    assert_eq!(bench.store.tokens().expect("tokens"), []);
    assert_eq!(bench.store.audited(10).expect("records"), []);
}
