//! What a store held at one time.

use super::{
    bucket::Bucket,
    page::{Frozen, Past, PastOfStore},
    walk::{KvCursor, KvPortion, bucket_of, records_from},
};
use std::rc::Rc;

/// What a view takes for each bucket of the store, in bytes: the bucket's lowest hash, a pointer, and the count that it
/// points to.
pub(super) const VIEW_BYTES_PER_BUCKET: usize =
    size_of::<u64>() + size_of::<Rc<Frozen>>() + size_of::<Frozen>() + 2 * size_of::<usize>();

/// All keys and values of a machine as they were when it was frozen, whatever is written afterwards. It stays on the
/// thread of its machine, as the machine does: its counts need no atomic operations.
///
/// While it lives, the first write to a bucket copies the records of the bucket. What only views hold any more counts as
/// memory of the machine. To drop the view looks at each record of the buckets that were copied;
/// [`KvView::forget_before`] does this in parts.
#[derive(Debug)]
pub struct KvView {
    /// As in the store, from the first bucket that is not forgotten.
    starts: Vec<u64>,
    buckets: Vec<Rc<Frozen>>,
    len: usize,
    past: PastOfStore,
}

impl KvView {
    pub(super) fn new(
        starts: &[u64],
        buckets: impl Iterator<Item = Rc<Frozen>>,
        len: usize,
        past: &Past,
    ) -> Self {
        past.add(starts.len() * VIEW_BYTES_PER_BUCKET);
        Self { starts: starts.to_vec(), buckets: buckets.collect(), len, past: past.for_view() }
    }

    /// How many keys there were when it was made.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys and values from `from` on, in the order of the hashes of keys: `records_max` at most, and `bytes_max` bytes of
    /// them, but at least one.
    ///
    /// # Panics
    /// If `records_max` is 0.
    pub fn walk(&self, from: &KvCursor, records_max: usize, bytes_max: usize) -> KvPortion<'_> {
        let records = records_from(&self.starts, self.buckets(), from.place());
        KvPortion::of(records, records_max, bytes_max)
    }

    /// Lets go of the buckets that end before `from`. Whoever walks through a view gives memory back on the way by this, and
    /// has no large view to drop at the end. What is forgotten may not be walked again.
    pub fn forget_before(&mut self, from: &KvCursor) {
        let passed = bucket_of(&self.starts, from.place().0);
        self.starts.drain(..passed);
        self.buckets.drain(..passed);
        self.past.remove(passed * VIEW_BYTES_PER_BUCKET);
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().map(|frozen| frozen.bucket())
    }

    /// Where each record lies, to see that none was copied.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<usize> {
        let records = self.buckets().flat_map(Bucket::sorted);
        records.map(|record| std::ptr::from_ref(record).addr()).collect()
    }
}

impl Drop for KvView {
    fn drop(&mut self) {
        self.past.remove(self.starts.len() * VIEW_BYTES_PER_BUCKET);
    }
}
