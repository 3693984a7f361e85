//! Binding a port that a process which has just ended may still hold.

use std::{io, time::Duration};

/// How often a port that is in use is tried.
const TRIES: u32 = 60;
/// The pause after each of these tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds a port by `bind`. A process that was killed a moment ago may hold the port still, until the kernel
/// has ended what the process had under way: a port in use is tried 60 times, 50 ms apart. `pause` waits for
/// the given time, and says whether to go on; nothing is bound when it says no.
///
/// # Errors
/// The last error of `bind`.
pub async fn bind_patiently<T>(
    mut bind: impl AsyncFnMut() -> io::Result<T>,
    mut pause: impl AsyncFnMut(Duration) -> bool,
) -> io::Result<Option<T>> {
    for _ in 1..TRIES {
        match bind().await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !pause(PAUSE).await {
                    return Ok(None);
                }
            }
            bound => return bound.map(Some),
        }
    }
    bind().await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    /// What comes of a port that is in use for so many tries, and the tries, when `pauses` pauses are made.
    fn bound(in_use: u32, error: io::ErrorKind, pauses: u32) -> (Option<Option<u32>>, u32) {
        let (mut tries, mut paused) = (0, 0);
        let bind = async || {
            tries += 1;
            if tries > in_use { Ok(tries) } else { Err(error.into()) }
        };
        let pause = async |_| {
            paused += 1;
            paused <= pauses
        };
        (block_on(bind_patiently(bind, pause)).ok(), tries)
    }

    #[test]
    fn a_port_in_use_is_tried_again_up_to_a_bound() {
        use io::ErrorKind::{AddrInUse, PermissionDenied};
        assert_eq!(bound(0, AddrInUse, TRIES), (Some(Some(1)), 1));
        assert_eq!(bound(TRIES - 1, AddrInUse, TRIES), (Some(Some(TRIES)), TRIES));
        assert_eq!(bound(TRIES, AddrInUse, TRIES), (None, TRIES), "it is in use");
        assert_eq!(bound(1, PermissionDenied, TRIES), (None, 1), "it will not get better");
        assert_eq!(bound(9, AddrInUse, 3), (Some(None), 4), "nobody wants it any more");
    }
}
