//! The words of the protocol: types, event names, error codes, and what a channel may be called.

/// The `type` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A client asks for something.
    Request,
    /// The answer to a request.
    Response,
    /// Something happened.
    Event,
    /// A refusal.
    Error,
    /// A confirmation that nobody waits for.
    Ack,
    /// A client wants a channel.
    Subscribe,
    /// A client no longer wants a channel.
    Unsubscribe,
    /// A sign of life is asked for.
    Ping,
    /// A sign of life.
    Pong,
}

impl Kind {
    /// Every type; [`index`](Self::index) is the position in it.
    pub const ALL: [Self; 9] = [
        Self::Request,
        Self::Response,
        Self::Event,
        Self::Error,
        Self::Ack,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ping,
        Self::Pong,
    ];

    /// The word on the wire and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Event => "event",
            Self::Error => "error",
            Self::Ack => "ack",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }

    /// A dense number for tallies.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Reads the word; exact, lower case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Event names that the server itself sends or understands.
pub mod event {
    /// Greets a connection that is ready for use.
    pub const SESSION_CREATED: &str = "session.created";
    /// The first message of a client with a token, and its answer.
    pub const AUTH: &str = "auth";
    /// Replaces the token of a connection.
    pub const REFRESH_TOKEN: &str = "refresh_token";
    /// Wants a channel.
    pub const SUBSCRIBE: &str = "subscribe";
    /// No longer wants a channel.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
    /// Sends an event to a channel.
    pub const PUBLISH: &str = "publish";
    /// Keeps what a connection subscribes to, so that another one can go on with it.
    pub const KEEP_SESSION: &str = "keep_session";
    /// Goes on with what another connection subscribed to.
    pub const RESUME_SESSION: &str = "resume_session";
    /// Asks for a channel's document.
    pub const GET_STATE: &str = "get_state";
    /// Reads a channel's last messages.
    pub const GET_HISTORY: &str = "get_history";
    /// The connection's token is about to expire.
    pub const SESSION_TOKEN_EXPIRING: &str = "session.token_expiring";
    /// The server is about to stop, or the application to end the connection: says whether and when to come back.
    pub const SESSION_CLOSING: &str = "session.closing";
    /// The application has made the connection a subscriber.
    pub const CHANNEL_SUBSCRIBED: &str = "channel.subscribed";
    /// A subscription was taken back: it is no longer permitted, or the application has ended it.
    pub const CHANNEL_WITHDRAWN: &str = "channel.withdrawn";
    /// Events were lost: the reader was too slow, or they are no longer kept.
    pub const CHANNEL_GAP: &str = "channel.gap";
    /// A back-end answers a request.
    pub const ANSWER: &str = "answer";
    /// Asks who is in a channel.
    pub const GET_PRESENCE: &str = "get_presence";
    /// Somebody came into a channel, or says something else of itself.
    pub const PRESENCE_JOINED: &str = "presence.joined";
    /// Somebody is no longer in a channel.
    pub const PRESENCE_LEFT: &str = "presence.left";
    /// Many came into a channel or went, or events were missed.
    pub const PRESENCE_CHANGED: &str = "presence.changed";

    /// The requests that every server answers itself.
    pub const OWN: [&str; 10] = [
        AUTH,
        REFRESH_TOKEN,
        SUBSCRIBE,
        UNSUBSCRIBE,
        PUBLISH,
        KEEP_SESSION,
        RESUME_SESSION,
        GET_STATE,
        GET_HISTORY,
        GET_PRESENCE,
    ];
}

/// The error codes of the protocol, as clients know them.
pub mod error_code {
    /// A token is missing, malformed or not valid.
    pub const AUTH_FAILED: &str = "AUTH_FAILED";
    /// Something else came before authentication.
    pub const AUTH_REQUIRED: &str = "AUTH_REQUIRED";
    /// Not a message of the protocol.
    pub const DECODE_ERROR: &str = "DECODE_ERROR";
    /// No permission.
    pub const FORBIDDEN: &str = "FORBIDDEN";
    /// No such request.
    pub const UNKNOWN_REQUEST: &str = "UNKNOWN_REQUEST";
    /// A channel is missing or its name is not valid.
    pub const INVALID_CHANNEL: &str = "INVALID_CHANNEL";
    /// Too many messages, subscriptions or requests.
    pub const RATE_LIMIT_EXCEEDED: &str = "RATE_LIMIT_EXCEEDED";
    /// No such session, or not any more, or another user's.
    pub const SESSION_UNKNOWN: &str = "SESSION_UNKNOWN";
    /// Something else is there by now than the request says.
    pub const CONFLICT: &str = "CONFLICT";
    /// What came after a position cannot be had.
    pub const NOT_RECOVERED: &str = "NOT_RECOVERED";
    /// The server could not do it.
    pub const SERVER_ERROR: &str = "SERVER_ERROR";
}

/// Whether a channel may have this name: not empty, at most `bytes_max` bytes, no control characters.
#[must_use]
#[inline]
pub fn channel_is_valid(name: &str, bytes_max: usize) -> bool {
    // Without early exit, so that it is compiled to vector instructions. The control characters beyond ASCII, U+0080 to
    // U+009F, all begin with 0xC2; so do others, which is why these names are looked at closely.
    let suspicious = name
        .bytes()
        .fold(false, |found, byte| found | (byte < 0x20) | (byte == 0x7F) | (byte == 0xC2));
    let length = 1..=bytes_max;
    length.contains(&name.len()) && !(suspicious && name.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_what_they_write_and_nothing_else() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(kind.index(), index);
        }
        for word in ["", "Request", "REQUEST", "request ", "welcome", "metrics_update"] {
            assert_eq!(Kind::parse(word), None, "{word}");
        }
    }

    #[test]
    fn channel_names_are_short_text() {
        let long = "x".repeat(256);
        for name in ["a", "workflow:42", "goal-teams", "größe", "£", "with space", long.as_str()]
        {
            assert!(channel_is_valid(name, 256), "{name}");
        }
        let longer = "x".repeat(257);
        for name in [
            "",
            "a\nb",
            "a\u{0}",
            "\u{7f}",
            "\u{80}",
            "\u{85}",
            "\u{9f}",
            "a\u{1f}b",
            longer.as_str(),
        ] {
            assert!(!channel_is_valid(name, 256), "{name:?}");
        }
    }
}
