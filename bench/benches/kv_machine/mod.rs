//! A key-value machine of one group, and SETs of 16 bytes over its 100,000 keys.

use bytes::Bytes;
use purlin_kv::{KvCommand, KvMachine, SetCondition};
use purlin_rsm::{
    ApplyContext, ClusterId, Command, EntryId, GroupEpoch, GroupId, Position, StateMachine,
};

/// How many keys there are.
pub(crate) const KEYS: u64 = 100_000;
const GROUP: GroupId = GroupId(1);

/// A machine without keys.
pub(crate) fn machine() -> KvMachine {
    KvMachine::new(ClusterId(1), GROUP)
}

/// SET of the key with this number.
pub(crate) fn command(number: u64) -> Command {
    let key = format!("key:{number:012}");
    let set = KvCommand::Set {
        key: key.as_bytes(),
        value: b"0123456789abcdef",
        condition: SetCondition::Always,
        get: false,
    };
    Command { id: EntryId::default(), position: Position::default(), data: set.encode() }
}

/// Applies commands; the list of outcomes is used again.
pub(crate) fn apply(machine: &mut KvMachine, commands: &[Command], outcomes: &mut Vec<Bytes>) {
    let context = ApplyContext { group: GROUP, epoch: GroupEpoch::FIRST };
    outcomes.clear();
    machine.apply(&context, commands, outcomes);
}
