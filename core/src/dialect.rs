//! Which protocol the clients of a connection speak.

/// A protocol of messages. What is below it, HTTP and WebSocket, and what is above it, limits and channels, is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The family's: [`protocol`](crate::protocol).
    #[default]
    Family,
    /// Session-Buddy's own: [`protocol::session_buddy`](crate::protocol::session_buddy).
    SessionBuddy,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Family, Self::SessionBuddy];

    /// The word in settings: `family`, `session-buddy`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Family => "family",
            Self::SessionBuddy => "session-buddy",
        }
    }

    /// Reads the word. `None`: it is none of them.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == word)
    }
}

/// Which dialect a connection speaks: the path of its handshake says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialects {
    /// On all paths that are not listed. Default [`Dialect::Family`].
    pub default: Dialect,
    /// On these paths, such as `/session-buddy`; the first that fits counts. A slash at the end makes no difference. Default:
    /// none.
    pub paths: Vec<(Box<str>, Dialect)>,
}

impl Dialects {
    /// The dialect of a connection whose handshake has this path.
    #[must_use]
    pub fn of(&self, path: &str) -> Dialect {
        let wanted = path.trim_end_matches('/');
        let found = self.paths.iter().find(|(listed, _)| listed.trim_end_matches('/') == wanted);
        found.map_or(self.default, |(_, dialect)| *dialect)
    }

    /// Whether any connection speaks it.
    #[must_use]
    pub fn include(&self, dialect: Dialect) -> bool {
        self.default == dialect || self.paths.iter().any(|(_, listed)| *listed == dialect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_dialect_is_spoken() {
        let paths = vec![
            ("/session-buddy".into(), Dialect::SessionBuddy),
            ("/session-buddy/family".into(), Dialect::Family),
        ];
        let dialects = Dialects { default: Dialect::Family, paths };
        for (path, dialect) in [
            ("/", Dialect::Family),
            ("/session-buddy", Dialect::SessionBuddy),
            ("/session-buddy/", Dialect::SessionBuddy),
            ("/session-buddy/family", Dialect::Family),
            ("/session-buddy/x", Dialect::Family),
            ("/session-buddyx", Dialect::Family),
        ] {
            assert_eq!(dialects.of(path), dialect, "{path}");
        }
        let all = Dialects { default: Dialect::SessionBuddy, ..dialects };
        assert_eq!(all.of("/"), Dialect::SessionBuddy);
        assert_eq!(all.of("/session-buddy/family/"), Dialect::Family);
        assert!(all.include(Dialect::SessionBuddy) && all.include(Dialect::Family));
        assert!(!Dialects::default().include(Dialect::SessionBuddy));
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::parse(dialect.as_str()), Some(dialect));
        }
        assert_eq!(Dialect::parse("sessionbuddy"), None);
    }
}
