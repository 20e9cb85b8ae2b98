//! Join tokens for many nodes: who may use them, how often, and until when.

use super::support::{Site, enrolled};
use rcgen::KeyPair;
use std::collections::BTreeSet;
use tonic::Code;
use wavegate_common::id::{Actor, FleetId, NodeId, Timestamp};
use wavegate_coordinator::status::tokens::{TokenDetail, TokenStatus, Worth};
use wavegate_coordinator::store::{AuditRecord, Store, TokenRecord, TokenUse};
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

fn of(uses: u32, declared: bool) -> v1::CreateTokenRequest {
    v1::CreateTokenRequest { uses, declared, ..v1::CreateTokenRequest::default() }
}

async fn detail(site: &Site, id: &str) -> TokenDetail {
    let request = v1::GetTokenRequest { id: id.to_owned() };
    let document = site.operator().await.get_token(request).await.expect("it is there").into_inner();
    read_document("token", Some(&document)).expect("a token")
}

#[tokio::test]
async fn of_many_who_ask_at_once_as_many_enrol_as_may() {
    let site = Site::start().await;
    let token = site.token_as(of(5, false)).await;
    let keys: Vec<(String, KeyPair)> =
        (0..9).map(|n| (format!("c{n}"), KeyPair::generate().expect("a key"))).collect();
    let mut asking = Vec::new();
    for (node, key) in &keys {
        asking.push(Box::pin(site.enrol_with(&token, node, key)));
    }
    let mut answers = Vec::new();
    // Each of them has been begun before any is waited for.
    let polled = std::future::poll_fn(|context| {
        asking.retain_mut(|asking| match asking.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if asking.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    super::support::within(polled).await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((answers.len(), refused.len()), (9, 4), "{refused:?}");
    for refused in refused {
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(
            refused.message(),
            "the join token has been used by 5 nodes, as many as it was made for; make another one on the coordinator: wavegate token create --uses N"
        );
    }
    let used = detail(&site, &token.id).await;
    assert_eq!((used.token.worth, used.token.times_used, used.used_by.len()), (Worth::Used, 5, 5));

    // Whoever enrolled may ask again, and gets the same.
    let enrolled: BTreeSet<String> = used.used_by.iter().map(|used| used.node.to_string()).collect();
    let (node, key) = keys.iter().find(|(node, _)| enrolled.contains(node)).expect("one of the five");
    let again = site.enrol_with(&token, node, key).await.expect("its answer may have been lost");
    let known = site.enrol_with(&token, node, key).await.expect("as often as it likes");
    assert_eq!(again.certificate_pem, known.certificate_pem);
    let other = KeyPair::generate().expect("a key");
    let refused = site.enrol_with(&token, node, &other).await.expect_err("the place is taken");
    assert!(refused.message().contains("has enrolled already"), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_was_removed_does_not_come_back_by_the_token_that_it_had() {
    let site = Site::start().await;
    let token = site.token_as(of(5, false)).await;
    let key = KeyPair::generate().expect("a key");
    site.enrol_with(&token, "c1", &key).await.expect("enrolled");
    let request = v1::RemoveNodeRequest { node: "c1".to_owned(), force: false };
    site.operator().await.remove_node(request).await.expect("removed");
    let refused = site.enrol_with(&token, "c1", &key).await.expect_err("it works once for each");
    insta::assert_snapshot!(refused.message(), @"node c1 has enrolled with this join token before and was removed from the fleet since; it works once for each node, so make one for it: wavegate token create --node c1");
    site.enrol_with(&token, "c2", &key).await.expect("others still may");
}

#[tokio::test]
async fn a_token_for_declared_nodes_asks_the_inventory() {
    let site = Site::start().await;
    let token = site.token_as(of(5, true)).await;
    let key = KeyPair::generate().expect("a key");
    let refused = site.enrol_with(&token, "c1", &key).await.expect_err("there is no inventory");
    assert_eq!(refused.code(), Code::ResourceExhausted, "an agent keeps the token and asks again");
    let text = "[nodes.c1]\n".to_owned();
    let request = v1::SetInventoryRequest { text, file: "fleet.toml".to_owned() };
    site.operator().await.set_inventory(request).await.expect("declared");
    site.enrol_with(&token, "c1", &key).await.expect("it is declared now");
    let refused = site.enrol_with(&token, "c2", &key).await.expect_err("it is not");
    insta::assert_snapshot!(refused.message(), @"the join token is for nodes of the inventory alone, and c2 is not in it; declare it (wavegate inventory set FILE), or make a token for it: wavegate token create --node c2");
}

#[tokio::test]
async fn a_leaked_token_is_found_and_revoked() {
    let site = Site::start().await;
    let (leaked, kept) = (site.token_as(of(100, false)).await, site.token("c9").await);
    let key = KeyPair::generate().expect("a key");
    site.enrol_with(&leaked, "c1", &key).await.expect("enrolled");
    let mut alice = site.operator().await;
    let revoke = |id: &str| v1::RevokeTokenRequest { id: id.to_owned() };
    let done = alice.revoke_token(revoke(&leaked.id)).await.expect("revoked").into_inner();
    assert!(done.changed);
    insta::assert_snapshot!(done.text.replace(&leaked.id, "ID"), @"join token ID is revoked; one node has enrolled with it and stays in the fleet: wavegate token show ID");
    let again = alice.revoke_token(revoke(&leaked.id)).await.expect("it was").into_inner();
    assert!(!again.changed, "{again:?}");
    let refused = alice.revoke_token(revoke("ffff")).await.expect_err("there is none");
    insta::assert_snapshot!(refused.message(), @"there is no join token ffff; those there are: wavegate token list");
    for node in ["c1", "c2"] {
        let refused = site.enrol_with(&leaked, node, &key).await.expect_err("it is worth nothing");
        assert_eq!(
            refused.message(),
            "the join token has been revoked; make a new one on the coordinator: wavegate token create"
        );
    }
    site.until_audited("alice", "revoke token").await;
    let list = alice.list_tokens(v1::ListTokensRequest {}).await.expect("a list").into_inner();
    let list: Vec<TokenStatus> = read_document("token_list", Some(&list)).expect("a list");
    let worth = |id: &str| list.iter().find(|token| token.id == id).map(|token| token.worth);
    assert_eq!((worth(&leaked.id), worth(&kept.id)), (Some(Worth::Revoked), Some(Worth::Valid)));
    let used = detail(&site, &leaked.id).await.used_by;
    assert_eq!(used.iter().map(|used| used.node.as_str()).collect::<Vec<_>>(), ["c1"]);
}

#[tokio::test]
async fn a_token_for_one_node_is_for_no_second() {
    let site = Site::start().await;
    for request in [v1::CreateTokenRequest { node: "c1".to_owned(), ..of(2, false) }, of(100_001, false)] {
        let request = v1::CreateTokenRequest { valid_for_s: 60, ..request };
        let refused = site.operator().await.create_token(request).await.expect_err("it makes no sense");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

/// Ten thousand nodes use one token: what is written for each must not grow with those before it.
#[test]
fn what_a_use_writes_does_not_grow_with_the_uses_before_it() {
    let store = Store::in_memory(&FleetId::new("test").expect("a name")).expect("a store");
    let text = r#"{"id":"t","secret_sha256":"s","node":null,"expires_at":9,"created_by":"alice","uses":100000,"used":null}"#;
    let token: TokenRecord = serde_json::from_str(text).expect("a token");
    let audit = AuditRecord {
        at: Timestamp(1),
        who: "10.0.0.1".to_owned(),
        what: "enrol".to_owned(),
        result: "done".to_owned(),
    };
    store.put_token(&token, Timestamp(1), &audit).expect("kept");
    let size = |token: &TokenRecord| serde_json::to_string(token).expect("text").len();
    let mut sizes = Vec::new();
    for number in 0..1000_u64 {
        let node = NodeId::new(format!("compute-{number:04}")).expect("a name");
        let enrolled = store.enrol("t", &node, &audit, |shown, _| {
            let shown = shown.expect("it is there");
            assert_eq!(shown.used_at, None);
            let used = Some(TokenUse { node: node.clone(), at: Timestamp(number) });
            let after = TokenRecord { times_used: shown.record.times_used() + 1, used, ..shown.record };
            sizes.push(size(&after));
            let record = enrolled(node.clone());
            Ok::<_, ()>((after, record))
        });
        enrolled.expect("stored").expect("agreed");
    }
    let (first, last) = (sizes[0], sizes[999]);
    assert!(last <= first + 8, "from {first} to {last} bytes");
    let kept = store.token("t").expect("readable").expect("there");
    let uses = store.token_uses(&kept).expect("readable");
    assert_eq!((kept.times_used(), uses.len()), (1000, 1000), "and all of them are kept");
    assert_eq!(kept.created_by, Actor("alice".to_owned()));
    let much_later = Timestamp(9 + 31 * 24 * 3600 * 1000);
    let other = TokenRecord { id: "u".to_owned(), expires_at: much_later, ..token };
    store.put_token(&other, much_later, &audit).expect("kept");
    assert_eq!(store.tokens().expect("readable").len(), 1, "the old one is forgotten");
    assert_eq!(store.token_uses(&TokenRecord { used: None, ..kept }).expect("readable"), [], "with its uses");
}
