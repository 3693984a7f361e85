//! Has the processor fetch what is read soon.

/// The bytes that a processor fetches at once, on all that we know or on a divisor of it.
const LINE: usize = 64;

/// Has the processor fetch `value` into its caches, without waiting for it. What the value points to is not fetched. On
/// processors without such an instruction in Rust nothing happens.
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = std::ptr::from_ref(value).cast::<i8>().wrapping_add(offset);
        // SAFETY: the instruction is a hint. It reads nothing that a program can see, and an address that is not mapped
        // is no fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE);
}
