//! Short ways to write a catalogue down.

use super::Support::{Later, LaterUnlessDefault, Now};
use super::{Key, Kind};

/// A key with a default.
pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: false,
        support: Now,
        doc,
    }
}

/// A policy's key with a default.
pub(super) const fn inherited(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: true,
        support: Now,
        doc,
    }
}

/// A key without a default.
pub(super) const fn bare(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        inherited: false,
        support: Now,
        doc,
    }
}

pub(super) const fn later(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        inherited: false,
        support: Later,
        doc,
    }
}

/// A key of a later capability whose default means "off".
pub(super) const fn off(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: false,
        support: LaterUnlessDefault,
        doc,
    }
}

pub(super) const fn choice(now: &'static [&'static str], later: &'static [&'static str]) -> Kind {
    Kind::Choice { now, later }
}

/// A count that fits everywhere it goes.
pub(super) const COUNT: Kind = Kind::Count(1, 1_000_000_000);
pub(super) const COUNT_OR_NONE: Kind = Kind::Count(0, 1_000_000_000);
pub(super) const TEXTS: Kind = Kind::List(&Kind::Text);
