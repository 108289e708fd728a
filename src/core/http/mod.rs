//! HTTP semantics as pure functions over parsed values: RFC 9110, 9111 and their family. No policy is read here except where a
//! rule is a route's choice.

pub mod cache_status;
pub mod dates;
pub mod directives;
pub mod etag;
pub mod fields;
pub mod freshness;
pub mod grpc;
pub mod hop;
pub mod invalidate;
pub mod line;
pub mod part;
pub mod prefer;
pub mod private;
pub mod range;
pub mod storable;
pub mod stored;
pub mod strong;
mod structured;
mod syntax;
pub mod tags;
mod targeted;
pub mod validate;
pub mod vary;

pub(crate) use syntax::trim_ows;

#[cfg(test)]
pub(crate) mod testing;
