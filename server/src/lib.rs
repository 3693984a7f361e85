//! server.
pub mod resp;
