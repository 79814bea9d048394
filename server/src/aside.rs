//! Files that are read on a thread aside, with a limit of time: whoever waits for signals never waits for a filesystem.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::exit::{Exit, Failure};

/// How long the files of a reload may take altogether. Longer, and the reload is refused.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads that may hang in a filesystem. With so many, a reload is refused at once.
const STUCK_MAX: usize = 4;

/// Reads `path` by `read`, and lets whoever waits for this thread know that it is this file that it waits for.
pub(crate) fn reading<T>(path: &Path, read: impl FnOnce() -> T) -> T {
    note(Some(path.to_owned()));
    let done = read();
    note(None);
    done
}

fn note(path: Option<PathBuf>) {
    WATCHED.with_borrow(|watched| {
        if let Some(watched) = watched {
            *watched.lock().unwrap_or_else(PoisonError::into_inner) = path;
        }
    });
}

thread_local! {
    /// Where this thread says what it reads, if anybody wants to know.
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

type Watched = Arc<Mutex<Option<PathBuf>>>;

/// Starts threads that read, and remembers those that hang.
#[derive(Debug)]
pub(crate) struct Aside {
    limit: Duration,
    /// Each thread that reads holds one more.
    alive: Arc<()>,
}

/// What a thread has read, once it has.
#[derive(Debug)]
pub(crate) struct Reading<T>(async_channel::Receiver<Result<T, Failure>>);

impl Aside {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, alive: Arc::new(()) }
    }

    /// Has `read` carried out on a thread of its own. One that takes longer than the limit is given up: nobody waits for
    /// it any more, though it cannot be ended.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Reading<T> {
        let (told, result) = async_channel::bounded(1);
        let stuck = Arc::strong_count(&self.alive) - 1;
        let begun = if stuck < STUCK_MAX {
            self.spawn(read, told.clone())
        } else {
            let text = format!("{stuck} threads still wait for files of earlier reloads");
            Err(Failure::new(Exit::Timeout, text))
        };
        if let Err(failure) = begun {
            // There is room for one, and it is the first.
            let _ = told.try_send(Err(failure));
        }
        Reading(result)
    }

    fn spawn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
        told: async_channel::Sender<Result<T, Failure>>,
    ) -> Result<(), Failure> {
        let failure = |error: std::io::Error| Failure::io("thread for a reload", &error);
        let watched = Watched::default();
        let (done, finished) = mpsc::channel();
        let (alive, mine) = (Arc::clone(&self.alive), Arc::clone(&watched));
        let reader = move || {
            let _alive = alive;
            WATCHED.set(Some(mine));
            // Whoever gave it up is gone.
            let _ = done.send(read());
        };
        let limit = self.limit;
        let timer = move || {
            let result = finished.recv_timeout(limit).unwrap_or_else(|end| {
                Err(match end {
                    mpsc::RecvTimeoutError::Timeout => overdue(&watched, limit),
                    mpsc::RecvTimeoutError::Disconnected => {
                        Failure::new(Exit::General, "reading ended unexpectedly; see the log")
                    }
                })
            });
            let _ = told.try_send(result);
        };
        thread::Builder::new().name("reload".into()).spawn(reader).map_err(failure)?;
        thread::Builder::new().name("reload-limit".into()).spawn(timer).map_err(failure)?;
        Ok(())
    }
}

impl<T> Reading<T> {
    /// What was read, or why nothing was. May be dropped and called again before it is done, not after.
    pub(crate) async fn result(&self) -> Result<T, Failure> {
        self.0.recv().await.unwrap_or_else(|_| {
            Err(Failure::new(Exit::General, "reading ended unexpectedly; see the log"))
        })
    }
}

fn overdue(watched: &Watched, limit: Duration) -> Failure {
    let path = watched.lock().unwrap_or_else(PoisonError::into_inner).take();
    let what = path.map_or_else(|| "the files".to_owned(), |path| path.display().to_string());
    let text =
        format!("{what}: not read within {} s; does its filesystem answer?", limit.as_secs_f64());
    Failure::new(Exit::Timeout, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `result` without a runtime.
    fn wait<T>(reading: &Reading<T>) -> Result<T, Failure> {
        reading.0.recv_blocking().unwrap()
    }

    #[test]
    fn what_is_read_in_time_is_handed_over() {
        let aside = Aside::new(Duration::from_secs(60));
        assert_eq!(wait(&aside.start(|| Ok(7))), Ok(7));
        let failure = Failure::new(Exit::Permission, "no");
        let given = failure.clone();
        assert_eq!(wait(&aside.start::<()>(move || Err(given))), Err(failure));
    }

    #[test]
    fn a_file_that_hangs_is_named_when_time_is_up() {
        let aside = Aside::new(Duration::from_millis(50));
        let (release, hang) = mpsc::channel::<()>();
        let reading = aside.start(move || {
            reading(Path::new("/good"), || ());
            reading(Path::new("/hung/tls.pem"), || {
                let _ = hang.recv();
            });
            Ok(())
        });
        let failure = wait(&reading).unwrap_err();
        assert_eq!(failure.exit, Exit::Timeout);
        assert_eq!(
            failure.to_string(),
            "/hung/tls.pem: not read within 0.05 s; does its filesystem answer?"
        );
        drop(release);
    }

    #[test]
    fn threads_that_hang_are_bounded_and_count_only_while_they_do() {
        let aside = Aside::new(Duration::from_millis(1));
        let hung: Vec<_> = (0..STUCK_MAX)
            .map(|_| {
                let (release, hang) = mpsc::channel::<()>();
                let reading = aside.start(move || {
                    let _ = hang.recv();
                    Ok(())
                });
                assert!(wait(&reading).is_err());
                release
            })
            .collect();
        let refused = wait(&aside.start(|| Ok(()))).unwrap_err();
        assert!(refused.to_string().starts_with("4 threads still wait"), "{refused}");
        drop(hung);
        while Arc::strong_count(&aside.alive) > 1 {
            thread::yield_now();
        }
        // With time enough: this one is not to be late.
        let aside = Aside { limit: Duration::from_secs(60), ..aside };
        assert_eq!(wait(&aside.start(|| Ok(()))), Ok(()));
    }

    #[test]
    fn a_reader_that_panics_refuses_the_reload() {
        let aside = Aside::new(Duration::from_secs(60));
        let failure = wait(&aside.start::<()>(|| panic!("a test's"))).unwrap_err();
        assert_eq!(failure.exit, Exit::General);
    }
}
