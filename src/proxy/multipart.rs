//! Several ranges of a stored body in one answer (RFC 9110 s14.6, s15.3.7.2). The parts are slices of the stored bytes and their heads
//! slices of one text, so an answer costs its heads, never the object.

use super::body::Body;
use super::hit;
use crate::core::http::range::{self, Cut};
use crate::core::key::KeySecret;
use crate::store::EntryRef;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use std::collections::VecDeque;

/// Whether a client could read the parts: a content coding would be said of the multipart body, and that is not coded.
pub(super) fn can_be_cut(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_ENCODING)
}

/// A 206 with these parts of the entry's body, in this order.
pub(super) fn answer(entry: &EntryRef, cuts: &[Cut]) -> Response<Body> {
    let whole = &entry.body();
    let (boundary, headers) = (boundary(entry), entry.headers());
    let (text, ends) = heads(&boundary, headers.get(CONTENT_TYPE), cuts, whole.len() as u64);
    let mut pieces: VecDeque<Bytes> = VecDeque::with_capacity(2 * cuts.len() + 1);
    let mut start = 0;
    for (cut, end) in cuts.iter().zip(&ends) {
        pieces.push_back(text.slice(start..*end));
        pieces.push_back(hit::slice(whole, *cut));
        start = *end;
    }
    pieces.push_back(text.slice(start..));
    let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut response = Response::new(Body::pieces(pieces, length));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.headers_mut() = headers;
    let fields = response.headers_mut();
    range::drop_content_digests(fields);
    let of_parts = HeaderValue::from_str(&format!("multipart/byteranges; boundary={boundary}"));
    let of_parts = of_parts.unwrap_or_else(|_| HeaderValue::from_static("multipart/byteranges"));
    fields.insert(CONTENT_TYPE, of_parts);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    fields.remove(CONTENT_RANGE); // RFC 9110 s15.3.7.2: it stands in the parts
    response
}

/// The heads of all parts and the closing line, in one text, and where each head ends.
fn heads(boundary: &str, content_type: Option<&HeaderValue>, cuts: &[Cut], length: u64) -> (Bytes, Vec<usize>) {
    let mut text: Vec<u8> = Vec::with_capacity(160 * (cuts.len() + 1));
    let mut ends = Vec::with_capacity(cuts.len());
    let mut open: &[u8] = b"--";
    for cut in cuts {
        text.extend_from_slice(open);
        text.extend_from_slice(boundary.as_bytes());
        if let Some(content_type) = content_type {
            text.extend_from_slice(b"\r\nContent-Type: ");
            text.extend_from_slice(content_type.as_bytes());
        }
        text.extend_from_slice(b"\r\nContent-Range: ");
        text.extend_from_slice(range::content_range_text(*cut, length).as_bytes());
        text.extend_from_slice(b"\r\n\r\n");
        ends.push(text.len());
        open = b"\r\n--";
    }
    text.extend_from_slice(open);
    text.extend_from_slice(boundary.as_bytes());
    text.extend_from_slice(b"--\r\n");
    (Bytes::from(text), ends)
}

/// A line that no part holds: the key's digest is a secret of this process, and the instant another for every body that is stored,
/// so that who writes a body cannot know what will separate its parts.
fn boundary(entry: &EntryRef) -> String {
    let digest = entry.key_digest();
    let halves = [digest >> 64, digest & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default());
    let [high, low] = halves;
    let made = KeySecret(high, low).digest(&entry.facts().sent.as_micros().to_be_bytes());
    format!("{:032x}", made.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rfc9110_s15_3_7_2_heads_stand_before_each_part_and_a_closing_line_behind_the_last() {
        let cuts = [Cut { start: 0, end: 2 }, Cut { start: 100, end: 150 }];
        let (text, ends) = heads("b", Some(&HeaderValue::from_static("text/plain")), &cuts, 150);
        let parts: Vec<&str> = [(0, ends[0]), (ends[0], ends[1]), (ends[1], text.len())]
            .into_iter()
            .map(|(from, to)| std::str::from_utf8(text.get(from..to).unwrap()).unwrap())
            .collect();
        assert_eq!(
            parts,
            [
                "--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/150\r\n\r\n",
                "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 100-149/150\r\n\r\n",
                "\r\n--b--\r\n",
            ]
        );
        let (text, _) = heads("b", None, &cuts, 150);
        assert!(text.starts_with(b"--b\r\nContent-Range: bytes 0-1/150\r\n\r\n"));
    }
}
