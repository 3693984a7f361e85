//! A node: the identity of its data directory, how its shards are opened, and the host that runs them.

pub(crate) mod host;
pub(crate) mod setup;

pub(crate) mod listening;

pub(crate) mod identity;
pub(crate) mod meeting;

pub(crate) mod board;
