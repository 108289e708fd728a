//! The effective configuration as data: every value typed, every default filled in, each with its origin. `compile` gives it
//! meaning; `print` shows it. A value whose mistake has been reported is [`Value::Bad`], so that nobody reports it twice.

use super::diagnostic::Place;
use super::runtime::Secret;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Wrong, and already reported.
    Bad,
    /// `true` or `false`.
    Flag(bool),
    /// A bare number.
    Count(u64),
    /// A span of time.
    Duration(Duration),
    /// A number of bytes.
    Size(u64),
    /// A share of a hundred.
    Percent(u32),
    /// A string.
    Text(String),
    /// A string that is never printed.
    Secret(Secret),
    /// A file of certificates or a key, already read.
    Pem(Pem),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// PEM text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// The path as the file says it; none: the text itself stood there.
    pub path: Option<String>,
    pub(super) text: Secret,
}

impl Pem {
    pub(super) fn text(&self) -> &str {
        self.text.reveal()
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said.
    Default,
    /// A line of the file.
    Line(usize),
    /// A line of a named policy.
    Policy {
        /// Its name.
        name: Arc<str>,
        /// The line.
        line: usize,
    },
}

/// A value with its origin and place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether `${NAME}` or `file:PATH` filled it: it may hold a secret.
    pub substituted: bool,
    /// The value's bytes and path.
    pub(super) place: Place,
    /// The key's bytes.
    pub(super) key_span: Range<usize>,
}

impl Node {
    pub(super) fn by_default(value: Value, place: Place) -> Self {
        Self {
            value,
            origin: Origin::Default,
            substituted: false,
            key_span: place.span.clone(),
            place,
        }
    }

    /// Where the key stands, for errors about the key itself.
    pub(super) fn key_place(&self) -> Place {
        Place {
            span: self.key_span.clone(),
            path: self.place.path.clone(),
        }
    }

    /// Whether somebody said it, and said it right.
    pub(super) fn is_set(&self) -> bool {
        self.origin != Origin::Default && self.value != Value::Bad
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Secret(secret) => Some(secret.reveal()),
            _ => None,
        }
    }

    pub(super) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// A table in the order of the catalogue (known keys) or of the file (names).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Keys and values.
    pub entries: Vec<(String, Node)>,
    pub(super) place: Place,
}

/// The whole effective configuration. The default is empty: a `Config` put together by hand in a test has none.
#[derive(Clone, Default)]
pub struct Effective {
    /// The file it came from.
    pub file: Arc<str>,
    /// `[server]` and so on. Each route holds its merged policy; `[policies]` is gone.
    pub root: Table,
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", super::print::redacted_json(self))
    }
}

/// Reading typed values. What is absent or bad gives a harmless stand-in: its error is already reported and no `Config` will be built.
impl Table {
    pub(super) fn empty() -> Self {
        Self::default()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.entries.iter().position(|(key, _)| key == name)?;
        Some(self.entries.remove(at).1)
    }

    pub(super) fn push(&mut self, name: &str, node: Node) {
        self.entries.push((name.to_owned(), node));
    }

    /// Inserts behind the key `before`, or first.
    pub(super) fn insert_after(&mut self, before: &str, name: &str, node: Node) {
        let at = self
            .entries
            .iter()
            .position(|(key, _)| key == before)
            .map_or(0, |at| at + 1);
        self.entries.insert(at, (name.to_owned(), node));
    }

    /// Sets a default that the catalogue cannot know, unless the key is there.
    pub(super) fn fill_first(&mut self, name: &str, value: Value) {
        if self.get(name).is_none() {
            self.entries.insert(
                0,
                (
                    name.to_owned(),
                    Node::by_default(value, self.place.child(name, self.place.span.clone())),
                ),
            );
        }
    }

    pub(super) fn table_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.entries
            .iter_mut()
            .find(|(key, _)| key == name)
            .and_then(|(_, node)| match &mut node.value {
                Value::Table(table) => Some(table),
                _ => None,
            })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Where `name` was set; the table's own place when it was not.
    pub(super) fn place_of(&self, name: &str) -> Place {
        match self.get(name) {
            Some(node) if node.origin != Origin::Default => node.place.clone(),
            _ => self.place.child(name, self.place.span.clone()),
        }
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(Node::is_set)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name).map(|n| &n.value), Some(Value::Flag(true)))
    }

    pub(super) fn count(&self, name: &str) -> usize {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Count(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
            _ => 1,
        }
    }

    pub(super) fn count_u32(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Duration(span)) => Some(*span),
            _ => None,
        }
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    pub(super) fn percent(&self, name: &str) -> u32 {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Percent(share)) => *share,
            _ => 0,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Node::as_text)
    }

    pub(super) fn list(&self, name: &str) -> &[Node] {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// The strings of a list, each with its node.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = (&str, &Node)> {
        self.list(name)
            .iter()
            .filter_map(|node| node.as_text().map(|text| (text, node)))
    }

    pub(super) fn table(&self, name: &str) -> Option<&Self> {
        self.get(name).and_then(Node::as_table)
    }

    /// The tables of a table of tables, by name.
    pub(super) fn tables(&self, name: &str) -> impl Iterator<Item = (&str, &Self)> {
        let named = self.table(name).map_or(&[][..], |table| &table.entries);
        tables_of(named)
    }

    /// The tables among the entries, by name.
    pub(super) fn tables_here(&self) -> impl Iterator<Item = (&str, &Self)> {
        tables_of(&self.entries)
    }
}

fn tables_of(entries: &[(String, Node)]) -> impl Iterator<Item = (&str, &Table)> {
    entries
        .iter()
        .filter_map(|(name, node)| node.as_table().map(|table| (name.as_str(), table)))
}

impl Place {
    /// The place of a key below this one.
    pub(super) fn child(&self, key: &str, span: Range<usize>) -> Self {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if plain {
            key.to_owned()
        } else {
            format!("\"{}\"", key.escape_debug())
        };
        let path = if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        };
        Self { span, path }
    }

    /// The place of an element of this list.
    pub(super) fn element(&self, index: usize, span: Range<usize>) -> Self {
        Self {
            span,
            path: format!("{}[{index}]", self.path),
        }
    }
}
