//! What a read must see: each query of a client at a shard carries how much of its group clients knew to be
//! done when it was asked. The machine that answers it must have applied as much (safety R1), whichever
//! keys that concerned: a read that is old shows even where the key that it asks for has not changed.

use bytes::Bytes;
use purlin::Index;

/// No machine's query begins like this.
const MARK: [u8; 8] = *b"\x00\xf1oor\xffis";
const LEN: usize = MARK.len() + size_of::<u64>();

/// `query`, marked so that only a machine that has applied all up to `floor` may answer it.
pub(super) fn marked(floor: Index, query: &[u8]) -> Bytes {
    [&MARK, &floor.0.to_le_bytes()[..], query].concat().into()
}

/// The floor of a query, and the query as the machine takes it. Queries of front ends, and those of probes,
/// have none.
pub(super) fn unmarked(query: &[u8]) -> (Index, &[u8]) {
    let Some((head, rest)) = query.split_at_checked(LEN).filter(|it| it.0.starts_with(&MARK))
    else {
        return (Index(0), query);
    };
    let floor = head[MARK.len()..].try_into().expect("it is so long");
    (Index(u64::from_le_bytes(floor)), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_again() {
        assert_eq!(unmarked(&marked(Index(7), b"get k")), (Index(7), &b"get k"[..]));
        assert_eq!(unmarked(b"get k"), (Index(0), &b"get k"[..]));
        assert_eq!(
            unmarked(b"a longer one than the mark"),
            (Index(0), &b"a longer one than the mark"[..])
        );
    }
}
