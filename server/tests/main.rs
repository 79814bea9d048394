//! The binary as operators use it: arguments in, lines and exit codes out.

mod support;

mod client;
mod config;
mod control;
mod docs;
mod token;
