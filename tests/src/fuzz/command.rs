//! Commands and queries of the key-value machine, as the log and the peers hold them.

use super::cost::bounded;
use bytes::Bytes;
use purlin_kv::{KvCommand, KvMachine, KvOutcome, KvQuery};
use purlin_rsm::{
    ApplyContext, ClusterId, Command, EntryId, GroupEpoch, GroupId, Position, StateMachine,
};

const CONTEXT: ApplyContext = ApplyContext { group: GroupId(1), epoch: GroupEpoch::FIRST };

/// The input is a row of commands and queries, each behind a byte with its length. Each has one encoding, is
/// answered with an outcome, and is answered alike by two replicas.
pub fn command(data: &[u8]) {
    let machine = || KvMachine::new(ClusterId(1), CONTEXT.group);
    let (mut one, mut other) = (machine(), machine());
    let mut rest = data;
    while let Some((&len, behind)) = rest.split_first() {
        let (item, behind) = behind.split_at(behind.len().min(usize::from(len)));
        rest = behind;
        one_encoding(item);
        let before = one.digest();
        let answers = [&mut one, &mut other].map(|machine| machine.query(item));
        assert_eq!(one.digest(), before, "a query changed the machine");
        let outcomes = [apply(&mut one, item), apply(&mut other, item)];
        for [first, second] in [answers, outcomes] {
            assert_eq!(first, second, "two replicas answer {}", item.escape_ascii());
            let outcome = KvOutcome::decode(&first).expect("an outcome");
            assert_eq!(outcome.encode(), first, "an outcome has one encoding");
        }
        assert_eq!(one.digest(), other.digest());
    }
    assert_eq!(one, other);
}

fn one_encoding(item: &[u8]) {
    // Decoding borrows: it allocates nothing.
    bounded(item.len(), 0, 0, || {
        let _ = (KvCommand::decode(item), KvQuery::decode(item), KvOutcome::decode(item));
    });
    if let Ok(command) = KvCommand::decode(item) {
        assert_eq!(&command.encode()[..], item, "{command:?}");
    }
    if let Ok(query) = KvQuery::decode(item) {
        assert_eq!(&query.encode()[..], item, "{query:?}");
    }
    if let Ok(outcome) = KvOutcome::decode(item) {
        assert_eq!(&outcome.encode()[..], item, "{outcome:?}");
    }
}

fn apply(machine: &mut KvMachine, item: &[u8]) -> Bytes {
    let data = Bytes::copy_from_slice(item);
    let command = Command { id: EntryId::default(), position: Position::default(), data };
    let mut outcomes = Vec::with_capacity(1);
    machine.apply(&CONTEXT, &[command], &mut outcomes);
    assert_eq!(outcomes.len(), 1, "one outcome for each command");
    outcomes.remove(0)
}
