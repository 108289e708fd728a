//! Text to runtime types. `file` mirrors the text, `compile` gathers every error and warning at once, `runtime` is what the proxy reads.

pub mod runtime;
