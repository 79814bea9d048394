//! Commands as clients send them: arrays of bulk strings.

/// Command and arguments.
pub(crate) type Words = Vec<Vec<u8>>;

/// What is first in a connection's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Not all there yet.
    Partial,
    /// A command, which may be empty, and how many bytes it takes.
    Command(Words, usize),
    /// Not what clients send, for this reason.
    Malformed(&'static str),
}

/// Arguments of one command; `proto-max-bulk-len` and the limit of multi-bulk requests.
const WORDS_MAX: usize = 1024 * 1024;
const WORD_MAX: usize = 512 * 1024 * 1024;

/// What is first in `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Request {
    if bytes.is_empty() {
        return Request::Partial;
    }
    if bytes[0] != b'*' {
        // Redis would read a line of words here, which no program sends.
        return Request::Malformed("expected '*'");
    }
    let mut at = 0;
    let Some(count) = line(bytes, &mut at) else { return Request::Partial };
    let Some(count) = number(&count[1..], WORDS_MAX) else {
        return Request::Malformed("invalid multibulk length");
    };
    let mut words = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        match bytes.get(at) {
            None => return Request::Partial,
            Some(b'$') => {}
            Some(_) => return Request::Malformed("expected '$'"),
        }
        let Some(length) = line(bytes, &mut at) else { return Request::Partial };
        let Some(length) = number(&length[1..], WORD_MAX) else {
            return Request::Malformed("invalid bulk length");
        };
        let Some(word) = bytes.get(at..at + length) else { return Request::Partial };
        if bytes.len() < at + length + 2 {
            return Request::Partial;
        }
        words.push(word.to_vec());
        at += length + 2;
    }
    Request::Command(words, at)
}

/// The line that begins at `at`, which moves behind it.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

fn number(digits: &[u8], most: usize) -> Option<usize> {
    let number: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_once_its_last_byte_is_there() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n*1\r\n";
        let whole = bytes.len() - 4;
        for end in 0..whole {
            assert_eq!(parse(&bytes[..end]), Request::Partial, "{end}");
        }
        let words = vec![b"GET".to_vec(), b"\r\n".to_vec()];
        assert_eq!(parse(bytes), Request::Command(words, whole));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bytes in [&b"GET k\r\n"[..], b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n"] {
            assert!(matches!(parse(bytes), Request::Malformed(_)), "{bytes:?}");
        }
    }
}
