//! The seven services against what is known of them, and properties that hold for every profile.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests say what is wrong by panicking"
)]

mod answers;
mod broadcasts;
mod facts;
mod figures;
mod files;
mod properties;
mod world;
