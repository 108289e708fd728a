//! A look at the frames that a node sends (RFC 9113 s4.1), beside the one that the h2 crate takes: it does not tell up to which stream a
//! node that leaves has taken requests, nor whether an answer had ended before its stream was reset. Payloads are skipped.
//!
//! It judges nothing: a connection on which the frames do not follow the rules is ended by the h2 crate.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A frame's head.
const HEAD: usize = 9;
/// How many ends are remembered: a node resets a stream right behind its end, so few others lie in between.
const ENDS: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// A GOAWAY's payload has no less.
const GOAWAY_LEAST: usize = 8;
/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
/// Without the reserved bit.
const STREAM: u32 = u32::MAX >> 1;

/// What the frames have said.
#[derive(Debug)]
pub(super) struct Said {
    /// The node's settings have come: it speaks HTTP/2 (RFC 9113 s3.4).
    settled: AtomicBool,
    /// What came first is no settings: it does not.
    strange: AtomicBool,
    /// That it was a line of HTTP/1.x.
    http1: AtomicBool,
    /// The last stream that the node has processed or may process yet; the largest there can be until it says so.
    last: AtomicU32,
    /// The node leaves.
    leaves: AtomicBool,
    /// Something came that is not a PING: the node works.
    works: AtomicBool,
    /// Streams whose answer has ended, the latest ones.
    ends: Mutex<VecDeque<u32>>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            settled: AtomicBool::new(false),
            strange: AtomicBool::new(false),
            http1: AtomicBool::new(false),
            last: AtomicU32::new(STREAM),
            leaves: AtomicBool::new(false),
            works: AtomicBool::new(false),
            ends: Mutex::default(),
        }
    }
}

impl Said {
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Why this is not HTTP/2; none as long as it may be.
    pub(super) fn strange(&self) -> Option<&'static str> {
        if !self.strange.load(Ordering::Acquire) {
            return None;
        }
        Some(if self.http1.load(Ordering::Acquire) {
            "the node does not speak HTTP/2 by prior knowledge: it answered in HTTP/1.x (set http = \"1.1\")"
        } else {
            "the node does not speak HTTP/2: what it sent first is no SETTINGS frame"
        })
    }

    pub(super) fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Acquire)
    }

    /// Whether the node has said that it never looked at this stream and never will (RFC 9113 s6.8).
    pub(super) fn never_saw(&self, stream: u32) -> bool {
        stream > self.last.load(Ordering::Acquire)
    }

    /// Whether a stream's answer had ended, as far as is remembered.
    pub(super) fn had_ended(&self, stream: u32) -> bool {
        self.ends.lock().contains(&stream)
    }

    /// Whether anything but a PING has come since this was last asked.
    pub(super) fn has_worked(&self) -> bool {
        self.works.swap(false, Ordering::AcqRel)
    }
}

/// Follows the frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// How much of the head is there.
    have: usize,
    /// What is left of the payload.
    rest: usize,
    /// The first bytes of a GOAWAY's payload.
    last: Option<(u32, u8)>,
    /// The first head has been looked at.
    begun: bool,
}

impl Frames {
    pub(super) fn read(&mut self, mut bytes: &[u8], said: &Said) {
        while let Some((first, others)) = bytes.split_first() {
            if self.have < HEAD {
                if let Some(place) = self.head.get_mut(self.have) {
                    *place = *first;
                }
                self.have += 1;
                bytes = others;
                if self.have == HEAD {
                    self.began(said);
                }
                continue;
            }
            if let Some((last, have)) = &mut self.last
                && *have < 4
            {
                *last = *last << 8 | u32::from(*first);
                *have += 1;
                if *have == 4 {
                    said.last.fetch_min(*last & STREAM, Ordering::AcqRel);
                    said.leaves.store(true, Ordering::Release);
                }
                self.rest -= 1;
                bytes = others;
            } else {
                let skip = self.rest.min(bytes.len());
                self.rest -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
            }
            self.next();
        }
    }

    /// A frame's head is there.
    fn began(&mut self, said: &Said) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let stream = u32::from_be_bytes(stream) & STREAM;
        if !self.begun {
            self.begun = true;
            if kind == SETTINGS && flags & 1 == 0 && stream == 0 {
                said.settled.store(true, Ordering::Release);
            } else {
                said.http1.store(self.head.starts_with(b"HTTP/1."), Ordering::Release);
                said.strange.store(true, Ordering::Release);
            }
        }
        if kind != PING {
            said.works.store(true, Ordering::Release);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let mut ends = said.ends.lock();
            if ends.len() >= ENDS {
                ends.pop_front();
            }
            ends.push_back(stream);
        }
        // What is none by RFC 9113 s6.8 is evidence of nothing (R20).
        self.last = (kind == GOAWAY && stream == 0 && self.rest >= GOAWAY_LEAST).then_some((0, 0));
        self.next();
    }

    /// The next head is looked for when the payload has passed.
    fn next(&mut self) {
        if self.rest == 0 && self.have == HEAD {
            (self.have, self.last) = (0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// In pieces of every size.
    fn said(frames: &[Vec<u8>], check: impl Fn(&Said)) {
        let all = frames.concat();
        for size in 1..=all.len() {
            let (mut reader, said) = (Frames::default(), Said::default());
            for piece in all.chunks(size) {
                reader.read(piece, &said);
            }
            check(&said);
        }
    }

    #[test]
    fn the_last_stream_is_read_wherever_the_bytes_are_cut() {
        let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
        let settings = frame(SETTINGS, 0, 0, &[0; 12]);
        let data = frame(DATA, 0, 3, &[GOAWAY; 40]);
        said(&[settings.clone(), data.clone()], |said| {
            assert!(said.is_settled() && !said.leaves() && !said.never_saw(u32::MAX >> 1));
        });
        said(&[settings.clone(), goaway(u32::MAX), data.clone()], |said| {
            assert!(
                said.leaves() && !said.never_saw(7),
                "RFC 9113 s6.8: the first of a graceful pair"
            );
        });
        said(&[settings, goaway(u32::MAX >> 1), goaway(5), data], |said| {
            assert!(said.never_saw(7) && !said.never_saw(5) && !said.never_saw(3));
        });
    }

    #[test]
    fn what_only_looks_like_goaway_is_evidence_of_nothing() {
        let settings = frame(SETTINGS, 0, 0, &[]);
        let data = frame(DATA, 8, 1, &[&[3], &[GOAWAY; 9][..], &[0; 3]].concat()); // padded
        let fields = [frame(HEADERS, 0, 1, &[GOAWAY; 20]), frame(9, 4, 1, &[GOAWAY; 30])].concat();
        for (name, bytes) in [
            ("on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
            ("cut short", frame(GOAWAY, 0, 0, &[0; 7])),
            ("empty", frame(GOAWAY, 0, 0, &[])),
            ("inside padded DATA", data),
            ("inside HEADERS and CONTINUATION", fields),
            ("inside a frame nobody knows", frame(0xbb, 0xff, 0, &[GOAWAY; 50])),
        ] {
            said(&[settings.clone(), bytes], |said| {
                assert!(!said.leaves() && !said.never_saw(STREAM), "{name}");
            });
        }
        // And what comes behind is read.
        let unknown = frame(0xbb, 0xff, 0, &[GOAWAY; 50]);
        said(
            &[settings, unknown, frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'x'])],
            |said| {
                assert!(said.leaves() && said.never_saw(3) && !said.never_saw(1));
            },
        );
    }

    #[test]
    fn who_does_not_begin_with_settings_does_not_speak_it() {
        said(&[b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], |said| {
            assert!(said.strange().is_some_and(|why| why.contains("HTTP/1.x")));
            assert!(!said.is_settled());
        });
        said(&[b"220 mail.example ESMTP\r\n".to_vec()], |said| {
            assert!(said.strange().is_some_and(|why| !why.contains("HTTP/1.x")));
        });
        said(&[frame(SETTINGS, 1, 0, b"")], |said| assert!(said.strange().is_some()));
    }

    #[test]
    fn ends_are_remembered_and_pings_are_no_work() {
        let settings = frame(SETTINGS, 0, 0, b"");
        let (mut reader, seen) = (Frames::default(), Said::default());
        reader.read(&settings, &seen);
        assert!(seen.has_worked());
        reader.read(&frame(PING, 1, 0, &[0; 8]), &seen);
        assert!(!seen.has_worked());
        reader.read(&frame(HEADERS, 4, 1, b"x"), &seen);
        assert!(!seen.had_ended(1));
        reader.read(&frame(DATA, END_STREAM, 1, b""), &seen);
        assert!(seen.had_ended(1) && seen.has_worked());
        for stream in 0..64 {
            reader.read(&frame(DATA, END_STREAM, 3 + 2 * stream, b""), &seen);
        }
        assert!(!seen.had_ended(1) && seen.had_ended(3));
    }
}
