//! The machine itself, behind the trait `Host`.
