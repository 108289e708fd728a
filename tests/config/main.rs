//! Configuration as a user meets it.
#![allow(missing_docs)]
