//! The wire of wavegate: generated messages and services, conversions at the edge, identities, TLS.
//!
//! Wire types stop at `convert`: neither the core nor the agent's and coordinator's logic sees them.

pub mod codec;
pub mod convert;
pub mod identity;
pub mod tls;
pub mod token;

/// Generated messages and services of package `wavegate.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("wavegate.v1");
}

/// The gRPC metadata in which a command line says its version with every call of the operator service.
pub const VERSION_METADATA: &str = "wavegate-version";

/// The largest message between operators and coordinator, in bytes, both ways: plans and statuses of ten thousand nodes have
/// tens of megabytes. gRPC's own limit of 4 MiB would refuse an inventory of that size.
pub const OPERATOR_MESSAGE_MAX: usize = 256 << 20;

/// The encoded file descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
