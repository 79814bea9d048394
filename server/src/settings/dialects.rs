//! The setting that says on which paths which protocol is spoken.

use mahavishnu_core::config::Dialect;

use super::kind::Kind;

/// `path=protocol` pairs with commas between.
pub(crate) struct DialectPaths;

impl Kind for DialectPaths {
    type Value = Vec<(Box<str>, Dialect)>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let paths: Vec<_> = pairs.map(pair).collect::<Option<_>>()?;
        let bare = |path: &str| path.trim_end_matches('/').len();
        let is_twice = |(place, (path, _)): (usize, &(Box<str>, Dialect))| {
            let same = |other: &str| other.get(..bare(other)) == path.get(..bare(path));
            paths.iter().take(place).any(|(before, _)| same(before))
        };
        (paths.len() <= PATHS_MAX && !paths.iter().enumerate().any(is_twice)).then_some(paths)
    }

    fn show(&self, value: &Self::Value) -> String {
        let pair = |(path, dialect): &(Box<str>, Dialect)| format!("{path}={}", dialect.as_str());
        value.iter().map(pair).collect::<Vec<_>>().join(",")
    }

    fn allowed(&self) -> String {
        format!(
            "at most {PATHS_MAX} path=protocol pairs with commas between, each path once; a protocol is family or session-buddy: /session-buddy=session-buddy"
        )
    }
}

fn pair(pair: &str) -> Option<(Box<str>, Dialect)> {
    let (path, dialect) = pair.split_once('=')?;
    let path = path.trim();
    // What a request's path can be (RFC 3986 §3.3), so that a mistake is no path that nobody ever asks for.
    let sound = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    let is_path = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && path.bytes().all(sound);
    let dialect = Dialect::parse(&dialect.trim().to_ascii_lowercase())?;
    is_path.then(|| (path.into(), dialect))
}

/// Each handshake's path is compared with all.
const PATHS_MAX: usize = 16;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_shown() {
        let paths = DialectPaths.parse(" /session-buddy = Session-Buddy , /x/=family,").unwrap();
        let shown = "/session-buddy=session-buddy,/x/=family";
        assert_eq!(DialectPaths.show(&paths), shown);
        assert_eq!(DialectPaths.parse(shown), Some(paths));
        assert_eq!(DialectPaths.parse(""), Some(Vec::new()));
        assert_eq!(
            DialectPaths.parse("/=session-buddy"),
            Some(vec![("/".into(), Dialect::SessionBuddy)])
        );
        let many = |count| (0..count).map(|n| format!("/{n}=family")).collect::<Vec<_>>().join(",");
        assert!(DialectPaths.parse(&many(16)).is_some());
        let long = format!("/{}=family", "x".repeat(256));
        for bad in [
            &many(17),
            &long,
            "session-buddy=session-buddy",
            "/session-buddy",
            "/a=buddy",
            "/a=family,/a/=session-buddy",
            "/a b=family",
            "/a?b=family",
        ] {
            assert_eq!(DialectPaths.parse(bad), None, "{bad}");
        }
    }
}
