//! How an owner of state says what is always true of it.
//!
//! `check` costs a few comparisons and runs after every step, in release builds too. `check_deeply` walks through
//! whole collections and runs where debug assertions are on, and in the simulator. Both name the first invariant
//! that does not hold, with its values. `invariants.rs` calls them.

/// Nothing is wrong, or the owner, the broken invariant and its values.
pub(super) type Checked = Result<(), String>;

/// Names an invariant that does not hold.
macro_rules! ensure {
    ($holds:expr, $($violation:tt)+) => {
        if !$holds {
            return Err(format!($($violation)+));
        }
    };
}

pub(super) use ensure;
