//! The procedure as data: what to do, stage by stage, role by role, platform by platform. (Being written.)
