//! Writes replies to a client that takes them in its own time.

use super::front::{FrontEnd, WRITE_PIECE_BYTES};
use futures_lite::future;
use purlin::{Runtime, Writer};
use std::{io, pin::pin};

/// Writes all of `bytes`, unless the client takes too long. How long that is counts anew for each piece:
/// a client that is slow, and does take its replies, is not dropped.
pub(super) async fn write_within(
    runtime: &impl Runtime,
    front: &FrontEnd,
    writer: &mut impl Writer,
    bytes: &[u8],
) -> io::Result<()> {
    for piece in bytes.chunks(WRITE_PIECE_BYTES) {
        write_piece(runtime, front, writer, piece).await?;
        if piece.len() == WRITE_PIECE_BYTES {
            // A client that takes all at once never lets this task wait.
            runtime.yield_now().await;
        }
    }
    Ok(())
}

async fn write_piece(
    runtime: &impl Runtime,
    front: &FrontEnd,
    writer: &mut impl Writer,
    piece: &[u8],
) -> io::Result<()> {
    let mut write = pin!(writer.write_all(piece));
    // Nearly always there is room in the socket: then no timer is made.
    if let Some(written) = future::poll_once(write.as_mut()).await {
        return written;
    }
    let deadline = async {
        runtime.sleep(front.options().write_deadline).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(write, deadline).await
}
