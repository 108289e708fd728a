//! A node's body on its way to those who read it, and whole to the store. It judges nothing: whether the whole may be stored, and how long
//! it had to be, is its caller's to know. A body that breaks off breaks off for everybody.

use super::parts::Around;
use crate::core::reason::NotStored;
use crate::store::fill::{FillWriter, Pushed};
use crate::upstream::NodeBody;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use std::time::Duration;

/// Moves a body from a node to its readers, between the stored bytes it belongs to. Returns it whole when it can be stored.
pub(super) async fn carry(
    mut body: NodeBody,
    writer: FillWriter,
    stall: Duration,
    around: Option<Around>,
) -> Result<bytes::Bytes, NotStored> {
    let (before, mut left, after) = match around {
        Some(around) => (around.before, Some(around.size), around.after),
        None => (bytes::Bytes::new(), None, bytes::Bytes::new()),
    };
    push(&writer, before).await?;
    loop {
        match tokio::time::timeout(stall, body.frame()).await {
            Err(_) | Ok(Some(Err(_))) => return Err(NotStored::Incomplete), // the writer's drop tells the readers
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else { continue };
                if let Some(left) = &mut left {
                    // More than the piece: what follows would come out of its place.
                    *left = left.checked_sub(chunk.len() as u64).ok_or(NotStored::Incomplete)?;
                }
                push(&writer, chunk).await?;
            }
        }
    }
    if left.is_some_and(|left| left > 0) {
        return Err(NotStored::Incomplete);
    }
    push(&writer, after).await?;
    writer.finish()
}

async fn push(writer: &FillWriter, chunk: bytes::Bytes) -> Result<(), NotStored> {
    match writer.push(chunk).await {
        Pushed::Kept | Pushed::Passing(_) => Ok(()),
        Pushed::Abandoned(why) => Err(why),
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
