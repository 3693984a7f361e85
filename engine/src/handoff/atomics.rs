//! The atomics of `handoff.rs`. The model replaces them by loom's.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
