//! Configuration as a user meets it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod defaults;
mod support;
