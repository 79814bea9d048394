//! The services of the family.

use std::sync::{Arc, LazyLock};

use crate::Profile;

/// Read once. A text that cannot be read would be missing here, and a test looks.
pub(crate) static ALL: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    TEXTS.iter().filter_map(|text| Profile::parse(text).ok()).map(Arc::new).collect()
});

const TEXTS: [&str; 7] = [
    include_str!("../services/mahavishnu.toml"),
    include_str!("../services/crackerjack.toml"),
    include_str!("../services/akosha.toml"),
    include_str!("../services/excalidraw.toml"),
    include_str!("../services/fastblocks.toml"),
    include_str!("../services/dhruva.toml"),
    include_str!("../services/session-buddy.toml"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_can_be_read() {
        for text in TEXTS {
            if let Err(error) = Profile::parse(text) {
                panic!("{}: {error}", text.lines().next().unwrap());
            }
        }
        assert_eq!(ALL.len(), TEXTS.len());
    }
}
