//! The panics of the tasks of an executor.

use super::Panic;
use crate::wake::Wake;
use std::cell::RefCell;

/// What the first task that panicked has left. A panic ends the shard, but not by unwinding through its executor: that
/// would drop the tasks that are left outside of it, and some of them panic then, which ends the process.
#[derive(Default)]
pub(crate) struct Panics {
    first: RefCell<Option<Panic>>,
    has_come: Wake,
}

impl Panics {
    /// Notes how a task has ended.
    pub(crate) fn note(&self, ended: Result<(), Panic>) {
        if let Err(panic) = ended {
            self.first.borrow_mut().get_or_insert(panic);
            self.has_come.notify();
        }
    }

    /// Returns when a task has panicked.
    pub(crate) async fn first(&self) -> Panic {
        loop {
            let panic = self.first.take();
            match panic {
                Some(panic) => return panic,
                None => self.has_come.wait().await,
            }
        }
    }
}
