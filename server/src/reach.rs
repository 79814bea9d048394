//! Why a server was not reached, or said no: one wording for all subcommands that are clients of one, with what to do.

use std::io;

use mahavishnu_core::protocol::error_code;

use crate::{
    exit::{Exit, plain},
    out, verify,
};

/// What a connection failed of, and the exit code that it calls for. `tls`: whether it was to be over TLS.
#[expect(clippy::wildcard_enum_match_arm, reason = "there are some forty kinds, and more to come")]
pub(crate) fn unreached(error: &io::Error, tls: bool) -> (Exit, String) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            let text = "nothing listens there (connection refused); is the server running, and on this port?";
            (Exit::NotRunning, text.to_owned())
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (Exit::Timeout, LATE.to_owned()),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => (Exit::General, unanswered(tls)),
        _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            (Exit::General, verify::words(error))
        }
        _ => (Exit::General, plain(error)),
    }
}

/// The connection ended before there was an answer.
pub(crate) fn unanswered(tls: bool) -> String {
    match tls {
        true => "the server ended the connection without an answer; is it a server with TLS? without, use ws:// or http://",
        false => "the server ended the connection without an answer; if it speaks TLS, use wss:// or https://",
    }
    .to_owned()
}

/// What came was not an answer of HTTP.
pub(crate) fn no_http(tls: bool) -> String {
    match tls {
        true => "what answers there is no web server",
        false => "what answers there does not speak HTTP; if it speaks TLS, use wss:// or https://",
    }
    .to_owned()
}

/// What to do about an HTTP status that was not to be expected; nothing where nobody knows.
pub(crate) fn hint(status: u16, tls: bool) -> &'static str {
    match status {
        401 => TOKEN_HINT,
        404 => " (no Mahavishnu answers at this path; is the path of the URL right?)",
        421 => " (the server has other names: see MAHAVISHNU_ALLOWED_HOSTS)",
        426 if !tls => " (the port speaks TLS: use wss:// or https://)",
        429 => " (too many from this address)",
        502 | 504 => " (a proxy answered: is the server behind it running?)",
        _ => "",
    }
}

/// For whoever showed no token.
pub(crate) const TOKEN_HINT: &str = " (give a token by --token or MAHAVISHNU_TOKEN)";

/// What to do about a token that is missing, or that is not taken.
pub(crate) fn token_hint(error_code: &str) -> &'static str {
    match error_code {
        error_code::AUTH_FAILED => {
            " (`mahavishnu token inspect` says what is wrong with the token)"
        }
        error_code::AUTH_REQUIRED => TOKEN_HINT,
        _ => "",
    }
}

/// For whoever may not do what it wanted.
pub(crate) fn forbidden_hint(channel: &str, verb: &str) -> String {
    let verb = if verb == "publish" { " --verb publish" } else { "" };
    format!("`mahavishnu explain --channel {}{verb}` says which permission it takes", word(channel))
}

/// As a shell takes it for one word.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", out::one_line(text).replace('\'', r"'\''")),
    }
}

pub(crate) const LATE: &str = "no answer in time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_says_what_to_do() {
        for (kind, tls, exit, part) in [
            (io::ErrorKind::ConnectionRefused, false, Exit::NotRunning, "is the server running"),
            (io::ErrorKind::TimedOut, true, Exit::Timeout, "no answer in time"),
            (io::ErrorKind::UnexpectedEof, false, Exit::General, "use wss:// or https://"),
            (io::ErrorKind::ConnectionReset, true, Exit::General, "use ws:// or http://"),
        ] {
            let (code, text) = unreached(&io::Error::from(kind), tls);
            assert_eq!(code, exit, "{kind}");
            assert!(text.contains(part), "{kind}: {text}");
        }
        let (_, text) = unreached(&io::Error::from_raw_os_error(113), false);
        assert_eq!(text, "No route to host");
    }

    #[test]
    fn a_channel_is_a_word_to_paste_whatever_is_in_it() {
        let hint = |channel| forbidden_hint(channel, "publish");
        assert!(
            hint("workflow:42").starts_with("`mahavishnu explain --channel workflow:42 --verb")
        );
        assert!(
            hint("a b'\u{1b}").contains(r"--channel 'a b'\''\u001b' --verb"),
            "{}",
            hint("a b'\u{1b}")
        );
    }

    #[test]
    fn a_port_with_tls_is_told_to_those_without() {
        assert!(hint(426, false).contains("wss://"));
        assert_eq!(hint(426, true), "");
        assert_eq!(hint(401, true), TOKEN_HINT);
    }
}
