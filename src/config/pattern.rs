//! Patterns of routes: host, path, rewrite, network. Parsed and normalised once at compile; matching compares strings, never
//! backtracks (a placeholder is a whole segment, or the end) and allocates only for more than four captures.

use super::runtime::{HostPattern, Network, PathPattern, Piece, Rewrite};
use crate::core::key::normalise_escapes;
use smallvec::SmallVec;
use std::net::{IpAddr, Ipv6Addr};

/// What a path pattern's placeholders matched: in the order of the pattern, as slices of the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'a> {
    values: SmallVec<[(&'a str, &'a str); 4]>,
}

impl<'a> Captures<'a> {
    /// What the placeholder of that name matched.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

impl PathPattern {
    /// Reads `/orders/{id}/{*rest}`; literals are normalised as request paths are (RFC 3986 s6.2.2).
    ///
    /// # Errors
    /// A sentence that says what is wrong with the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path starts with \"/\", found \"{text}\""));
        }
        Ok(Self {
            text: text.to_owned(),
            pieces: pieces(text)?,
        })
    }

    /// The placeholders' values when the pattern matches all of `path`, which is normalised and has no query.
    #[must_use]
    pub fn matches<'a>(&'a self, path: &'a str) -> Option<Captures<'a>> {
        let mut values = SmallVec::new();
        let mut rest = path;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Piece::Segment(name) => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let (segment, after) = rest.split_at(end);
                    if segment.is_empty() {
                        return None;
                    }
                    values.push((name.as_str(), segment));
                    rest = after;
                }
                Piece::Rest(name) => values.push((name.as_str(), std::mem::take(&mut rest))),
            }
        }
        rest.is_empty().then_some(Captures { values })
    }

    /// Whether it matches, for those who do not ask what the placeholders stand for.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        let mut rest = path;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Piece::Segment(_) => match rest.find('/').unwrap_or(rest.len()) {
                    0 => return false,
                    end => rest = rest.get(end..).unwrap_or_default(),
                },
                Piece::Rest(_) => return true,
            }
        }
        rest.is_empty()
    }

    /// What every path that it matches begins with, and whether that is all of the path.
    #[must_use]
    pub fn literal(&self) -> (&str, bool) {
        match self.pieces.as_slice() {
            [Piece::Literal(literal), rest @ ..] => (literal, rest.is_empty()),
            _ => ("", false),
        }
    }

    /// The names of its placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.pieces)
    }

    /// Whether every path `other` matches is matched by `self` too. Errs towards no.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (mine, open) = shape(&self.pieces);
        let (theirs, theirs_open) = shape(&other.pieces);
        covers(&mine, open, &theirs, theirs_open)
    }
}

/// A pattern with every `{name}` as one NUL (which no path holds), and whether `{*rest}` ends it.
fn shape(pieces: &[Piece]) -> (String, bool) {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Segment(_) => text.push('\0'),
            Piece::Rest(_) => return (text, true),
        }
    }
    (text, false)
}

fn covers(mine: &str, open: bool, theirs: &str, theirs_open: bool) -> bool {
    if theirs_open && !open {
        return false;
    }
    let mut theirs = theirs;

    for m in mine.chars() {
        if m == '\0' {
            let end = theirs.find('/').unwrap_or(theirs.len());
            let (segment, after) = theirs.split_at(end);
            // The last segment of an open pattern may be empty, or go on below.
            if segment.is_empty() || (theirs_open && after.is_empty()) {
                return false;
            }
            theirs = after;
        } else {
            match theirs.strip_prefix(m) {
                Some(after) => theirs = after,
                None => return false,
            }
        }
    }
    theirs.is_empty() || open
}

impl Rewrite {
    /// Reads `/v2/orders/{id}`; every placeholder must be one of the pattern's.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str, pattern: Option<&PathPattern>) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path starts with \"/\", found \"{text}\""));
        }
        let pieces = pieces(text)?;
        for piece in &pieces {
            let (name, rest) = match piece {
                Piece::Literal(_) => continue,
                Piece::Segment(name) => (name, false),
                Piece::Rest(name) => (name, true),
            };
            let there = pattern.and_then(|p| {
                p.pieces
                    .iter()
                    .find(|p| matches!(p, Piece::Segment(n) | Piece::Rest(n) if n == name))
            });
            match (there, rest) {
                (None, _) => {
                    let hint = super::diagnostic::did_you_mean(name, pattern.into_iter().flat_map(PathPattern::names));
                    return Err(format!("the placeholder \"{name}\" is not in match.path{hint}"));
                }
                (Some(Piece::Rest(_)), false) => return Err(format!("write {{*{name}}}, as match.path does")),
                (Some(Piece::Segment(_)), true) => return Err(format!("write {{{name}}}, as match.path does")),
                (Some(_), _) => {}
            }
        }
        Ok(Self { pieces })
    }

    /// The path sent upstream. The query is not touched.
    #[must_use]
    pub fn apply(&self, captures: &Captures<'_>) -> String {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => path.push_str(literal),
                Piece::Segment(name) | Piece::Rest(name) => path.push_str(captures.get(name).unwrap_or("")),
            }
        }
        path
    }
}

fn names(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Literal(_) => None,
        Piece::Segment(name) | Piece::Rest(name) => Some(name.as_str()),
    })
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        let Some((inside, tail)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
            return Err("\"{\" and \"}\" come in pairs".into());
        };
        if !before.is_empty() {
            pieces.push(Piece::Literal(literal(before)?));
        }
        let (name, open) = inside.strip_prefix('*').map_or((inside, false), |name| (name, true));
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(word) {
            return Err(format!(
                "\"{{{inside}}}\" is no placeholder: write {{name}} or {{*rest}}"
            ));
        }
        if names(&pieces).any(|n| n == name) {
            return Err(format!("the placeholder \"{name}\" is there twice"));
        }
        if open {
            if !tail.is_empty() {
                return Err(format!("{{*{name}}} matches the rest and must come last"));
            }
            pieces.push(Piece::Rest(name.to_owned()));
        } else {
            if !before.ends_with('/') || !(tail.is_empty() || tail.starts_with('/')) {
                return Err(format!(
                    "{{{name}}} is one whole segment: \"/\" before it, \"/\" or nothing after it"
                ));
            }
            pieces.push(Piece::Segment(name.to_owned()));
        }
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(literal(rest)?));
    }
    Ok(pieces)
}

/// A literal as it looks in a normalised path (RFC 3986 s6.2.2).
fn literal(text: &str) -> Result<String, String> {
    if let Some(wrong) = text.chars().find(|c| matches!(c, '?' | '#' | ' ') || c.is_control()) {
        return Err(format!("a path has no {:?}", wrong.to_string()));
    }
    let mut escapes = text.split('%').skip(1);
    let digits = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !escapes.all(digits) {
        return Err("\"%\" needs two hexadecimal digits".into());
    }
    let normal = normalise_escapes(text).into_owned();
    if normal.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("\".\" and \"..\" are removed from a request's path before it is matched".into());
    }
    Ok(normal)
}

impl HostPattern {
    /// Reads `shop.example` or `*.example.com`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, open) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        if name.contains('*') {
            return Err("\"*\" stands only at the start, as in \"*.example.com\"".into());
        }
        let address = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .is_some_and(|n| n.parse::<Ipv6Addr>().is_ok());
        if !address && name.contains(':') {
            return Err(format!(
                "a host pattern has no port: write \"{}\"",
                text.split(':').next().unwrap_or("")
            ));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || (!address && !name.chars().all(fits)) || name.starts_with('.') {
            return Err(format!(
                "\"{text}\" is no host name (an international name is written in its xn-- form)"
            ));
        }
        let name = name.to_ascii_lowercase();
        Ok(if open {
            Self::Suffix(format!(".{name}"))
        } else {
            Self::Exact(name)
        })
    }

    /// Whether a request's host (any case, with or without a port) matches.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = without_port(host).as_bytes();
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Suffix(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|labels| *labels > 0)
                .and_then(|labels| host.get(labels..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }

    /// Whether every host `other` matches is matched by `self` too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(suffix), Self::Exact(name)) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            (Self::Suffix(a), Self::Suffix(b)) => b.ends_with(a.as_str()),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1/128` or a single address.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a network like \"10.0.0.0/8\" or an address, found \"{text}\"");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse::<u8>().ok().filter(|p| *p <= bits).ok_or_else(wrong)?,
        };
        let first = Self::first(address, prefix);
        if first != address {
            return Err(format!(
                "\"{text}\" has bits set beyond its prefix (did you mean \"{first}/{prefix}\"?)"
            ));
        }
        Ok(Self { address, prefix })
    }

    fn first(address: IpAddr, prefix: u8) -> IpAddr {
        match address {
            IpAddr::V4(a) => {
                IpAddr::V4((u32::from(a) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
            }
            IpAddr::V6(a) => {
                IpAddr::V6((u128::from(a) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
            }
        }
    }

    /// Whether the address lies in it. An IPv4 address seen through an IPv6 socket counts as itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::first(address, self.prefix) == self.address
    }
}
