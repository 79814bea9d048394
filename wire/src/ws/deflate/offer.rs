//! Negotiation: offers and answers in `Sec-WebSocket-Extensions` (RFC 6455 §9.1, RFC 7692 §5 and §7.1).

use std::borrow::Cow;

use http::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};

use super::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::reason::Reason;

/// That two ends compress their messages, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Bits of the window that the peer keeps for what we send, 8 to 15.
    window_bits: u8,
    /// The peer named the window, so the answer repeats it.
    named: bool,
}

impl Deflate {
    /// The server's choice among the offers of a handshake's header fields: the first that it can meet in full, else
    /// the first with a smaller window, in which only short messages are compressed. `None` if nothing fits; an offer
    /// with an unknown, repeated or malformed parameter is passed over (RFC 7692 §7.1.3).
    ///
    /// # Errors
    /// [`Reason::BadHandshake`] if the header is not the list that RFC 6455 §9.1 demands.
    pub fn choose(headers: &HeaderMap) -> Result<Option<Self>, Reason> {
        let extensions = Extensions::of(headers)?;
        let offers = extensions.0.iter().filter(|extension| extension.name == NAME);
        let fits: Vec<Self> = offers.filter_map(|offer| Self::meet(&offer.params)).collect();
        let full = fits.iter().find(|offer| offer.window_bits == WINDOW_BITS_MAX);
        Ok(full.or_else(|| fits.first()).copied())
    }

    /// The client's check of the server's answer to [`OFFER`]. `None` if there is no extension to use.
    pub(in crate::ws) fn check(headers: &HeaderMap) -> Result<Option<Self>, Reason> {
        let extensions = Extensions::of(headers)?;
        match extensions.0.as_slice() {
            [] => Ok(None),
            [answer] if answer.name == NAME => {
                Self::take(&answer.params).map(Some).ok_or(Reason::BadHandshake)
            }
            // One that was not offered, or one too many (RFC 6455 §4.1).
            _ => Err(Reason::BadHandshake),
        }
    }

    /// Bits of the window that the peer keeps for what we send, 8 to 15.
    #[must_use]
    pub fn window_bits(self) -> u8 {
        self.window_bits
    }

    /// The answer's header value.
    pub(in crate::ws) fn answer(self) -> String {
        let mut answer = format!("{NAME}; {SERVER_NO_TAKEOVER}; {CLIENT_NO_TAKEOVER}");
        if self.named {
            // RFC 7692 §7.1.2.1: an offer with a window is met by an answer with one no larger.
            answer.push_str(&format!("; {SERVER_WINDOW}={}", self.window_bits));
        }
        answer
    }

    /// One offer of a client. What it says of its own window needs no answer: ours is the largest for all (§7.1.2.2).
    fn meet(params: &[Param<'_>]) -> Option<Self> {
        let (mut seen, mut this) =
            (Seen::default(), Self { window_bits: WINDOW_BITS_MAX, named: false });
        for (name, value) in params {
            seen.once(name)?;
            match (*name, value.as_deref()) {
                (SERVER_NO_TAKEOVER | CLIENT_NO_TAKEOVER | CLIENT_WINDOW, None) => {}
                (CLIENT_WINDOW, Some(value)) => drop(window_bits(value)?),
                (SERVER_WINDOW, Some(value)) => {
                    this = Self { window_bits: window_bits(value)?, named: true };
                }
                _ => return None,
            }
        }
        Some(this)
    }

    /// A server's answer. Without `server_no_context_takeover` it would be no answer to our offer (§7.1.1.1); whether
    /// the server wants us to do without takeover is all the same, since we do.
    fn take(params: &[Param<'_>]) -> Option<Self> {
        let (mut seen, mut this) =
            (Seen::default(), Self { window_bits: WINDOW_BITS_MAX, named: false });
        for (name, value) in params {
            seen.once(name)?;
            match (*name, value.as_deref()) {
                (SERVER_NO_TAKEOVER | CLIENT_NO_TAKEOVER, None) => {}
                (SERVER_WINDOW, Some(value)) => drop(window_bits(value)?),
                (CLIENT_WINDOW, Some(value)) => this.window_bits = window_bits(value)?,
                _ => return None,
            }
        }
        seen.0.contains(&SERVER_NO_TAKEOVER).then_some(this)
    }
}

/// Names of parameters so far: none may come twice (RFC 7692 §7.1).
#[derive(Default)]
struct Seen<'h>(Vec<&'h str>);

impl<'h> Seen<'h> {
    fn once(&mut self, name: &'h str) -> Option<()> {
        let is_new = !self.0.contains(&name);
        self.0.push(name);
        is_new.then_some(())
    }
}

/// A number from 8 to 15 in decimal, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let digits = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    let bits = value.parse().ok().filter(|_| digits)?;
    (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits).then_some(bits)
}

/// A parameter's name and value.
type Param<'h> = (&'h str, Option<Cow<'h, str>>);

/// One element of the list.
#[derive(Debug, PartialEq, Eq)]
struct Extension<'h> {
    name: &'h str,
    params: Vec<Param<'h>>,
}

/// All elements of a head, over all fields of the name.
#[derive(Debug, PartialEq, Eq)]
struct Extensions<'h>(Vec<Extension<'h>>);

impl<'h> Extensions<'h> {
    fn of(headers: &'h HeaderMap) -> Result<Self, Reason> {
        let mut list = Vec::new();
        for value in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            let text = value.to_str().map_err(|_| Reason::BadHandshake)?;
            parse_list(text, &mut list).ok_or(Reason::BadHandshake)?;
        }
        Ok(Self(list))
    }
}

/// `extension-list = 1#extension`: elements with commas between, of which RFC 9110 §5.6.1.2 lets some be empty.
fn parse_list<'h>(text: &'h str, list: &mut Vec<Extension<'h>>) -> Option<()> {
    let mut rest = Scanner(text);
    loop {
        rest.skip_space();
        if rest.0.is_empty() {
            return Some(());
        }
        if rest.take(',') {
            continue;
        }
        let mut extension = Extension { name: rest.token()?, params: Vec::new() };
        while rest.take(';') {
            let name = rest.token()?;
            let value = if rest.take('=') { Some(rest.value()?) } else { None };
            extension.params.push((name, value));
        }
        list.push(extension);
        if !rest.0.is_empty() && !rest.take(',') {
            return None;
        }
    }
}

/// What is left of a header value.
struct Scanner<'h>(&'h str);

impl<'h> Scanner<'h> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Takes one separator with the space around it.
    fn take(&mut self, separator: char) -> bool {
        self.skip_space();
        let Some(rest) = self.0.strip_prefix(separator) else { return false };
        self.0 = rest;
        self.skip_space();
        true
    }

    fn token(&mut self) -> Option<&'h str> {
        let end = self.0.find(|char| !is_token(char)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        self.skip_space();
        (!token.is_empty()).then_some(token)
    }

    /// A token, bare or quoted: what quotes hold must be a token as well (RFC 6455 §9.1).
    fn value(&mut self) -> Option<Cow<'h, str>> {
        let Some(mut quoted) = self.0.strip_prefix('"') else {
            return self.token().map(Cow::Borrowed);
        };
        let mut value = String::new();
        loop {
            let mut chars = quoted.chars();
            let char = match chars.next()? {
                '"' => break,
                '\\' => chars.next()?,
                char => char,
            };
            value.push(char);
            quoted = chars.as_str();
        }
        self.0 = quoted.get(1..)?;
        self.skip_space();
        (!value.is_empty() && value.chars().all(is_token)).then_some(Cow::Owned(value))
    }
}

/// RFC 9110 §5.6.2.
fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";

/// What a client offers: no windows kept on either side, and any limit on its own that the server likes.
pub(in crate::ws) const OFFER: &str = "permessage-deflate; server_no_context_takeover; \
     client_no_context_takeover; client_max_window_bits";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn answer(values: &[&str]) -> Option<String> {
        Deflate::choose(&headers(values)).unwrap().map(Deflate::answer)
    }

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn an_offer_is_answered_without_takeover_whatever_it_says_of_it() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate;client_max_window_bits=\"8\"",
            "permessage-deflate; client_max_window_bits=\"1\\5\"",
            " , permessage-deflate ; server_no_context_takeover\t;client_no_context_takeover,,",
            "x-webkit-deflate-frame, permessage-deflate",
            "bbf-usp-protocol; a=b; c=\"d\", permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(BOTH), "{offer}");
        }
        assert_eq!(answer(&["foo", "permessage-deflate"]).as_deref(), Some(BOTH));
    }

    #[test]
    fn a_window_that_is_asked_for_is_named_in_the_answer() {
        for bits in 8..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let expected = format!("{BOTH}; server_max_window_bits={bits}");
            assert_eq!(answer(&[&offer]), Some(expected));
        }
    }

    #[test]
    fn the_first_offer_with_the_largest_window_is_preferred() {
        let offers = "permessage-deflate; server_max_window_bits=9, permessage-deflate; \
            server_max_window_bits=10, permessage-deflate; server_max_window_bits=15, permessage-deflate";
        assert_eq!(answer(&[offers]), Some(format!("{BOTH}; server_max_window_bits=15")));
        let small = "permessage-deflate; server_max_window_bits=9, permessage-deflate; \
            server_max_window_bits=10";
        assert_eq!(answer(&[small]), Some(format!("{BOTH}; server_max_window_bits=9")));
    }

    #[test]
    fn an_unsound_offer_is_passed_over() {
        for params in [
            "unknown",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"\\1\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=999999999999",
            "client_max_window_bits=0",
            "client_max_window_bits=1x",
            "Server_No_Context_Takeover",
        ] {
            let offer = format!("permessage-deflate; {params}");
            assert_eq!(answer(&[&offer]), None, "{offer}");
            assert_eq!(
                answer(&[&offer, "permessage-deflate"]).as_deref(),
                Some(BOTH),
                "the next offer is tried after {offer}"
            );
        }
        assert_eq!(answer(&["permessage-bzip2, x"]), None);
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn a_malformed_header_fails_the_handshake() {
        for value in [
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=\"b\\",
            "permessage-deflate foo",
            "permessage-deflate; a b",
            ";",
            "a=b",
            "(comment)",
        ] {
            assert_eq!(Deflate::choose(&headers(&[value])), Err(Reason::BadHandshake), "{value}");
        }
        let mut raw = HeaderMap::new();
        raw.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Deflate::choose(&raw), Err(Reason::BadHandshake));
    }

    #[test]
    fn an_answer_must_meet_the_offer() {
        let check = |value: &str| {
            Deflate::check(&headers(&[value])).map(|found| found.map(Deflate::window_bits))
        };
        assert_eq!(Deflate::check(&headers(&[])), Ok(None));
        assert_eq!(check("permessage-deflate; server_no_context_takeover"), Ok(Some(15)));
        assert_eq!(check(BOTH), Ok(Some(15)));
        assert_eq!(check(&format!("{BOTH}; client_max_window_bits=9")), Ok(Some(9)));
        assert_eq!(check(&format!("{BOTH}; server_max_window_bits=8")), Ok(Some(15)));
        for bad in [
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover; x",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            "permessage-bzip2",
            "permessage-deflate; server_no_context_takeover;",
        ] {
            assert_eq!(check(bad), Err(Reason::BadHandshake), "{bad}");
        }
    }

    #[test]
    fn our_offer_is_one_that_we_would_meet() {
        assert_eq!(answer(&[OFFER]).as_deref(), Some(BOTH));
    }
}
