//! The file against the catalogue: every key known, every value of its type, references filled in, defaults added. Walks the
//! spanned tree itself, because serde stops at the first mistake; what a value *means* is not judged here.

use super::catalogue::{self, Key, Keys, Kind, NOT_IN_SCOPE, Support};
use super::diagnostic::{Place, Sink, Source, did_you_mean, nearest};
use super::effective::{Node, Origin, Pem, Table, Value};
use super::runtime::Secret;
use super::substitute::{Outside, substitute};
use super::units;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The whole tree as typed tables. Mistakes are in the sink.
pub(super) fn shape(root: &DeTable<'_>, keys: Keys, outside: &Outside<'_>, sink: &mut Sink) -> Table {
    let mut shaper = Shaper { outside, sink };
    let place = Place {
        span: 0..0,
        path: String::new(),
    };
    shaper.table(root, keys, place, Said::InFile)
}

/// A default given in code, as TOML, read as a file would be.
pub(super) fn constant(kind: &Kind, text: &str, place: Place) -> Option<Node> {
    let raw = DeValue::parse(text).expect("a constant: the tests read every default");
    let mut sink = Sink::new(Source::new("", ""));
    let outside = Outside::nothing();
    let span = place.span.clone();
    Shaper {
        outside: &outside,
        sink: &mut sink,
    }
    .value(kind, raw.get_ref(), place, span, Said::ByDefault)
}

/// Whether the values at hand are the user's or the catalogue's.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Said {
    InFile,
    ByDefault,
}

struct Shaper<'a, 'b> {
    outside: &'a Outside<'b>,
    sink: &'a mut Sink,
}

impl Shaper<'_, '_> {
    fn table(&mut self, raw: &DeTable<'_>, keys: Keys, place: Place, said: Said) -> Table {
        for (name, value) in in_file_order(raw) {
            if catalogue::find(keys, name.get_ref()).is_none() {
                self.unknown(name, value, keys, &place);
            }
        }
        let mut entries = Vec::new();
        for key in keys.iter().flat_map(|group| group.iter()) {
            let node = match raw.get_key_value(key.name) {
                Some((name, value)) => self.known(key, name, value, &place, said),
                None => self.default(key, &place),
            };
            entries.extend(node.map(|node| (key.name.to_owned(), node)));
        }
        Table { entries, place }
    }

    fn unknown(
        &mut self,
        name: &Spanned<toml::de::DeString<'_>>,
        _value: &Spanned<DeValue<'_>>,
        keys: Keys,
        table: &Place,
    ) {
        let word = name.get_ref().as_ref();
        let place = table.child(word, name.span());
        if let Some((_, what)) = NOT_IN_SCOPE.iter().find(|(n, _)| *n == word) {
            return self.sink.error(&place, format!("{what}: not in scope"));
        }
        let names = || keys.iter().flat_map(|group| group.iter()).map(|key| key.name);
        let mut message = "unknown key".to_owned();
        if let Some(near) = nearest(word, names()) {
            message.push_str(&format!(" (did you mean \"{near}\"?)"));
        } else if let Some(home) = catalogue::elsewhere(word).first() {
            message.push_str(&format!(" (it belongs in [{home}])"));
        }
        self.sink.error(&place, message);
    }

    /// A key the catalogue knows. None: unset, or a later capability left off.
    fn known(
        &mut self,
        key: &Key,
        name: &Spanned<toml::de::DeString<'_>>,
        raw: &Spanned<DeValue<'_>>,
        table: &Place,
        said: Said,
    ) -> Option<Node> {
        let span = if said == Said::InFile {
            raw.span()
        } else {
            table.span.clone()
        };
        let key_span = if said == Said::InFile {
            name.span()
        } else {
            table.span.clone()
        };
        let place = table.child(key.name, span);
        if key.support == Support::Later {
            self.sink.error(
                &Place {
                    span: key_span,
                    path: place.path,
                },
                "not supported yet",
            );
            return None;
        }
        let Some(node) = self.value(&key.kind, raw.get_ref(), place.clone(), key_span, said) else {
            // Unsetting needs something to fall back to: a policy's key a policy, any other nothing at all.
            if key.default.is_some() && !key.inherited && matches!(key.kind, Kind::Duration) {
                let message = units::duration("").err().unwrap_or_default();
                self.sink.error(&place, message);
            }
            return None;
        };
        if key.support == Support::LaterUnlessDefault {
            let default = self.default_value(key, table).map(|default| bare_value(&default.value));
            let off = default.is_some_and(|default| default == bare_value(&node.value));
            if !off && node.value != Value::Bad {
                self.sink.error(&node.key_place(), "not supported yet");
            }
            return None;
        }
        Some(node)
    }

    fn default(&mut self, key: &Key, table: &Place) -> Option<Node> {
        if key.inherited || key.support != Support::Now {
            None
        } else {
            self.default_value(key, table)
        }
    }

    /// The catalogue's default, read as a file would be.
    fn default_value(&self, key: &Key, table: &Place) -> Option<Node> {
        constant(&key.kind, key.default?, table.child(key.name, table.span.clone()))
    }

    /// None: `""` where that unsets.
    fn value(
        &mut self,
        kind: &Kind,
        raw: &DeValue<'_>,
        place: Place,
        key_span: Range<usize>,
        said: Said,
    ) -> Option<Node> {
        let mut substituted = false;
        let value = match self.typed(kind, raw, &place, said, &mut substituted) {
            Ok(value) => value?,
            Err(message) => {
                self.sink.error(&place, message);
                Value::Bad
            }
        };
        let origin = match said {
            Said::InFile => Origin::Line(self.sink.source.line(key_span.start)),
            Said::ByDefault => Origin::Default,
        };
        Some(Node {
            value,
            origin,
            substituted,
            place,
            key_span,
        })
    }

    fn typed(
        &mut self,
        kind: &Kind,
        raw: &DeValue<'_>,
        place: &Place,
        said: Said,
        substituted: &mut bool,
    ) -> Result<Option<Value>, String> {
        let text = match raw {
            DeValue::String(text) => {
                let (filled, referred) = substitute(text, self.outside)?;
                *substituted = referred;
                Some(filled)
            }
            _ => None,
        };
        let found = || {
            format!(
                "expected {}, found {}{}",
                kind.expected(),
                describe(raw),
                instead(kind, raw)
            )
        };
        Ok(Some(match (kind, raw, text) {
            (Kind::Flag, DeValue::Boolean(flag), _) => Value::Flag(*flag),
            // A variable is always text; what fills it may be a flag or a number.
            (Kind::Flag, _, Some(text)) if *substituted => Value::Flag(text.parse().map_err(|_| found())?),
            (Kind::Count(min, max), DeValue::Integer(n), _) => count(
                i128::from_str_radix(n.as_str(), n.radix()).map_err(|_| found())?,
                *min,
                *max,
            )?,
            (Kind::Count(min, max), _, Some(text)) if *substituted => {
                count(text.parse().map_err(|_| found())?, *min, *max)?
            }
            (Kind::Duration | Kind::OptionalText, _, Some(text)) if text.is_empty() => return Ok(None),
            (Kind::Duration, _, Some(text)) => Value::Duration(units::duration(&text)?),
            (Kind::Timeout, _, Some(text)) => match units::duration(&text)? {
                span if span.is_zero() => return Err("must be above zero".into()),
                span => Value::Duration(span),
            },
            (Kind::Size, _, Some(text)) => Value::Size(units::size(&text)?),
            (Kind::Percent, _, Some(text)) => Value::Percent(units::percent(&text)?),
            (Kind::Duration | Kind::Timeout, DeValue::Integer(n), None) => {
                return Err(units::duration(n.as_str()).err().unwrap_or_else(found));
            }
            (Kind::Size, DeValue::Integer(n), None) => return Err(units::size(n.as_str()).err().unwrap_or_else(found)),
            (Kind::Secret | Kind::TextOr(Kind::List(Kind::Secret)), _, Some(text)) => Value::Secret(Secret(text)),
            (Kind::Pem, _, Some(text)) => Value::Pem(pem(text, self.outside)?),
            (Kind::Text | Kind::OptionalText | Kind::TextOr(_), _, Some(text)) => Value::Text(text),
            (Kind::Choice { now, later }, _, Some(text)) => choice(text, now, later)?,
            (Kind::List(inner) | Kind::TextOr(Kind::List(inner)), DeValue::Array(items), _) => Value::List(
                items
                    .iter()
                    .enumerate()
                    .filter_map(|(i, item)| {
                        let span = if said == Said::InFile {
                            item.span()
                        } else {
                            place.span.clone()
                        };
                        self.value(inner, item.get_ref(), place.element(i, span.clone()), span, said)
                    })
                    .collect(),
            ),
            (Kind::Table(keys) | Kind::TextOr(Kind::Table(keys)), DeValue::Table(raw), _) => {
                Value::Table(self.table(raw, keys, place.clone(), said))
            }
            (Kind::Named(keys), DeValue::Table(raw), _) => Value::Table(self.named(raw, keys, place, said)),
            (Kind::Fields, DeValue::Table(raw), _) => Value::Table(self.fields(raw, place, said)),
            _ => return Err(found()),
        }))
    }

    fn named(&mut self, raw: &DeTable<'_>, keys: Keys, place: &Place, said: Said) -> Table {
        let mut entries = Vec::new();
        for (name, value) in in_file_order(raw) {
            let at = place.child(name.get_ref(), value.span());
            let kind = Kind::Table(keys);
            entries.extend(
                self.value(&kind, value.get_ref(), at, name.span(), said)
                    .map(|node| (name.get_ref().to_string(), node)),
            );
        }
        Table {
            entries,
            place: place.clone(),
        }
    }

    fn fields(&mut self, raw: &DeTable<'_>, place: &Place, said: Said) -> Table {
        let mut entries = Vec::new();
        for (name, value) in in_file_order(raw) {
            let at = place.child(name.get_ref(), value.span());
            let node = self.value(&Kind::Text, value.get_ref(), at, name.span(), said);
            entries.extend(node.map(|node| (name.get_ref().to_string(), node)));
        }
        Table {
            entries,
            place: place.clone(),
        }
    }
}

/// The parsed table is sorted by name; what a user sees follows the file.
fn in_file_order<'a, 'i>(raw: &'a DeTable<'i>) -> Vec<(&'a Spanned<toml::de::DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = raw.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn count(n: i128, min: u64, max: u64) -> Result<Value, String> {
    match u64::try_from(n) {
        Ok(n) if (min..=max).contains(&n) => Ok(Value::Count(n)),
        _ => Err(format!("{n} is not between {min} and {max}")),
    }
}

fn choice(word: String, now: &[&str], later: &[&str]) -> Result<Value, String> {
    if now.contains(&word.as_str()) {
        return Ok(Value::Text(word));
    }
    if later.contains(&word.as_str()) {
        return Err(format!(
            "\"{word}\" is not supported yet, expected {}",
            catalogue::one_of(now)
        ));
    }
    let hint = did_you_mean(&word, now.iter().copied());
    Err(format!("expected {}, found \"{word}\"{hint}", catalogue::one_of(now)))
}

/// What was probably meant.
fn instead(kind: &Kind, raw: &DeValue<'_>) -> String {
    match (kind, raw) {
        (Kind::List(Kind::Text | Kind::Choice { .. }), DeValue::String(text)) => {
            format!(" (did you mean [\"{text}\"]?)")
        }
        (Kind::Text, DeValue::Integer(n)) => format!(" (did you mean \"{n}\"?)"),
        (Kind::Percent, DeValue::Integer(n)) => format!(" (did you mean \"{n}%\"?)"),
        (Kind::Count(..), DeValue::String(text)) if text.parse::<u64>().is_ok() => format!(" (did you mean {text}?)"),
        (Kind::Flag, DeValue::String(text)) if text == "true" || text == "false" => format!(" (did you mean {text}?)"),
        _ => String::new(),
    }
}

/// A PEM text as it stands there, or the file of that path.
fn pem(text: String, outside: &Outside<'_>) -> Result<Pem, String> {
    if text.trim_start().starts_with("-----BEGIN ") {
        return Ok(Pem {
            path: None,
            text: Secret(text),
        });
    }
    let path = outside.base_dir.join(&text);
    match outside.disk.read_to_string(&path) {
        Ok(content) => Ok(Pem {
            path: Some(text),
            text: Secret(content),
        }),
        Err(e) => Err(format!("cannot read {}: {e}", path.display())),
    }
}

fn describe(raw: &DeValue<'_>) -> String {
    match raw {
        DeValue::String(text) => format!("\"{}\"", text.chars().take(60).collect::<String>().escape_debug()),
        DeValue::Integer(n) => format!("the number {n}"),
        DeValue::Float(n) => format!("the number {n}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// A value without places, to compare what was said with what is the default.
fn bare_value(value: &Value) -> String {
    super::print::json(value, super::print::Secrets::Shown).to_string()
}
