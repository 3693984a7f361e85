//! Numbers of few bytes, and byte strings behind their length, to bytes and back.
//!
//! A varint has 7 bits a byte, the lowest first; the top bit says that another byte follows. Reading never
//! panics and allocates nothing.

/// Bytes that mean nothing, and which rule they break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

/// The most bytes of a varint.
pub(crate) const VARINT_BYTES_MAX: usize = 10;
/// The bytes end before what they hold does.
pub(crate) const CUT: Malformed = Malformed("bytes that end too early");

/// Appends a number of 1 to 10 bytes.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`put_varint`] appends.
#[inline]
pub(crate) fn varint_bytes(number: u64) -> usize {
    // A number takes one byte for each 7 bits that it has, and zero takes one too.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Takes what [`put_varint`] has written.
///
/// # Errors
/// The bytes end inside the number, or it has more than 64 bits.
#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    // Most numbers are small.
    if let [byte @ ..0x80, after @ ..] = *rest {
        *rest = after;
        return Ok(u64::from(*byte));
    }
    take_long_varint(rest)
}

fn take_long_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for at in 0..VARINT_BYTES_MAX {
        let byte = *rest.split_off_first().ok_or(CUT)?;
        let bits = u64::from(byte & 0x7f);
        if at == VARINT_BYTES_MAX - 1 && bits > 1 {
            return Err(Malformed("a number over 64 bits"));
        }
        number |= bits << (7 * at);
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed("a number of more than ten bytes"))
}

/// Appends bytes behind their length.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes bytes behind their length.
#[inline]
pub(crate) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(take_varint(rest)?).map_err(|_| CUT)?;
    rest.split_off(..length).ok_or(CUT)
}
