//! Frames of peers, under libFuzzer.
#![no_main]

use purlin_tests::fuzz::{self, Counting};

#[global_allocator]
static COUNTING: Counting = Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::frames(data));
