//! The hash against published vectors and its golden file, and what one group's hashes say of another's.

use super::super::Store;
use super::*;
use std::{fmt::Write, path::Path};

/// The hashes of the bytes 0, 1, 2, ... under the key 0, 1, ..., 15: of no byte, of one, and so on. They are those of the
/// standard library of Rust (`test_siphash_1_3` in `library/coretests/tests/hash/sip.rs`).
const VECTORS: [u64; 18] = [
    0xabac_0158_050f_c4dc,
    0xc9f4_9bf3_7d57_ca93,
    0x82cb_9b02_4dc7_d44d,
    0x8bf8_0ab8_e7dd_f7fb,
    0xcf75_5760_88d3_8328,
    0xdef9_d52f_4953_3b67,
    0xc50d_2b50_c59f_22a7,
    0xd392_7d98_9bb1_1140,
    0x3690_9511_8d29_9a8e,
    0x25a4_8eb3_6c06_3de4,
    0x79de_85ee_92ff_097f,
    0x70c1_18c1_f94d_c352,
    0x78a3_84b1_57b4_d9a2,
    0x306f_760c_1229_ffa7,
    0x605a_a111_c0f9_5d34,
    0xd320_d86d_2a51_9956,
    0xcc4f_dd1a_7d90_8b66,
    0x9cf2_6890_63db_d80c,
];

const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

#[test]
fn siphash_gives_the_published_numbers() {
    let bytes: Vec<u8> = (0..64).collect();
    let hashes: Vec<_> = (0..VECTORS.len()).map(|len| sip::<1, 3>(KEY, &bytes[..len])).collect();
    assert_eq!(hashes, VECTORS);
    assert_eq!(sip::<1, 3>(KEY, &bytes[..63]), 0x9d19_9062_b7bb_b3a8);
    // The example in the paper, with two rounds for a word and four at the end.
    assert_eq!(sip::<2, 4>(KEY, &bytes[..15]), 0xa129_ca61_49be_45e5);
}

/// Of some groups the hashes of some keys, then the order of a walk over a small store.
fn generated() -> String {
    let clusters = [0, 1, 1 << 64, 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff];
    let long = "long".repeat(100);
    let keys = ["", "a", "key:000000000001", "{tag}a", "{tag}b", &long];
    let mut text = String::from("# cluster id, group, hash, key\n");
    for cluster in clusters.map(ClusterId) {
        for group in [0, 1, 47, 0x0102_0304].map(GroupId) {
            let hash_key = HashKey::new(cluster, group);
            for key in keys {
                let hash = hash_key.hash(key.as_bytes());
                writeln!(text, "{cluster} {group} {hash:016x} {key:?}").unwrap();
            }
        }
    }
    text + "# the order of a walk: hash, key, value; cluster 1, group 1\n" + &walked()
}

fn walked() -> String {
    let mut store = Store::new(ClusterId(1), GroupId(1));
    for number in 0..40 {
        store.set(format!("key:{number}").as_bytes(), format!("{number}").as_bytes());
        store.set(format!("{{tag}}{number}").as_bytes(), b"");
    }
    // Keys of one hash stand in the order of their bytes.
    ["c", "", "b", "a"].iter().for_each(|key| store.set_at(7, key.as_bytes(), b"of hash 7"));
    let mut text = String::new();
    for record in store.records_from((0, b"")) {
        let [key, value] = [record.key(), record.value()].map(String::from_utf8_lossy);
        writeln!(text, "{:016x} {key:?} {value:?}", record.hash()).unwrap();
    }
    text
}

/// `PURLIN_BLESS=1` writes the file anew, for a change of the format that is meant.
#[test]
fn hashes_and_the_order_of_a_walk_are_frozen() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hashes.txt");
    if std::env::var_os("PURLIN_BLESS").is_some() {
        std::fs::write(&path, generated()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(golden, generated(), "snapshots of earlier versions have another order");
}

/// Which of 256 equal parts of the hashes of one slot a hash lies in.
fn part(hash: u64) -> usize {
    (hash >> (SLOT_SHIFT - 8)) as usize & 0xff
}

#[test]
fn keys_that_are_chosen_to_collide_in_one_group_are_spread_in_another() {
    const CHOSEN: usize = 1_000;
    let [one, other, elsewhere] = [(1, 1), (1, 2), (2, 1)]
        .map(|(cluster, group)| HashKey::new(ClusterId(cluster), GroupId(group)));
    let keys = (0_u64..).map(|number| format!("{{slot}}{number}").into_bytes());
    let chosen: Vec<_> = keys.filter(|key| part(one.hash(key)) == 0).take(CHOSEN).collect();
    for group in [other, elsewhere] {
        let mut counts = [0; 256];
        chosen.iter().for_each(|key| counts[part(group.hash(key))] += 1);
        let most = *counts.iter().max().expect("parts");
        // Four in each on average.
        assert!(most < 20, "{most} of {CHOSEN} keys are in one part of 256");
    }
    // The slot is the only part of the hash that is known.
    let slots = [one, other].map(|group| group.hash(b"key") >> SLOT_SHIFT);
    assert_eq!(slots, [u64::from(slot_of(b"key")); 2]);
}

#[test]
fn the_digest_of_a_record_tells_its_key_from_its_value() {
    let group = HashKey::new(ClusterId(1), GroupId(1));
    let digests: Vec<_> = (0..4).map(|key_bytes| group.digest(b"abc", key_bytes)).collect();
    for (at, digest) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(digest), "{digests:?}");
    }
    assert_ne!(group.digest(b"abc", 1), HashKey::new(ClusterId(1), GroupId(2)).digest(b"abc", 1));
}
