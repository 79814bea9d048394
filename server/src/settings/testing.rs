//! Settings for the tests of other modules.

use std::{ffi::OsString, path::Path};

use super::{
    check::{Loaded, evaluate},
    sources::{Request, Sources},
};

/// What these variables, named without their prefix, come to.
pub(crate) fn load(pairs: &[(&str, &str)]) -> Loaded {
    let vars: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (format!("MAHAVISHNU_{name}"), OsString::from(value)))
        .collect();
    evaluate(
        &Sources::assemble(&Request::default(), vars.into_iter(), Path::new("/nonexistent"))
            .unwrap(),
    )
}
