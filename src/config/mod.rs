//! Text to runtime types. A file is parsed into a spanned tree, [`catalogue`] (every key there is) turns the tree into
//! [`effective`] values with defaults and origins, `compile` gives them their meaning, and [`runtime`] is what the proxy reads.
//! Every stage gathers its errors instead of stopping: `check` reports all mistakes of a file at once.

pub mod catalogue;
mod compile;
pub mod diagnostic;
pub mod diff;
pub mod effective;
pub mod load;
pub mod pattern;
pub mod print;
pub mod runtime;
pub mod schema;
mod shape;
mod substitute;
mod syntax;
pub mod tls;
pub mod units;
mod validity;

pub use load::Loaded;
