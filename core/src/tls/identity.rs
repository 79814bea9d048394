//! Who a client is by its certificate, and what that permits.

use std::{fmt, sync::Arc};

/// Where in a certificate a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Alternative name, DNS: `dns`.
    Dns,
    /// Alternative name, IP address: `ip`.
    Ip,
    /// Alternative name, URI: `uri`.
    Uri,
    /// Alternative name, mail address: `email`.
    Email,
    /// Subject, common name: `cn`.
    CommonName,
    /// Subject, organization: `o`.
    Organization,
    /// Subject, organizational unit: `ou`.
    OrganizationalUnit,
}

/// One name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Where it stands.
    pub field: Field,
    /// The name; of DNS names in lower case.
    pub value: Box<str>,
}

/// Who a client is by a certificate that one of the configured authorities signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject, for logs.
    pub subject: Box<str>,
    /// All names of the certificate.
    pub names: Vec<Name>,
    /// Who signed it, as it is encoded (DER).
    pub issuer: Box<[u8]>,
    /// Its number with that issuer, as it is encoded.
    pub serial: Box<[u8]>,
}

/// Permissions for clients whose certificate has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    field: Field,
    /// What the name must be; at most one `*` stands for any text, also for none.
    pattern: Box<str>,
    permissions: Vec<Box<str>>,
}

/// A pattern that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// Not `field:name`, or the field is none of the known ones.
    Field,
    /// No name, or more than one `*` in it.
    Name,
}

impl Field {
    /// All fields by the word that configuration names them with.
    pub const WORDS: &[(&str, Self)] = &[
        ("dns", Self::Dns),
        ("ip", Self::Ip),
        ("uri", Self::Uri),
        ("email", Self::Email),
        ("cn", Self::CommonName),
        ("o", Self::Organization),
        ("ou", Self::OrganizationalUnit),
    ];

    /// Whether it is an alternative name (RFC 5280 §4.2.1.6), not part of the subject.
    #[must_use]
    pub fn is_alternative(self) -> bool {
        matches!(self, Self::Dns | Self::Ip | Self::Uri | Self::Email)
    }

    /// The field's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        let known = Self::WORDS.iter().find(|(_, field)| *field == self);
        known.map_or("", |(word, _)| word)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.field.word(), self.value)
    }
}

impl Identity {
    /// What to call this client: its common name, else its first alternative name, else the subject.
    #[must_use]
    pub fn user(&self) -> Arc<str> {
        let named = self.names.iter().find(|name| name.field == Field::CommonName);
        named.or_else(|| self.names.first()).map_or(&*self.subject, |name| &*name.value).into()
    }

    /// All permissions that `grants` have for this client; `None` if no grant names it.
    #[must_use]
    pub fn permissions(&self, grants: &[Grant]) -> Option<Vec<Box<str>>> {
        let mut fitting = grants.iter().filter(|grant| grant.fits(self)).peekable();
        fitting.peek()?;
        let mut permissions: Vec<Box<str>> =
            fitting.flat_map(|grant| &grant.permissions).cloned().collect();
        permissions.sort_unstable();
        permissions.dedup();
        Some(permissions)
    }
}

impl Grant {
    /// `pattern` is a field and a name with a colon between: `dns:*.agents.example.com`, `cn:dashboard`.
    ///
    /// # Errors
    ///
    /// What is wrong with the pattern.
    pub fn new(pattern: &str, permissions: Vec<Box<str>>) -> Result<Self, PatternError> {
        let (word, name) = pattern.split_once(':').ok_or(PatternError::Field)?;
        let known = Field::WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word.trim()));
        let (_, field) = known.ok_or(PatternError::Field)?;
        let name = name.trim();
        if name.is_empty() || name.matches('*').count() > 1 {
            return Err(PatternError::Name);
        }
        let name = if *field == Field::Dns { name.to_ascii_lowercase() } else { name.to_owned() };
        Ok(Self { field: *field, pattern: name.into(), permissions })
    }

    /// Whether a name of `identity` is meant.
    #[must_use]
    pub fn fits(&self, identity: &Identity) -> bool {
        identity.names.iter().any(|name| name.field == self.field && self.matches(&name.value))
    }

    fn matches(&self, value: &str) -> bool {
        match self.pattern.split_once('*') {
            None => *self.pattern == *value,
            Some((before, after)) => {
                // Before and after must not share a character.
                value.len() >= before.len() + after.len()
                    && value.starts_with(before)
                    && value.ends_with(after)
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.field.word(), self.pattern, self.permissions.join("|"))
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Field => "a pattern begins with dns:, ip:, uri:, email:, cn:, o: or ou:",
            Self::Name => "a pattern has a name, with at most one * in it",
        })
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(names: &[(Field, &str)]) -> Identity {
        let names =
            names.iter().map(|(field, value)| Name { field: *field, value: (*value).into() });
        let [issuer, serial] = [Box::default(), Box::default()];
        Identity { subject: "CN=x".into(), names: names.collect(), issuer, serial }
    }

    fn grant(pattern: &str, permissions: &[&str]) -> Grant {
        Grant::new(pattern, permissions.iter().map(|p| (*p).into()).collect()).unwrap()
    }

    #[test]
    fn a_grant_fits_by_field_and_pattern() {
        let agent = identity(&[(Field::Dns, "a.agents.example"), (Field::CommonName, "ops")]);
        assert!(grant("dns:*.agents.example", &[]).fits(&agent));
        assert!(grant("DNS:A.Agents.Example", &[]).fits(&agent));
        assert!(grant("cn:ops", &[]).fits(&agent));
        assert!(!grant("dns:ops", &[]).fits(&agent), "another field");
        assert!(!grant("dns:*.agents.example.org", &[]).fits(&agent));
        assert!(!grant("cn:ops*ops", &[]).fits(&agent), "ends must not overlap");
        assert!(!grant("cn:Ops", &[]).fits(&agent), "only DNS names ignore case");
    }

    #[test]
    fn permissions_of_all_fitting_grants_add_up() {
        let grants = [
            grant("cn:*", &["read"]),
            grant("cn:ops", &["admin", "read"]),
            grant("o:x", &["write"]),
        ];
        let ops = identity(&[(Field::CommonName, "ops")]);
        assert_eq!(ops.permissions(&grants), Some(vec!["admin".into(), "read".into()]));
        assert_eq!(identity(&[(Field::Dns, "ops")]).permissions(&grants), None);
    }

    #[test]
    fn bad_patterns_are_told_apart() {
        for (pattern, error) in [
            ("ops", PatternError::Field),
            ("subject:ops", PatternError::Field),
            ("cn:", PatternError::Name),
            ("cn:*a*", PatternError::Name),
        ] {
            assert_eq!(Grant::new(pattern, Vec::new()), Err(error), "{pattern}");
        }
    }

    #[test]
    fn a_client_is_called_by_its_common_name_first() {
        let both = identity(&[(Field::Dns, "a.example"), (Field::CommonName, "ops")]);
        assert_eq!(&*both.user(), "ops");
        assert_eq!(&*identity(&[(Field::Dns, "a.example")]).user(), "a.example");
        assert_eq!(&*identity(&[]).user(), "CN=x");
    }
}
