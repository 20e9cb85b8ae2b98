//! Agents that don't behave: who says too much or reads nothing stands still alone, costs a bounded amount, and the others go on.

use super::support::agent::{Wire, facts};
use super::support::dial::channel_of;
use super::support::{Site, eventually};
use std::time::Instant;
use tonic::transport::Endpoint;
use wavegate_common::id::Generation;
use wavegate_common::rollout::Status;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;

const PIECE: usize = 32 << 10;

fn output(key: v1::TaskKey, offset: usize) -> Out {
    let (offset, data) = (offset as u64, vec![b'x'; PIECE]);
    Out::Output(v1::Output { key: Some(key), step: "install".to_owned(), offset, data })
}

fn key(node: &str) -> v1::TaskKey {
    let (rollout, plan) = ("r1".to_owned(), "0a1b2c3d4e5f".to_owned());
    v1::TaskKey { rollout, plan, stage: "compute".to_owned(), node: node.to_owned(), attempt: 1 }
}

/// What is said, as a test names it, and the message of this number.
type Flood = (&'static str, fn(usize) -> Out);

/// What an agent may say without end: each of these alone.
fn floods() -> Vec<Flood> {
    vec![
        ("output", |count| output(key("c1"), count * PIECE)),
        ("reports", |_| {
            let ended_steps = Some(v1::Document { schema: "ended_steps".into(), json: b"[]".to_vec() });
            let result = v1::TaskResult::Finished.into();
            let current_step = String::new();
            Out::TaskReport(v1::TaskReport { key: Some(key("c1")), ended_steps, current_step, result })
        }),
        ("refusals", |count| {
            Out::OrderRefused(v1::OrderRefused { key: Some(key("c1")), reason: count.to_string() })
        }),
        ("facts", |count| {
            let mut facts = facts("c1", "compute");
            facts.kernel = count.to_string();
            Out::Facts(wavegate_proto::convert::document("facts", &facts).expect("facts"))
        }),
        ("previews", |count| {
            let step_previews = Some(v1::Document { schema: "step_previews".into(), json: b"[]".to_vec() });
            let request = count as u64;
            Out::PreviewReport(v1::PreviewReport { request, stage: "compute".into(), step_previews })
        }),
    ]
}

#[tokio::test]
async fn whoever_floods_is_made_to_wait_and_the_others_are_heard() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let mut other = Wire::open(&site, &agents[1].credentials).await;
    other.hello("c2", Generation(0), Some(&facts("c2", "compute"))).await;
    other.next().await;
    for (what, message) in floods() {
        let mut flooder = Wire::open(&site, &agents[0].credentials).await;
        flooder.hello("c1", Generation(0), Some(&facts("c1", "compute"))).await;
        flooder.next().await;
        let began = Instant::now();
        let mut said = 0_usize;
        // It says what it can until it can say nothing more, while another one speaks and is heard every time.
        let (mut heard, mut full) = (0, false);
        while !full {
            for _ in 0..50 {
                full |= !flooder.try_say(message(said));
                said += usize::from(!full);
            }
            heard += 1;
            is_heard(&site, &other, &format!("{what} {heard}")).await;
        }
        // At once, by the second, and what is under way: a queue on each side, and the windows.
        let elapsed_s = began.elapsed().as_secs() as usize + 1;
        assert!(said <= 400 + 100 * elapsed_s + 3000, "{what}: {said} messages in {elapsed_s} s");
        let bytes = if what == "output" { said * PIECE } else { 0 };
        assert!(bytes <= (4 + elapsed_s + 4) << 20, "{what}: {bytes} bytes in {elapsed_s} s");
        assert!(site.is_online("c1").await, "{what}: it is heard all the same");
    }
}

/// The other node's agent says something new of itself, and the coordinator knows it.
async fn is_heard(site: &Site, wire: &Wire, news: &str) {
    let mut facts = facts("c2", "compute");
    facts.kernel = news.to_owned();
    wire.say(Out::Facts(wavegate_proto::convert::document("facts", &facts).expect("facts"))).await;
    eventually(&format!("the facts of c2 ({news})"), || async {
        let known = site.daemon().store().nodes().expect("nodes");
        known.into_iter().any(|record| record.facts.is_some_and(|facts| facts.kernel == news))
    })
    .await;
}

#[tokio::test]
async fn whoever_reads_nothing_is_disconnected_and_the_others_go_on() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    site.run_plan().await;
    site.until_status(Status::Finished).await;
    let ended = agents[0].book().journal.values().next().cloned().expect("a task");
    // Its window is closed after a hundred bytes.
    let narrow = Endpoint::from_static("http://coordinator").initial_stream_window_size(100);
    let channel = channel_of(narrow, site.way(&agents[0].credentials)).await.expect("a connection");
    let (generation, leader) = agents[0].leader();
    agents[0].disconnect().await;
    site.until_link("c1", false).await;
    let wire = Wire::on(channel);
    wire.hello_of("c1", (generation, &leader), Some(&agents[0].facts)).await;
    site.until_link("c1", true).await;
    // Each report is acknowledged, and no acknowledgement is read.
    let reporting = async {
        loop {
            wire.report(&ended).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = reporting => {}
        () = site.until_link("c1", false) => {}
    }
    assert!(site.is_online("c2").await);
    agents[0].connect(&site).await;
    assert!(site.is_online("c1").await, "it is welcome again");
}
