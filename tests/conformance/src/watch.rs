//! A test that hangs is a test that fails.

use std::{panic, sync::mpsc, thread, time::Duration};

/// Runs `body` on a thread of its own. Panics if it does, or if it is not over after a minute: a server that spins in the
/// simulator spins on the body's own thread, where no deadline of a socket ends it.
pub fn watched(body: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        // Told when it is dropped, by whatever way the body ends.
        let _tell: mpsc::Sender<()> = tell;
        body();
    });
    match told.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not over after {PATIENCE:?}"),
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
}
