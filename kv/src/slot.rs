//! The hash slot of a key, as Redis Cluster has it.

/// How many hash slots there are.
pub const SLOTS: u16 = 16_384;

/// The hash slot of `key`: that of its tag, if it has one.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What stands between the first `{` and the first `}` behind it, unless that is nothing: keys with
/// the same tag lie in the same slot. Else the whole key.
fn tag(key: &[u8]) -> &[u8] {
    let find = |bytes: &[u8], byte| bytes.iter().position(|&other| other == byte);
    let Some(open) = find(key, b'{') else { return key };
    let behind = &key[open + 1..];
    match find(behind, b'}') {
        None | Some(0) => key,
        Some(close) => &behind[..close],
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // From `CLUSTER KEYSLOT`.
        assert_eq!(slot_of(b"somekey"), 11_058);
        assert_eq!(slot_of(b"foo{hash_tag}"), 2_515);
        assert_eq!(slot_of(b"bar{hash_tag}"), 2_515);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn only_the_first_tag_counts_and_an_empty_one_does_not() {
        assert_eq!(tag(b"{user}.a"), b"user");
        assert_eq!(tag(b"a{b}{c}"), b"b");
        assert_eq!(tag(b"a{{b}}"), b"{b");
        for whole in [&b"a{}{b}"[..], b"a{b", b"a}b{", b"{}"] {
            assert_eq!(tag(whole), whole);
        }
    }
}
