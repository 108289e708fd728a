//! Behaviour on the wire, as short scripts: a scripted origin, the proxy, clients, barriers.
#![allow(missing_docs)]
