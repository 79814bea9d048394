//! Keeps what a hub wants to be kept over restarts, in one file: logs of channels with their numbers, documents, sessions.
//!
//! [`Store::open`] gives back what the file holds, for the hubs to begin with, and [`Store::commit`] carries out what they
//! ask for ([`StoreCommand`]), a group at a time: all of it or nothing. The file is a SQLite database, which this crate
//! brings along.
//!
//! # What a success promises
//!
//! When [`Store::commit`] has returned `Ok`, the group survives whatever happens to the *process*: a panic, `kill -9`, an
//! abort for want of memory. What it takes to survive the *machine*, a power cut or a crash of the kernel, is [`Fsync`]'s to
//! say. The file is whole in every case: what a power cut takes away is the newest groups, from the end.
//!
//! A client must never be told of two different messages under one number. What subscribers have seen may have been taken
//! away by a power cut, and its numbers would be given out again. So a store that was not closed, on a machine that was
//! started anew since, under another policy than [`Fsync::Always`], comes back with a new epoch for each channel
//! ([`Contents::renumbered`]): its messages and documents are there, and clients hear that their positions are of another
//! epoch. Linux' boot id tells whether the machine was started anew; where there is none it counts as started.
//!
//! # What is not there
//!
//! A file that was damaged is refused by [`Store::open`], by checksums over every row: it is never taken for an empty one. A
//! copy of the file that was made while it was in use is none; an older copy that is put back gives out numbers again that
//! clients have seen.

mod contents;
mod driven;
mod error;
mod file;
mod fsync;
mod index;
mod rows;
mod store;
#[cfg(test)]
mod tests;

pub use self::{contents::Contents, error::StoreError, fsync::Fsync, store::Store};
#[doc(no_inline)]
pub use mahavishnu_core::hub::StoreCommand;
