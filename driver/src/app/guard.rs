//! Calling code of the application: what it does wrong ends nothing but its own call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use super::BoxFuture;

/// Code of the application has panicked. What it said is the panic hook's to tell: it may be a client's words, or a
/// secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Calls code of the application. Nothing of ours is in use meanwhile that a panic could leave half done.
pub(crate) fn guard<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        // What was thrown is the application's too, and may panic when it is dropped. Then it is left where it is.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panicked
    })
}

/// A future of the application.
pub(super) struct Guarded<T>(Option<BoxFuture<T>>);

impl<T> Guarded<T> {
    pub(super) fn new(future: BoxFuture<T>) -> Self {
        Self(Some(future))
    }

    /// Drops the future, which is code of the application's.
    pub(super) fn discard(&mut self) -> Result<(), Panicked> {
        guard(|| drop(self.0.take()))
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // It is polled once more than it should be, if at all.
        let Some(future) = &mut self.0 else { return Poll::Pending };
        match guard(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // Its runtime gives it up; whoever waits for it is told by the call.
        let _ = self.discard();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped, and again with what that throws.
    struct Bomb(u8);

    impl Drop for Bomb {
        fn drop(&mut self) {
            match self.0 {
                0 => {}
                left => panic_any(Self(left - 1)),
            }
        }
    }

    #[test]
    fn whatever_is_thrown_is_caught() {
        assert_eq!(guard(|| 1), Ok(1));
        assert_eq!(guard(|| panic!("text")).err(), Some(Panicked));
        assert_eq!(guard(|| panic_any(7)).err(), Some(Panicked));
        for bombs in 0..4 {
            assert_eq!(guard(|| panic_any(Bomb(bombs))).err(), Some(Panicked));
        }
    }
}
