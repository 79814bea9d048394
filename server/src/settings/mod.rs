//! All settings: one table of MAHAVISHNU_ variables, from which parsing, `config show` and the documentation follow.

mod check;
mod keys;
mod kind;
mod reader;
mod show;
mod sources;
mod table;
mod value;

pub(crate) use check::{Loaded, load};
pub(crate) use show::{docs, show};
pub(crate) use sources::{Override, Request, Sources};
pub(crate) use table::Settings;
pub(crate) use value::{
    Correlation, LogFormat, LogLevel, NamedKey, Runtime, Secret, SlowReader,
};

/// What every variable's name begins with.
pub(crate) const PREFIX: &str = "MAHAVISHNU_";
