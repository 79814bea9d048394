//! A link by its bytes.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event of many")]

mod any;
mod finding;
mod losing;
mod peer;
mod replying;
mod subscribing;
