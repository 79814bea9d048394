//! All settings: one table of MAHAVISHNU_ variables, from which parsing, `config show` and the documentation follow.

mod by_channel;
mod bytes;
mod check;
mod dialects;
mod effects;
mod env_file;
mod grants;
mod in_force;
mod keys;
mod kind;
mod networks;
mod passwords;
mod protection;
mod reader;
mod redis;
mod service;
mod show;
mod sources;
mod status;
mod table;
mod template;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use by_channel::ChannelRule;
pub(crate) use bytes::MemoryLimit;
pub(crate) use check::{KEY_VARIABLES, Loaded, is_loopback, load, load_of, overlap, reachable};
pub(crate) use in_force::{Difference, Effect, InForce};
pub(crate) use keys::Key;
pub(crate) use protection::weakened;
pub(crate) use redis::Endpoint;
pub(crate) use service::{Service, is_file, profile};
pub(crate) use show::{changes, docs, show};
pub(crate) use sources::{DOT_ENV, Override, Request};
pub(crate) use table::Settings;
pub(crate) use template::template;
pub(crate) use value::{Correlation, LogFormat, LogLevel, Runtime, Secret, SlowReader};

/// What every variable's name begins with.
pub(crate) const PREFIX: &str = "MAHAVISHNU_";
