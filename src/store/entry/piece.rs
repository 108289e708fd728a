//! One piece of memory for all of an entry: what every one has, and behind it as many bytes as this one needs. A hit that finds it in no
//! cache waits for one place instead of several, and the lines next to it come along.
//!
//! Pieces have the sizes that the allocator hands out, so that nothing is lost between them: but for what it adds to be sure of where they
//! begin, whatever that turns out to be (mimalloc 3, where a size is no power of two).

use super::{Entry, Fixed};
use std::sync::Arc;

/// The largest piece. What has more in it has that elsewhere, where one allocation more is little beside what it holds.
const LARGEST: usize = 4096;

/// Beside it is counted who has a piece; and what the allocator adds, as a whole word.
const BESIDE: usize = 3 * size_of::<usize>();

/// How many bytes of an entry's own a piece has room for at most.
pub(super) const MOST: usize = room(LARGEST);

const fn room(size: usize) -> usize {
    size.saturating_sub(BESIDE + size_of::<Entry<[u8; 0]>>())
}

/// An entry with these bytes, at most [`MOST`], in the least piece that has room for them.
pub(super) fn entry(fixed: Fixed, parts: &[&[u8]]) -> Arc<Entry> {
    let wanted: usize = parts.iter().map(|part| part.len()).sum();
    macro_rules! of_one_of {
        ($($size:literal)*) => {
            $(
                if wanted <= room($size) {
                    return sized::<{ room($size) }>(fixed, parts);
                }
            )*
        };
    }
    of_one_of!(192 224 256 320 384 448 512 640 768 896 1024 1280 1536 1792 2048 2560 3072 3584);
    sized::<MOST>(fixed, parts)
}

fn sized<const ROOM: usize>(fixed: Fixed, parts: &[&[u8]]) -> Arc<Entry> {
    let mut bytes = [0; ROOM];
    let mut rest = bytes.as_mut_slice();
    for part in parts {
        if let Some((place, after)) = rest.split_at_mut_checked(part.len()) {
            place.copy_from_slice(part);
            rest = after;
        } else {
            break;
        }
    }
    Arc::new(Entry { fixed, bytes })
}

/// The memory of an entry's own piece.
pub(super) fn size(entry: &Entry) -> usize {
    BESIDE + size_of_val(entry)
}

/// What an allocator with four sizes from one power of two to the next, as ours is, hands out for so many bytes.
pub(super) fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}
