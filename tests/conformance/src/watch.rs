//! A test that hangs is a test that fails.

use std::{panic, sync::mpsc, thread, time::Duration};

/// Runs `body` on a thread of its own. Panics if it does, or if it is not over after a minute: a server that spins in the
/// simulator spins on the body's own thread, where no deadline of a socket ends it.
pub fn watched(body: impl FnOnce() + Send + 'static) {
    within(PATIENCE, body);
}

fn within(patience: Duration, body: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        // Told when it is dropped, by whatever way the body ends.
        let _tell: mpsc::Sender<()> = tell;
        body();
    });
    match told.recv_timeout(patience) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not over after {patience:?}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(reason) = thread.join() {
                panic::resume_unwind(reason);
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_fails_fails_its_test() {
        assert!(panic::catch_unwind(|| watched(|| panic!("as it should"))).is_err());
        watched(|| ());
    }

    #[test]
    fn a_body_that_hangs_fails_its_test() {
        let (_open, never) = mpsc::channel::<()>();
        let hangs = || {
            within(Duration::from_millis(50), move || {
                let _ = never.recv();
            })
        };
        assert!(panic::catch_unwind(panic::AssertUnwindSafe(hangs)).is_err());
    }
}
