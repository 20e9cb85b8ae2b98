//! What operators see: over TCP and over the socket, the fleet, reasons, output.

use super::support::dial::{Way, channel};
use super::support::{Site, newest, within};
use std::os::unix::fs::PermissionsExt;
use tonic::Code;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Link, Status, Subject, TaskState};
use wavegate_proto::v1;

#[tokio::test]
async fn the_socket_serves_this_user_and_is_private() {
    let mut site = Site::start().await;
    let mode = std::fs::metadata(site.daemon().socket()).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let request = v1::CreateTokenRequest { valid_for_s: 60, ..v1::CreateTokenRequest::default() };
    let mut local = site.local_operator().await;
    local.create_token(request).await.expect("a token");
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).expect("known").expect("there").name;
    site.until_audited(&me, "create token").await;
    let way = Way::Unix(site.daemon().socket().to_path_buf());
    let agents =
        wavegate_proto::v1::agent_service_client::AgentServiceClient::new(channel(way).await.expect("there"));
    let refused = { agents }.session(tokio_stream::empty()).await.expect_err("not on the socket");
    assert_eq!(refused.code(), Code::Unimplemented);
    let socket = site.config.socket.clone();
    site.shut_down().await;
    assert!(!socket.exists(), "removed at a clean end");
    site.start_again().await;
    site.kill().await;
    assert!(socket.exists(), "left over by a crash");
    site.start_again().await;
    site.local_operator().await.list_nodes(v1::ListNodesRequest::default()).await.expect("replaced");
}

#[tokio::test]
async fn health_and_reflection_answer_members() {
    let site = Site::start().await;
    let channel = channel(site.way(&site.alice())).await.expect("a connection");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "wavegate.v1.OperatorService".to_owned() };
    let answer = health.check(request).await.expect("healthy").into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let answer = within(answers.message()).await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("a list") };
    assert!(list.service.iter().any(|service| service.name == "wavegate.v1.OperatorService"), "{list:?}");
}

#[tokio::test]
async fn the_fleet_is_listed_with_links_and_facts() {
    let site = Site::start().await;
    site.enrol("z9").await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let nodes = site.nodes().await;
    assert_eq!(nodes.iter().map(|known| known.node.as_str()).collect::<Vec<_>>(), ["c1", "z9"]);
    assert!(matches!(nodes[0].link, Link::Online { .. }));
    assert_eq!(*nodes[0].roles, agents[0].facts.roles);
    assert_eq!(
        (nodes[1].platform.clone(), nodes[1].agent_version.clone()),
        (None, None),
        "it never connected"
    );
    agents[0].disconnect().await;
    site.until_link("c1", false).await;
}

#[tokio::test]
async fn silence_is_offline_and_a_lost_node_returns() {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    // Three intervals of 300 s without a word; the connection itself is fine.
    site.advance(900_000);
    site.until_link("e1", false).await;
    let waiting = site.until("it is waited for", |status| {
        status.waiting.iter().any(|waiting| waiting.why.contains("went offline while applying"))
    });
    waiting.await;
    site.advance(30_000);
    site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    agents[0].connect(&site).await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[1].connect(&site).await;
    agents[0].script(|book| book.hold = false);
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn what_steps_print_is_kept_and_followed() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| {
        book.hold = true;
        book.fail.insert((Stage::Etcd, 1));
    });
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let request = |node: &str, step: &str, follow| v1::LogsRequest {
        rollout: String::new(),
        node: node.to_owned(),
        stage: String::new(),
        step: step.to_owned(),
        follow,
    };
    let mut alice = site.operator().await;
    let mut followed = alice.logs(request("e1", "", true)).await.expect("a stream").into_inner();
    agents[0].script(|book| book.hold = false);
    let mut text = String::new();
    while let Some(piece) = within(followed.message()).await.expect("output") {
        text.push_str(&String::from_utf8_lossy(&piece.data));
    }
    assert_eq!(text, "etcd e1 install attempt 1\n", "it ends with the failure");
    alice.retry(v1::RetryRequest { all_failed: true, ..v1::RetryRequest::default() }).await.expect("retried");
    alice.resume(newest()).await.expect("resumed");
    site.until_status(Status::Finished).await;
    let mut all = alice.logs(request("e1", "", false)).await.expect("a stream").into_inner();
    let mut places = Vec::new();
    while let Some(piece) = within(all.message()).await.expect("output") {
        places.push((piece.key.expect("a key").attempt, piece.step));
    }
    let place = |attempt, step: &str| (attempt, step.to_owned());
    assert_eq!(places, [place(1, "install"), place(2, "install"), place(2, "restart")]);
    let mut one = alice.logs(request("e1", "restart", true)).await.expect("a stream").into_inner();
    assert!(within(one.message()).await.expect("output").is_some());
    assert!(within(one.message()).await.expect("the end").is_none());
    let refused = alice.logs(request("zz", "", false)).await.expect_err("no such node");
    assert_eq!(refused.code(), Code::NotFound);
    let refused = alice.logs(request("e1", "nosuch", true)).await.expect_err("no such step");
    assert_eq!(refused.code(), Code::NotFound);
    insta::assert_snapshot!(refused.message(), @"e1 has no step nosuch; its steps: install, restart");
    let elsewhere = v1::LogsRequest { stage: "compute".to_owned(), ..request("e1", "install", false) };
    let refused = alice.logs(elsewhere).await.expect_err("not in this stage");
    insta::assert_snapshot!(refused.message(), @"e1 has no step install in stage compute: it has nothing to do there");
}

#[tokio::test]
async fn why_says_what_is_wrong_with_an_agent() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.refuse = Some("its policy does not allow package etcd".to_owned()));
    site.run_plan().await;
    site.until_audited("node e1", "its policy does not allow package etcd").await;
    let reasons = site.why("e1").await;
    let told = reasons.iter().find(|reason| reason.why.contains("its policy")).expect("the refusal");
    assert_eq!(told.subject, Subject::Node { stage: Stage::Etcd, node: "e1".parse().expect("a name") });
    insta::assert_snapshot!(told.why, @"e1: it does not obey its order (r1 etcd e1 attempt 1): its policy does not allow package etcd");
    let barrier = site.why("c1").await;
    assert!(barrier[0].why.contains("waits"), "{barrier:#?}");
    // It is asked again when it connects anew.
    agents[0].script(|book| book.refuse = None);
    agents[0].connect(&site).await;
    site.until_status(Status::Finished).await;
    assert_eq!(site.why("").await, []);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let site = Site::start().await;
    let mut alice = site.operator().await;
    let texts = [
        alice.get_status(newest()).await.expect_err("no rollout"),
        alice.pause(newest()).await.expect_err("no rollout"),
        alice.get_plan(v1::GetPlanRequest { plan: String::new() }).await.expect_err("no plan"),
        alice.get_plan(v1::GetPlanRequest { plan: "0a1b".to_owned() }).await.expect_err("no plan"),
        site.start_plan("", false).await.expect_err("no plan"),
        alice.list_events(v1::ListEventsRequest::default()).await.map(drop).expect_err("no rollout"),
        alice
            .get_status(v1::RolloutRequest { rollout: "r7".to_owned(), brief: false })
            .await
            .expect_err("no rollout"),
    ];
    assert!(texts.iter().all(|status| status.code() == Code::NotFound), "{texts:?}");
    let texts = texts.iter().map(tonic::Status::message).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(texts, @r#"
there is no rollout yet; make a plan and start it: wavegate plan, wavegate start
there is no rollout yet; make a plan and start it: wavegate plan, wavegate start
there is no plan yet; make one: wavegate plan
there is no plan 0a1b; make one: wavegate plan
there is no plan yet; make one: wavegate plan
there is no rollout yet; start one: wavegate plan, wavegate start
there is no rollout yet; make a plan and start it: wavegate plan, wavegate start
"#);
    let bad = alice
        .get_status(v1::RolloutRequest { rollout: "R 7".to_owned(), brief: false })
        .await
        .expect_err("no name");
    assert_eq!(bad.code(), Code::InvalidArgument);
}
