//! Which requests a stored answer fits (RFC 9111 s4.1). Values are compared in a normal form that every request's value is brought
//! into: lines joined with `, `, optional white space dropped, Accept-Language case-folded and sorted, Accept-Encoding by meaning.
//! The normal form of a normal form is itself.

use crate::core::http::stored::Vary;
use crate::core::http::syntax::{all_members, elements, is_token_byte, members, trim_ows};
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// A normalised value. Requests of ordinary size need no heap.
type Normal = SmallVec<[u8; 256]>;

/// The field names in `Vary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// These; none at all when the answer does not vary.
    Fields(SmallVec<[HeaderName; 4]>),
    /// `*`, or something that is no field name: no request matches.
    Star,
}

/// Reads `Vary`, one list over all its lines.
#[must_use]
pub fn names(answer: &HeaderMap) -> Names {
    let mut fields = SmallVec::new();
    if answer.contains_key(VARY) {
        for member in all_members(answer, &VARY) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" => {
                    if !fields.contains(&name) {
                        fields.push(name);
                    }
                }
                _ => return Names::Star,
            }
        }
    }
    Names::Fields(fields)
}

impl Vary {
    /// What an answer to `request` varies on; none when no request would match (`Vary: *`).
    #[must_use]
    pub fn of(answer: &HeaderMap, request: &HeaderMap) -> Option<Self> {
        match names(answer) {
            Names::Star => None,
            Names::Fields(fields) if fields.is_empty() => Some(Self::Any),
            Names::Fields(fields) => Some(Self::Fields(
                fields
                    .into_iter()
                    .map(|name| (text(normal(request, &name)), name))
                    .map(|(value, name)| (name, value))
                    .collect(),
            )),
        }
    }

    /// The fields it varies on; none when it fits every request.
    #[must_use]
    pub fn names(&self) -> Option<impl Iterator<Item = &HeaderName>> {
        match self {
            Self::Any => None,
            Self::Fields(fields) => Some(fields.iter().map(|(name, _)| name)),
        }
    }

    /// Whether the answer fits `request`.
    #[must_use]
    #[inline]
    pub fn matches(&self, request: &HeaderMap) -> bool {
        match self {
            Self::Any => true,
            Self::Fields(fields) => fields
                .iter()
                .all(|(name, stored)| field_matches(request, name, stored.as_deref())),
        }
    }
}

fn field_matches(request: &HeaderMap, name: &HeaderName, stored: Option<&str>) -> bool {
    let mut lines = request.get_all(name).iter();
    let (Some(stored), Some(line)) = (stored, lines.next()) else {
        return stored.is_none() && !request.contains_key(name);
    };
    // A value that is its own normal form, as most are, is compared as it is.
    if lines.next().is_none() && line.to_str().is_ok_and(|value| value == stored) {
        return true;
    }
    normal(request, name).is_some_and(|value| stored.chars().eq(value.iter().map(|b| char::from(*b))))
}

/// Byte by byte as characters, so that two different values stay different whatever their encoding.
fn text(value: Option<Normal>) -> Option<Box<str>> {
    value.map(|value| value.iter().map(|b| char::from(*b)).collect())
}

/// The request's value of a field in its normal form; none when it is absent.
pub(crate) fn normal(request: &HeaderMap, name: &HeaderName) -> Option<Normal> {
    if !request.contains_key(name) {
        return None;
    }
    let mut out = Normal::new();
    let done = if *name == ACCEPT_ENCODING {
        weighted(request, name, true, &mut out)
    } else if *name == ACCEPT_LANGUAGE {
        weighted(request, name, false, &mut out)
    } else {
        false
    };
    if !done {
        out.clear();
        joined(request, name, &mut out);
    }
    Some(out)
}

/// Lines joined with `, `, and nothing but that between members.
fn joined(request: &HeaderMap, name: &HeaderName, out: &mut Normal) {
    let mut first = true;
    for line in request.get_all(name) {
        for element in elements(line.as_bytes()) {
            if !first {
                out.extend_from_slice(b", ");
            }
            first = false;
            out.extend_from_slice(element);
        }
    }
}

/// A member of a list with weights: its name in lower case and its weight in thousandths (RFC 9110 s12.4.2).
type Weighted = (SmallVec<[u8; 16]>, u16);

/// A list with weights, sorted, doubles dropped. False when it is not well formed.
fn weighted(request: &HeaderMap, field: &HeaderName, codings: bool, out: &mut Normal) -> bool {
    let mut list: SmallVec<[Weighted; 8]> = SmallVec::new();
    for line in request.get_all(field) {
        for member in members(line.as_bytes()) {
            let Some(entry) = weighted_member(member, codings) else {
                return false;
            };
            list.push(entry);
        }
    }
    if codings && !list.iter().any(|(name, _)| name.as_slice() == b"*") {
        // RFC 9110 s12.5.3: what is not listed is not accepted, so a refusal says nothing, but for identity.
        list.retain(|(name, weight)| *weight > 0 || name.as_slice() == b"identity");
    }
    list.sort();
    list.dedup();
    for (at, (name, weight)) in list.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name);
        write_weight(*weight, out);
    }
    true
}

fn weighted_member(member: &[u8], codings: bool) -> Option<Weighted> {
    let mut parts = member.splitn(2, |b| *b == b';');
    let name = trim_ows(parts.next()?);
    if name.is_empty() || !name.iter().all(|b| is_token_byte(*b)) {
        return None;
    }
    let weight = parts
        .next()
        .map_or(Some(1000), |parameter| weight(trim_ows(parameter)))?;
    let mut name: SmallVec<[u8; 16]> = SmallVec::from_slice(name);
    name.make_ascii_lowercase();
    if codings {
        // RFC 9110 s8.4.1: equivalent names.
        match name.as_slice() {
            b"x-gzip" => name = SmallVec::from_slice(b"gzip"),
            b"x-compress" => name = SmallVec::from_slice(b"compress"),
            _ => {}
        }
    }
    Some((name, weight))
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let (whole, fraction) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    let mut unit = 100;
    for digit in fraction {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    (thousandths <= 1000).then_some(thousandths)
}

fn write_weight(thousandths: u16, out: &mut Normal) {
    if thousandths == 1000 {
        return;
    }
    out.extend_from_slice(b";q=0");
    if thousandths == 0 {
        return;
    }
    out.push(b'.');
    let mut rest = thousandths;
    let mut unit = 100;
    while rest > 0 {
        out.push(b'0' + u8::try_from(rest / unit).unwrap_or(0));
        rest %= unit;
        unit /= 10;
    }
}

#[cfg(test)]
mod tests;
