//! A fleet that comes back all at once: more dial in than can be shaken hands with, and nobody is lost for standing in the queue.

use super::support::{Site, eventually, newest, task};
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wavegate_common::id::Timestamp;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Link, Status, TaskState};
use wavegate_coordinator::rpc::handshakes::HANDSHAKES;
use wavegate_coordinator::status::view::{NodeStatus, RolloutStatus};
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

/// A connection whose handshake comes to nothing; sent away, it dials again.
async fn dial_on(address: SocketAddr) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            // Nothing is ever said: this is the end.
            drop(stream.read(&mut [0]).await);
        }
    }
}

/// A few more of them than there may be handshakes, until dropped.
fn crowd(address: SocketAddr) -> JoinSet<()> {
    (0..HANDSHAKES + 4).map(|_| dial_on(address)).collect()
}

/// Since when the only node is offline; asked over the unix socket, which has no such queue.
async fn offline_since(site: &Site) -> Timestamp {
    let nodes = site.local_operator().await.list_nodes(v1::ListNodesRequest::default()).await.expect("nodes");
    let nodes: Vec<NodeStatus<'_>> = read_document("node_list", Some(&nodes.into_inner())).expect("nodes");
    match nodes[0].link {
        Link::Offline { since } => since,
        online @ Link::Online { .. } => panic!("{online:?}"),
    }
}

async fn status(site: &Site) -> RolloutStatus {
    let document = site.local_operator().await.get_status(newest()).await.expect("a status").into_inner();
    read_document("rollout_status", Some(&document)).expect("a status")
}

#[tokio::test]
async fn who_stands_in_the_queue_at_the_door_is_not_lost() {
    let (mut site, agent) = Site::at_work().await;
    site.kill().await;
    agent.disconnect().await;
    site.start_again().await;

    let crowd = crowd(site.daemon().address());
    let queued = |status: &RolloutStatus| {
        status.waiting.iter().find(|reason| reason.why.contains("dial in")).map(|reason| reason.why.clone())
    };
    // Longer than a node may be away.
    for _ in 0..50 {
        let before = offline_since(&site).await;
        site.advance(750);
        eventually("it is seen that there is a queue", || async { offline_since(&site).await > before })
            .await;
    }
    // A command has the engine decide what comes next.
    site.local_operator().await.resume(newest()).await.expect("it runs");
    let seen = status(&site).await;
    assert_eq!(task(&seen, Stage::Etcd, "e1").map(|task| task.state), Some(TaskState::Applying));
    insta::assert_snapshot!(queued(&seen).expect("it is told"), @"more agents dial in than the coordinator can shake hands with at a time; those who wait for it are not counted as away for the first 5 minutes");

    drop(crowd);
    site.advance(30_000);
    site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    assert_eq!(queued(&status(&site).await), None);
    agent.script(|book| book.hold = false);
    agent.connect(&site).await;
    site.until_status(Status::Finished).await;
}
