//! The coordinator: holds the barrier between the stages, keeps the event log, serves agents and operators.
//! The `wavegate` command line lives here too; it uses the operator service alone.

pub mod status;
