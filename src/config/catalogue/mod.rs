//! Every key there is: its type, default, meaning and whether it exists yet. The tables drive the check of a file, the defaults,
//! `print-config` and the JSON schema, so that none of them can forget a key. Contents: `keys`.

mod build;
mod keys;
mod route_keys;
mod upstream_keys;

pub(super) use keys::NOT_IN_SCOPE;
pub use keys::ROOT;
pub(super) use route_keys::POLICY;
pub(super) use upstream_keys::NODES_FILE;

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Its default as TOML; none: unset, or depends (on the level, on the machine, on its name).
    pub default: Option<&'static str>,
    /// A policy's default: filled only after named and inline policies are merged.
    pub inherited: bool,
    /// Whether it exists yet.
    pub support: Support,
    /// What it means, in one sentence.
    pub doc: &'static str,
}

/// Whether a key exists yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Now,
    /// It does not; setting it is refused.
    Later,
    /// It does not, and its default means "off": set to exactly that it is accepted.
    LaterUnlessDefault,
}

/// A table's keys, in groups so that tables can share them.
pub type Keys = &'static [&'static [Key]];

/// What a value looks like.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A bare number within bounds (inclusive).
    Count(u64, u64),
    /// A span of time; `""` unsets it where there is no default.
    Duration,
    /// A span of time above zero.
    Timeout,
    /// A number of bytes.
    Size,
    /// A share.
    Percent,
    /// A string.
    Text,
    /// A string; `""` unsets it.
    OptionalText,
    /// A string that is never printed.
    Secret,
    /// The path of a PEM file, which is read with the configuration; or the PEM text itself.
    Pem,
    /// One of these words.
    Choice {
        /// Words that exist.
        now: &'static [&'static str],
        /// Words of later capabilities.
        later: &'static [&'static str],
    },
    /// A list.
    List(&'static Kind),
    /// A table with known keys.
    Table(Keys),
    /// A table of tables, by a name the user chooses.
    Named(Keys),
    /// A table of strings, by HTTP field name.
    Fields,
    /// A string or what is inside.
    TextOr(&'static Kind),
}

impl Kind {
    /// What a user should have written, for "expected ..., found ...".
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Count(..) => "a number".into(),
            Self::Duration | Self::Timeout => "a duration like \"250ms\"".into(),
            Self::Size => "a size like \"64MiB\"".into(),
            Self::Percent => "a percentage like \"20%\"".into(),
            Self::Text | Self::OptionalText | Self::Secret => "a string".into(),
            Self::Pem => "the path of a PEM file".into(),
            Self::Choice { now, .. } => one_of(now),
            Self::List(Self::Table(_)) => "a list of tables".into(),
            Self::List(_) => "a list".into(),
            Self::Table(_) | Self::Named(_) | Self::Fields => "a table".into(),
            Self::TextOr(other) => format!("a string or {}", other.expected()),
        }
    }
}

/// `"a", "b" or "c"`.
#[must_use]
pub fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => format!("\"{only}\""),
        Some((last, rest)) => {
            let rest: Vec<_> = rest.iter().map(|word| format!("\"{word}\"")).collect();
            format!("{} or \"{last}\"", rest.join(", "))
        }
    }
}

/// The key of that name in a table.
#[must_use]
pub fn find(keys: Keys, name: &str) -> Option<&'static Key> {
    keys.iter().flat_map(|group| group.iter()).find(|key| key.name == name)
}

/// Where else a key of that name lives, as `[table]` paths in the order of the catalogue.
pub(super) fn elsewhere(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    search(ROOT, "", name, &mut found);
    found
}

fn search(keys: Keys, table: &str, name: &str, found: &mut Vec<String>) {
    for key in keys.iter().flat_map(|group| group.iter()) {
        if key.name == name && !table.is_empty() {
            found.push(table.to_owned());
        }
        let dot = if table.is_empty() { "" } else { "." };
        let path = format!("{table}{dot}{}", key.name);
        match &key.kind {
            Kind::Table(inner) | Kind::TextOr(Kind::Table(inner)) => search(inner, &path, name, found),
            Kind::List(Kind::Table(inner)) => search(inner, &format!("{path}[]"), name, found),
            Kind::Named(inner) => search(inner, &format!("{path}.NAME"), name, found),
            _ => {}
        }
    }
}
