//! Waking one task of the same thread. Others' notifiers are for threads: they lock, count and allocate.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// A permit that one task waits for. A permit that nobody waits for is kept; there is never more than one.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    permit: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Notify {
    pub(crate) fn notify_one(&self) {
        self.permit.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Waits for the permit and takes it. Two tasks must not wait at once: only the later one would be woken.
    pub(crate) async fn notified(&self) {
        poll_fn(|context| {
            if self.permit.replace(false) {
                return Poll::Ready(());
            }
            match &mut *self.waiting.borrow_mut() {
                Some(waiting) => waiting.clone_from(context.waker()),
                nobody => *nobody = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use smol::{
        LocalExecutor,
        future::{block_on, poll_once},
    };

    use super::*;

    #[test]
    fn permits_are_kept_but_not_counted() {
        let notify = Notify::default();
        notify.notify_one();
        notify.notify_one();
        assert_eq!(block_on(poll_once(notify.notified())), Some(()));
        assert_eq!(block_on(poll_once(notify.notified())), None);
    }

    #[test]
    fn the_woken_task_runs_after_those_that_were_ready() {
        let (notify, order) = (Notify::default(), RefCell::new(Vec::new()));
        let tasks = LocalExecutor::new();
        let turn = tasks.spawn(async {
            notify.notified().await;
            order.borrow_mut().push("turn");
        });
        while tasks.try_tick() {}
        for _ in 0..1000 {
            tasks
                .spawn(async {
                    order.borrow_mut().push("reader");
                    notify.notify_one();
                })
                .detach();
        }
        block_on(tasks.run(turn));
        assert_eq!(order.borrow().iter().filter(|who| **who == "reader").count(), 1000);
        assert_eq!(order.borrow().last(), Some(&"turn"));
    }
}
