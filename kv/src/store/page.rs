//! A bucket in the row of a store, which a view may share.
//!
//! A store that was never frozen owns its buckets, and a write goes straight to them. A freeze puts the bucket behind a count,
//! without a copy of its records, and the view holds the count too. The first write to a bucket that a view still
//! holds copies it; the first one after the last view takes it out of the count again.
//!
//! Memory that only views hold any more is added up in [`Past`]: the places of a bucket when it was copied, and the bytes
//! of a long record when the store lets go of them. It is taken off when the last view that holds them has gone.

use super::{bucket::Bucket, record::Record};
use std::{
    cell::Cell,
    rc::{Rc, Weak},
};

/// The memory that only views hold any more, in bytes. It belongs to the store.
#[derive(Default, Debug)]
pub(super) struct Past(Rc<Cell<usize>>);

/// The way of a view to [`Past`], which is of no use any more when the store has gone.
#[derive(Clone, Debug)]
pub(super) struct PastOfStore(Weak<Cell<usize>>);

impl Past {
    pub(super) fn bytes(&self) -> usize {
        self.0.get()
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }

    pub(super) fn for_view(&self) -> PastOfStore {
        PastOfStore(Rc::downgrade(&self.0))
    }
}

impl PastOfStore {
    fn add(&self, bytes: usize) {
        if let Some(past) = self.0.upgrade() {
            past.set(past.get() + bytes);
        }
    }

    pub(super) fn remove(&self, bytes: usize) {
        if let Some(past) = self.0.upgrade() {
            let left = past.get().checked_sub(bytes);
            past.set(left.expect("only what was added is removed"));
        }
    }
}

/// A bucket of a store.
#[derive(Debug)]
pub(super) enum Page {
    /// No view has it.
    Own(Bucket),
    /// A view may have it.
    Frozen(Rc<Frozen>),
}

impl Default for Page {
    fn default() -> Self {
        Self::Own(Bucket::default())
    }
}

impl Page {
    pub(super) fn bucket(&self) -> &Bucket {
        match self {
            Self::Own(bucket) => bucket,
            Self::Frozen(frozen) => &frozen.bucket,
        }
    }

    /// The bucket for a change. It is copied if a view has it.
    pub(super) fn bucket_mut(&mut self) -> &mut Bucket {
        if let Self::Frozen(_) = self {
            self.thaw();
        }
        let Self::Own(bucket) = self else { unreachable!("it is thawed") };
        bucket
    }

    /// Whether a view has it, so that a change copies it.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Frozen(frozen) if Rc::strong_count(frozen) > 1)
    }

    /// The bucket for a view.
    pub(super) fn freeze(&mut self, past: &Past) -> Rc<Frozen> {
        if let Self::Own(bucket) = self {
            let bucket = std::mem::take(bucket);
            let (past, is_past) = (past.for_view(), Cell::new(false));
            *self = Self::Frozen(Rc::new(Frozen { bucket, past, is_past }));
        }
        let Self::Frozen(frozen) = self else { unreachable!("it is frozen") };
        Rc::clone(frozen)
    }

    #[cold]
    #[inline(never)]
    fn thaw(&mut self) {
        let Self::Frozen(frozen) = std::mem::take(self) else { return };
        *self = Self::Own(match Rc::try_unwrap(frozen) {
            Ok(mut alone) => std::mem::take(&mut alone.bucket),
            Err(shared) => {
                shared.leave();
                shared.bucket.clone()
            }
        });
    }
}

/// A bucket that a view has or had. It never changes.
#[derive(Debug)]
pub(super) struct Frozen {
    bucket: Bucket,
    past: PastOfStore,
    /// Whether the store has a bucket of its own in its place.
    is_past: Cell<bool>,
}

impl Frozen {
    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The store lets go of it, and views keep it.
    fn leave(&self) {
        self.is_past.set(true);
        self.past.add(self.bucket.allocated());
    }
}

impl Drop for Frozen {
    /// It looks at each of its records if the store has copied it.
    fn drop(&mut self) {
        if self.is_past.get() {
            let of_record = |record: &Record| record.heap_bytes() - record.shared_bytes();
            let alone: usize = self.bucket.records().map(of_record).sum();
            self.past.remove(self.bucket.allocated() + alone);
        }
    }
}
