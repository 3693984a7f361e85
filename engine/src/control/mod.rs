//! A shard as its operators see it.

pub(crate) mod histogram;
pub(crate) mod status;
