//! What lists say of a plan, read out of its document: the tens of megabytes that a large fleet's plan has are passed over
//! and never in memory as a plan.

use super::super::PlanHead;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use wavegate_common::id::{Actor, PlanId, Timestamp};

/// A plan's document, as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Head {
    id: PlanId,
    digest: String,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    procedure: String,
    created_at: Timestamp,
    created_by: Actor,
    nodes: Number,
    problems: Number,
}

impl From<Head> for PlanHead {
    fn from(head: Head) -> Self {
        let Head { id, digest, body } = head;
        let Body { procedure, created_at, created_by, nodes, problems } = body;
        Self { id, digest, procedure, created_at, created_by, nodes: nodes.0, problems: problems.0 }
    }
}

/// How many entries a list or a map has.
struct Number(usize);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Number, A::Error> {
        let mut number = 0;
        while entries.next_element::<IgnoredAny>()?.is_some() {
            number += 1;
        }
        Ok(Number(number))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Number, A::Error> {
        let mut number = 0;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            number += 1;
        }
        Ok(Number(number))
    }
}
