//! Normal forms of paths and queries (RFC 3986 s6.2.2): case of escapes, unreserved characters decoded, dot segments removed.
//! `%2F`, `//` and a trailing slash stay. The normal form of a normal form is itself, and nothing that was no escape becomes one.

use std::borrow::Cow;
use std::ops::Deref;

/// A path in its normal form: what holds one need not look again.
#[derive(Clone, Debug)]
pub struct NormalPath<'a>(Cow<'a, str>);

impl<'a> NormalPath<'a> {
    /// The normal form of a path.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        Self(normalise_path(path))
    }
}

impl Deref for NormalPath<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// The normal form of a path; borrowed when nothing changes. What cannot stand in a path (RFC 3986 s3.3) becomes an escape.
#[must_use]
pub fn normalise_path(path: &str) -> Cow<'_, str> {
    // In one walk, what most are: nothing to escape or unescape, and no dot.
    let is_plain = |byte: u8| byte != b'.' && PATH_BYTES.get(usize::from(byte)).is_some_and(|stands| *stands);
    if path.bytes().all(is_plain) {
        return Cow::Borrowed(path);
    }
    let path = normalise(path, &PATH_BYTES);
    if !has_dot_segment(&path) {
        return path;
    }
    Cow::Owned(remove_dot_segments(&path))
}

/// The normal form of a query; borrowed when nothing changes. Its ASCII stays: brackets and braces are common in queries, and not
/// every origin takes their escapes for the same.
#[must_use]
pub fn normalise_escapes(text: &str) -> Cow<'_, str> {
    normalise(text, &ASCII_BYTES)
}

/// The bytes that stay, but for the percent sign.
type Standing = [bool; 256];

/// RFC 3986 s3.3.
static PATH_BYTES: Standing = standing(false);
static ASCII_BYTES: Standing = standing(true);

const fn standing(all_ascii: bool) -> Standing {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[allow(
            clippy::indexing_slicing,
            reason = "worked out by the compiler; no byte is above 255"
        )]
        {
            table[byte as usize] = byte != b'%' && (all_ascii || is_path_byte(byte));
        }
        byte += 1;
    }
    table
}

fn normalise<'t>(text: &'t str, standing: &Standing) -> Cow<'t, str> {
    let may_stand = |byte: u8| standing.get(usize::from(byte)).is_some_and(|stands| *stands);
    if text.bytes().all(may_stand) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    // A `%` that begins no escape stays as it is. What is decoded right behind it must not complete it: in "%%32E" that would make
    // "%2E" out of text that means no dot. So the two characters behind such a `%` are not decoded.
    let mut guarded = 0_u8;
    while let [first, after @ ..] = rest {
        if let Some((byte, digits, behind)) = escape(rest) {
            if is_unreserved(byte) && guarded == 0 {
                out.push(byte);
            } else {
                out.push(b'%');
                out.extend_from_slice(&digits);
                guarded = 0;
            }
            rest = behind;
            continue;
        }
        if *first == b'%' {
            guarded = 2;
            out.push(*first);
        } else if may_stand(*first) {
            guarded = guarded.saturating_sub(1);
            out.push(*first);
        } else {
            guarded = 0;
            out.push(b'%');
            out.push(hex_digit(first >> 4));
            out.push(hex_digit(first & 15));
        }
        rest = after;
    }
    match String::from_utf8(out) {
        Ok(normal) if normal == text => Cow::Borrowed(text),
        Ok(normal) => Cow::Owned(normal),
        Err(_) => Cow::Borrowed(text), // what was written is ASCII
    }
}

/// RFC 3986 s3.3 pchar and the slash, but for the percent sign.
const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

/// The escape at the beginning of `bytes`: its byte, its digits in upper case, and what follows.
fn escape(bytes: &[u8]) -> Option<(u8, [u8; 2], &[u8])> {
    let [b'%', high, low, rest @ ..] = bytes else {
        return None;
    };
    let byte = hex_value(*high)? << 4 | hex_value(*low)?;
    Some((byte, [high.to_ascii_uppercase(), low.to_ascii_uppercase()], rest))
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + value - 10 }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn has_dot_segment(path: &str) -> bool {
    path.as_bytes().contains(&b'.')
        && path.starts_with('/')
        && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// RFC 3986 s5.2.4, for an absolute path.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if is_last {
            out.push('/');
        }
    }
    out
}
