//! The two streams that a process is given, and how the files behind them are opened anew when somebody has moved them
//! away: log rotation.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write},
    os::{
        fd::BorrowedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::stdio;

use super::lines::Stream;

/// Writes to a stream by its number, so that what is opened in its place is written to from the next line on.
#[derive(Debug)]
pub(super) struct Std(pub(super) Stream);

impl Std {
    fn fd(&self) -> BorrowedFd<'static> {
        match self.0 {
            Stream::Out => stdio::stdout(),
            Stream::Err => stdio::stderr(),
        }
    }

    /// What is behind it.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.fd().try_clone_to_owned()?).metadata()
    }
}

impl Write for Std {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the files are that the streams were at the start.
#[derive(Debug)]
pub(super) struct Files {
    out: Option<PathBuf>,
    err: Option<PathBuf>,
}

impl Files {
    /// Finds their names. A pipe, a terminal, or a file that has no name any more has none.
    pub(super) fn find() -> Self {
        let find = |number: u8, stream: Stream| {
            let path = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            let behind = Std(stream).metadata().ok().filter(Metadata::is_file)?;
            is_at(&behind, &path).then_some(path)
        };
        Self { out: find(1, Stream::Out), err: find(2, Stream::Err) }
    }

    /// Opens those anew that are somewhere else by now. A line that is being written goes into the old file, the next one into
    /// the new: none is lost. Where that fails the old file is kept, and this says why. The others are the names of files that
    /// were opened.
    pub(super) fn reopen(&self) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
        let one = |path: &Option<PathBuf>, stream: Stream| {
            let path = path.as_ref()?;
            let reopened = reopen(path, &Std(stream)).transpose()?;
            Some(reopened.map(|()| path.clone()).map_err(|error| (path.clone(), error)))
        };
        [one(&self.out, Stream::Out), one(&self.err, Stream::Err)].into_iter().flatten().collect()
    }
}

/// `None`: it is where it was.
fn reopen(path: &Path, stream: &Std) -> io::Result<Option<()>> {
    if is_at(&stream.metadata()?, path) {
        return Ok(None);
    }
    // Appending: several processes may write, and who cuts it short leaves no hole.
    let new = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    match stream.0 {
        Stream::Out => stdio::dup2_stdout(&new)?,
        Stream::Err => stdio::dup2_stderr(&new)?,
    }
    Ok(Some(()))
}

/// Whether the file of this name is this one.
fn is_at(behind: &Metadata, path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|named| (named.dev(), named.ino()) == (behind.dev(), behind.ino()))
}
