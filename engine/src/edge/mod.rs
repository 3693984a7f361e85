//! The edge of a shard: the ways by which requests come to it, wait, leave for elsewhere, and end.

pub(crate) mod client;
pub(crate) mod desk;
pub(crate) mod lane;
pub(crate) mod local;
pub(crate) mod request;

pub(crate) mod away;
pub(crate) mod requests;
pub(crate) mod ticket;
