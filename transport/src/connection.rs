//! What both ends of a connection share: the ways in which it ends, and the two frames of its
//! handshake.

use crate::{
    cancel::Cancelled,
    codec::Malformed,
    frame::{self, Decoder, Frame, Kind},
    net::{Reader, Writer},
    refusal::Refusal,
};
use purlin_rsm::Sequence;
use std::{fmt, io};

/// Why a connection ended, or could not be made.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The network reported an error.
    Io(io::Error),
    /// The other side closed it.
    Closed,
    /// The other side broke the protocol.
    Malformed(Malformed),
    /// The handshake was refused.
    Refused { refusal: Refusal, by_them: bool },
    /// The other side took too long.
    Late,
    /// We dropped the connection.
    Dropped,
    /// Its handshake was not finished when a newer connection wanted its place.
    Crowded,
    /// The address is not known or not valid.
    Nowhere(&'static str),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Cancelled> for Ended {
    fn from(cancelled: Cancelled) -> Self {
        match cancelled {
            Cancelled::Late => Self::Late,
            Cancelled::Dropped => Self::Dropped,
            Cancelled::Crowded => Self::Crowded,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Malformed(malformed) => write!(f, "the peer sent {malformed}"),
            Self::Refused { refusal, by_them: true } => {
                write!(f, "the peer refuses this node: {refusal}")
            }
            Self::Refused { refusal, by_them: false } => {
                write!(f, "this node refuses the peer: {refusal}")
            }
            Self::Late => f.write_str("the peer neither sent nor read anything for too long"),
            Self::Dropped => f.write_str("no longer needed"),
            Self::Crowded => f.write_str(
                "its handshake was not finished when a newer connection wanted its place",
            ),
            Self::Nowhere(what) => f.write_str(what),
        }
    }
}

/// Reads until a frame is complete.
pub(crate) async fn read_frame(
    reader: &mut impl Reader,
    decoder: &mut Decoder,
) -> Result<Frame, Ended> {
    loop {
        if let Some(frame) = decoder.next()? {
            return Ok(frame);
        }
        let count = reader.read(decoder.space()).await?;
        if count == 0 {
            return Err(Ended::Closed);
        }
        decoder.filled(count);
    }
}

/// Writes one frame.
pub(crate) async fn write_frame(
    writer: &mut impl Writer,
    kind: Kind,
    durable: Sequence,
    encode: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Ended> {
    let mut bytes = Vec::new();
    let start = frame::open(&mut bytes);
    encode(&mut bytes);
    frame::close(&mut bytes, start, kind, durable);
    Ok(writer.write_all(&bytes).await?)
}

/// Refuses a frame of another kind.
pub(crate) fn expect(frame: &Frame, kind: Kind) -> Result<(), Malformed> {
    crate::codec::ensure(frame.kind == kind, "a frame of a kind that does not belong here")
}
