//! What the rooms' own tests share.

pub(super) mod disk;
