//! A healthy cluster, for tests: members m1, m2, ... of which the first leads.

use super::{ClusterId, ClusterView, EtcdVersion, MemberId, MemberState, MemberStatus, MemberView};

/// A healthy member of 3.3.25 at address 10.0.0.NUMBER, with 5000 entries in its log.
pub(crate) fn member(number: u64) -> MemberView {
    MemberView {
        id: MemberId(number),
        name: format!("m{number}"),
        peer_urls: vec![format!("http://10.0.0.{number}:2380")],
        client_urls: vec![format!("http://10.0.0.{number}:2379")],
        learner: false,
        state: MemberState::Up(MemberStatus {
            version: EtcdVersion::new(3, 3, 25),
            term: 2,
            index: 5000,
            applied: None,
            leader: Some(MemberId(1)),
            db_bytes: 1,
            healthy: true,
            errors: Vec::new(),
        }),
    }
}

/// A cluster of so many of these. It asks for no password, and holds version 3 keys alone.
pub(crate) fn cluster(members: u64) -> ClusterView {
    ClusterView {
        id: ClusterId(0xc1),
        version: Some(EtcdVersion::new(3, 3, 0)),
        members: (1..=members).map(member).collect(),
        alarms: Vec::new(),
        auth: Some(false),
        v2_keys: Some(false),
        v3_keys: Some(3),
    }
}

/// What a member says of itself, to change it.
///
/// # Panics
/// If it is down.
pub(crate) fn status(member: &mut MemberView) -> &mut MemberStatus {
    match &mut member.state {
        MemberState::Up(status) => status,
        MemberState::Down { why } => panic!("{} is down: {why}", member.name),
    }
}
