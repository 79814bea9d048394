//! How a PEM document (RFC 7468) comes apart into blocks, none of which gets lost.
//!
//! Read is what OpenSSL reads, and what RFC 7468 §3 lets a lax reader take: blocks that follow each other on one line,
//! indentation, all of a block on one line, a byte order mark, quotes around it. What looks like a block and is none is
//! refused with its line. Text between blocks is passed over, and so is a block whose lines begin with `#`.

use std::fmt;

use rustls::pki_types::pem::{PemObject, SectionKind};

/// One block.
pub(super) struct Block<'a> {
    /// What stands between `BEGIN` and the dashes.
    label: &'a [u8],
    /// The line of its `BEGIN`, counted from 1.
    pub(super) line: usize,
    body: &'a [u8],
}

/// What a block holds, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    RevocationList,
    /// Of a form that can be used.
    Key,
    /// By its label, or its header (RFC 1421 §4.6.1.1).
    EncryptedKey,
    /// Of a form that cannot.
    OtherKey,
    /// With OpenSSL's own notes behind the certificate.
    TrustedCertificate,
    /// A bag of certificates.
    Pkcs7,
    Other,
}

/// What is wrong with a document, as PEM. Never repeats what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemFault {
    /// A line that is meant to begin a block.
    Begin,
    /// Something in front of `BEGIN` on its line.
    Before,
    /// A block without its `END`.
    Unfinished,
    /// `END` of another kind than `BEGIN`.
    OtherEnd,
    /// `END` without `BEGIN`.
    EndAlone,
    /// Something that is not base64.
    Letter,
    /// Line breaks that are written as `\n`.
    WrittenBreaks,
    /// Base64 that ends too early, or has more behind its end.
    Base64,
    /// Not one complete DER element.
    Der,
    /// `TRUSTED CERTIFICATE`.
    Trusted,
    /// `PKCS7`.
    Pkcs7,
}

/// All blocks of a document, or the line and fault of the first that is broken.
pub(super) fn blocks(document: &[u8]) -> Result<Vec<Block<'_>>, (usize, PemFault)> {
    let mut scan = Scan { document, at: 0, counted: (0, 1) };
    let mut all = Vec::new();
    while let Some(block) = scan.next_block()? {
        all.push(block);
    }
    Ok(all)
}

struct Scan<'a> {
    document: &'a [u8],
    at: usize,
    /// A place, and its line: so that all of them are counted once.
    counted: (usize, usize),
}

impl<'a> Scan<'a> {
    fn rest(&self, from: usize) -> &'a [u8] {
        self.document.get(from..).unwrap_or_default()
    }

    fn part(&self, from: usize, to: usize) -> &'a [u8] {
        self.document.get(from..to).unwrap_or_default()
    }

    /// The line of a place that is not before the last one that was asked for.
    fn line(&mut self, at: usize) -> usize {
        let (from, line) = self.counted;
        let line = line + breaks(self.part(from, at));
        self.counted = (at.max(from), line);
        line
    }

    /// Goes through the text between blocks, line by line.
    fn next_block(&mut self) -> Result<Option<Block<'a>>, (usize, PemFault)> {
        while self.at < self.document.len() {
            let rest = self.rest(self.at);
            let length = rest.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(rest.len());
            let text = self.part(self.at, self.at + length);
            // Cut off in the middle of a BEGIN; five dashes alone are a ruler.
            let is_last = self.at + length == self.document.len();
            if is_last && text.len() > DASHES.len() && BEGIN.starts_with(text) {
                return Err((self.line(self.at), PemFault::Begin));
            }
            match begin(text) {
                Some(Ok((before, label))) => return self.block(before, label).map(Some),
                Some(Err(fault)) => return Err((self.line(self.at), fault)),
                None => self.at += length + 1,
            }
        }
        Ok(None)
    }

    fn block(&mut self, before: usize, label: &'a [u8]) -> Result<Block<'a>, (usize, PemFault)> {
        let start = self.at + before;
        let line = self.line(start);
        let body = start + BEGIN.len() + label.len() + DASHES.len();
        let rest = self.rest(body);
        let length = find(rest, b"--").ok_or((line, PemFault::Unfinished))?;
        let end = self.rest(body + length);
        let after = end.strip_prefix(END).ok_or((line, PemFault::Unfinished))?;
        let closed = after.strip_prefix(label).filter(|rest| rest.starts_with(DASHES));
        if closed.is_none() {
            return Err((self.line(body + length), PemFault::OtherEnd));
        }
        self.at = body + length + END.len() + label.len() + DASHES.len();
        Ok(Block { label, line, body: rest.get(..length).unwrap_or_default() })
    }
}

/// Where in a line a block begins, and its label; `None` if it is text.
fn begin(line: &[u8]) -> Option<Result<(usize, &[u8]), PemFault>> {
    let bare = line.iter().position(|byte| !is_around(*byte)).unwrap_or(line.len());
    let text = line.get(bare..).unwrap_or_default();
    if text.starts_with(b"#") || text.starts_with(b";") || text.starts_with(b"//") {
        return None;
    }
    if text.starts_with(END) {
        return Some(Err(PemFault::EndAlone));
    }
    if let Some(rest) = text.strip_prefix(BEGIN) {
        let label = find(rest, DASHES).and_then(|length| rest.get(..length));
        let label = label.filter(|label| {
            label.trim_ascii() == *label && !label.iter().any(u8::is_ascii_lowercase)
        });
        return Some(label.map(|label| (bare, label)).ok_or(PemFault::Begin));
    }
    // Neither: but is it meant? Words about such a line go on behind it, or have no dashes.
    let last = line.iter().rposition(|byte| !is_around(*byte)).map_or(0, |last| last + 1);
    let line = line.get(..last).unwrap_or_default();
    let dash = |text: &[u8]| DASH.iter().any(|dash| text.ends_with(dash));
    let word = find(&line.to_ascii_lowercase(), b"begin ").filter(|_| dash(line))?;
    if find(line, BEGIN).is_some() {
        return Some(Err(PemFault::Before));
    }
    let lead = line.get(..word).unwrap_or_default();
    (dash(lead) || lead.is_empty()).then_some(Err(PemFault::Begin))
}

impl Block<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.label {
            // RFC 7468 §5.1 and the older name that OpenSSL reads, too.
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Kind::Certificate,
            b"TRUSTED CERTIFICATE" => Kind::TrustedCertificate,
            b"X509 CRL" => Kind::RevocationList,
            b"PKCS7" | b"CMS" | b"PKCS #7 SIGNED DATA" => Kind::Pkcs7,
            b"ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            label if label.ends_with(b"PRIVATE KEY") && self.is_encrypted() => Kind::EncryptedKey,
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => Kind::Key,
            label if label.ends_with(b"PRIVATE KEY") => Kind::OtherKey,
            _ => Kind::Other,
        }
    }

    fn is_encrypted(&self) -> bool {
        find(self.body, b"4,ENCRYPTED").is_some()
    }

    /// What is in it, decoded, and of which kind: one complete DER element.
    pub(super) fn decode(&self) -> Result<(SectionKind, Vec<u8>), (usize, PemFault)> {
        let label = if self.kind() == Kind::Certificate { b"CERTIFICATE" } else { self.label };
        let header = self.header_length();
        let content = self.body.get(header..).unwrap_or_default();
        // The decoder of rustls, which gives nothing about a key away by its time, passes over what is behind dashes
        // and indents nothing: it gets each block in the plainest form.
        let mut plain = Vec::with_capacity(content.len() + 2 * label.len() + 40);
        plain.extend_from_slice(&[BEGIN, label, DASHES, b"\n"].concat());
        let start = plain.len();
        for (at, byte) in content.iter().enumerate().filter(|(_, byte)| !is_space(**byte)) {
            if !byte.is_ascii_alphanumeric() && !b"+/=".contains(byte) {
                let fault = if *byte == b'\\' { PemFault::WrittenBreaks } else { PemFault::Letter };
                let before = self.body.get(..header + at).unwrap_or_default();
                return Err((self.line + breaks(before), fault));
            }
            plain.push(*byte);
        }
        if !(plain.len() - start).is_multiple_of(4) {
            return Err((self.line, PemFault::Base64));
        }
        plain.extend_from_slice(&[b"\n", END, label, DASHES, b"\n"].concat());
        let decoded = <(SectionKind, Vec<u8>)>::from_pem_slice(&plain);
        let (kind, der) = decoded.map_err(|_| (self.line, PemFault::Base64))?;
        if is_one_element(&der) { Ok((kind, der)) } else { Err((self.line, PemFault::Der)) }
    }

    /// Headers (RFC 1421 §4.4) end with an empty line.
    fn header_length(&self) -> usize {
        let lines = self.body.split_inclusive(|byte| *byte == b'\n');
        let mut lines = lines.scan(0, |end, line| {
            *end += line.len();
            Some((line.trim_ascii(), *end))
        });
        match lines.find(|(line, _)| !line.is_empty()) {
            Some((first, _)) if first.contains(&b':') => {
                lines.find(|(line, _)| line.is_empty()).map_or(0, |(_, end)| end)
            }
            Some(_) | None => 0,
        }
    }
}

/// Whether these bytes are one SEQUENCE (X.690 §8.1), whole and nothing else. What was cut at the end of a line is
/// good base64.
fn is_one_element(der: &[u8]) -> bool {
    let Some((&[0x30, first], rest)) = der.split_first_chunk() else { return false };
    let Some(count) = first.checked_sub(0x80).map(usize::from) else {
        return rest.len() == usize::from(first);
    };
    let Some((length, content)) = rest.split_at_checked(count) else { return false };
    let length = length
        .iter()
        .try_fold(0_usize, |length, byte| Some(length.checked_mul(256)? + usize::from(*byte)));
    length == Some(content.len())
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "not quite a BEGIN line; write -----BEGIN NAME-----, in capitals, with five dashes on each side",
            Self::Before => "something stands before BEGIN; put BEGIN on a line of its own",
            Self::Unfinished => "the block that begins here has no END line; the file is cut off or a line is lost",
            Self::OtherEnd => "the END line is not that of the BEGIN line before it",
            Self::EndAlone => "an END line without BEGIN; a line is lost",
            Self::Letter => "not base64; copy the block again, unchanged",
            Self::WrittenBreaks => "line breaks are written as \\n; `printf '%b'` makes real ones of them",
            Self::Base64 => "the block that begins here is not complete base64; copy it again, unchanged",
            Self::Der => "the block that begins here is damaged: not the format that its BEGIN line promises; copy it again, unchanged",
            Self::Trusted => "a TRUSTED CERTIFICATE has notes of OpenSSL's; `openssl x509 -in FILE -out PLAIN` takes them off",
            Self::Pkcs7 => "certificates in a PKCS #7 bag; `openssl pkcs7 -print_certs -in FILE -out PLAIN` takes them out",
        })
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Lines that end in a text: by LF, CR LF or CR.
fn breaks(text: &[u8]) -> usize {
    let lf = text.iter().filter(|byte| **byte == b'\n').count();
    let next = text.iter().skip(1).chain([&0]);
    let cr = text.iter().zip(next).filter(|(one, next)| **one == b'\r' && **next != b'\n');
    lf + cr.count()
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// What may stand around a block without being part of it: spaces, quotes, the bytes of U+FEFF.
fn is_around(byte: u8) -> bool {
    is_space(byte) || b"\"'\xef\xbb\xbf".contains(&byte)
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Word processors make longer ones of them.
const DASH: [&[u8]; 3] = [b"-", "\u{2013}".as_bytes(), "\u{2014}".as_bytes()];
