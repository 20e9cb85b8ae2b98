//! Parts of the program `wavegate-agent`; what they are parts of is `main`.

pub mod enrol;
pub mod exit;
pub mod hand_back;
pub mod print;
pub mod settings;
