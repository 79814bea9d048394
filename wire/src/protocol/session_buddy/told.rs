//! What the server sends.

use super::{
    super::{
        envelope::{Data, Envelope},
        json::write_string,
        names::Kind,
        timestamp::Timestamp,
    },
    Anomaly, GREETING, Skill, Skills, skills,
};

/// A message of the server.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// The first one: of every connection, or with authentication of every one that has authenticated.
    Connected {
        /// Whether the connection has a user.
        authenticated: bool,
        /// When.
        timestamp: &'a Timestamp,
    },
    /// Answers `subscribe`.
    SubscriptionConfirmed {
        /// The skill. `None`: all.
        skill: Option<&'a str>,
        /// When.
        timestamp: &'a Timestamp,
    },
    /// Answers `ping`.
    Pong,
}

/// The `type` of a message of the server's, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `connected`
    Connected,
    /// `subscription_confirmed`
    SubscriptionConfirmed,
    /// `metrics_update`
    MetricsUpdate,
    /// `pong`
    Pong,
}

impl Word {
    /// Every word; [`index`](Self::index) is the position in it.
    pub const ALL: [Self; 4] =
        [Self::Connected, Self::SubscriptionConfirmed, Self::MetricsUpdate, Self::Pong];

    /// The word on the wire and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::SubscriptionConfirmed => "subscription_confirmed",
            Self::MetricsUpdate => "metrics_update",
            Self::Pong => "pong",
        }
    }

    /// A dense number for tallies.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl<'a> Told<'a> {
    /// What a connection of this protocol is sent where one of the family's own would be sent `message`. `None`: nothing, for
    /// this protocol has no such message.
    #[must_use]
    pub fn instead_of(message: &Envelope<'a>) -> Option<Self> {
        match (message.kind, &message.data) {
            (_, Data::Welcome(welcome)) => Some(Self::Connected {
                authenticated: welcome.authenticated,
                timestamp: message.timestamp,
            }),
            (Kind::Pong, _) => Some(Self::Pong),
            _ => None,
        }
    }

    /// Its `type`.
    #[must_use]
    pub const fn word(&self) -> Word {
        match self {
            Self::Connected { .. } => Word::Connected,
            Self::SubscriptionConfirmed { .. } => Word::SubscriptionConfirmed,
            Self::Pong => Word::Pong,
        }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        begin(out, self.word());
        match self {
            Self::Connected { authenticated, timestamp } => {
                out.extend_from_slice(b",\"message\":");
                write_string(out, GREETING);
                out.extend_from_slice(b",\"authenticated\":");
                out.extend_from_slice(if *authenticated { b"true" } else { b"false" });
                stamp(out, timestamp);
            }
            Self::SubscriptionConfirmed { skill, timestamp } => {
                out.extend_from_slice(b",\"skill\":");
                match skill {
                    Some(skill) => write_string(out, skill),
                    None => out.extend_from_slice(b"null"),
                }
                stamp(out, timestamp);
            }
            Self::Pong => {}
        }
        out.push(b'}');
    }
}

impl Skills {
    /// Appends the message that tells of all skills at a moment, given as both text and time after the epoch.
    pub fn write_update(
        &self,
        timestamp: &Timestamp,
        unix: std::time::Duration,
        out: &mut Vec<u8>,
    ) {
        update(out, timestamp, self.top(), self.anomalies(unix));
    }
}

impl Skill {
    /// Appends the message that tells of this skill alone. It tells of no anomalies.
    pub fn write_update(&self, timestamp: &Timestamp, out: &mut Vec<u8>) {
        update(out, timestamp, std::slice::from_ref(self), std::iter::empty());
    }
}

fn update<'s>(
    out: &mut Vec<u8>,
    timestamp: &Timestamp,
    top: &[Skill],
    anomalies: impl Iterator<Item = &'s Anomaly>,
) {
    begin(out, Word::MetricsUpdate);
    stamp(out, timestamp);
    out.extend_from_slice(b",\"data\":{");
    skills::write(out, top, anomalies);
    out.extend_from_slice(b"}}");
}

fn begin(out: &mut Vec<u8>, word: Word) {
    out.extend_from_slice(b"{\"type\":");
    write_string(out, word.as_str());
}

fn stamp(out: &mut Vec<u8>, timestamp: &Timestamp) {
    out.extend_from_slice(b",\"timestamp\":");
    write_string(out, timestamp.as_str());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::{
        super::super::{Stamp, Welcome},
        *,
    };
    use crate::reason::Reason;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_are_those_of_the_service() {
        let unix = Duration::from_secs(1_770_724_800);
        let timestamp = &Timestamp::from_unix(unix);
        let told = |told: Told<'_>| written(|out| told.write(out));
        assert_eq!(
            told(Told::Connected { authenticated: true, timestamp }),
            r#"{"type":"connected","message":"Connected to Session-Buddy real-time metrics","authenticated":true,"timestamp":"2026-02-10T12:00:00.000000+00:00"}"#
        );
        assert_eq!(
            told(Told::SubscriptionConfirmed { skill: Some("a\"b"), timestamp }),
            r#"{"type":"subscription_confirmed","skill":"a\"b","timestamp":"2026-02-10T12:00:00.000000+00:00"}"#
        );
        assert_eq!(
            told(Told::SubscriptionConfirmed { skill: None, timestamp }),
            r#"{"type":"subscription_confirmed","skill":null,"timestamp":"2026-02-10T12:00:00.000000+00:00"}"#
        );
        assert_eq!(told(Told::Pong), r#"{"type":"pong"}"#);

        let mut skills = Skills::default();
        assert_eq!(
            written(|out| skills.write_update(timestamp, unix, out)),
            r#"{"type":"metrics_update","timestamp":"2026-02-10T12:00:00.000000+00:00","data":{"top_skills":[],"anomalies":[]}}"#
        );
        skills.fold(
            super::super::METRICS,
            r#"{"skill_name":"a","total_invocations":3,"completion_rate":92.5,"avg_duration_seconds":1}"#,
            unix,
        );
        skills.fold(
            super::super::ANOMALY,
            r#"{"skill_name":"a","anomaly_type":"drop","deviation_score":2.5,"detected_at":"2026-02-10T11:30:00Z"}"#,
            unix,
        );
        let skill = r#"{"skill_name":"a","total_invocations":3,"completion_rate":92.5,"avg_duration_seconds":1}"#;
        let begins =
            r#"{"type":"metrics_update","timestamp":"2026-02-10T12:00:00.000000+00:00","data":{"#;
        assert_eq!(
            written(|out| skills.write_update(timestamp, unix, out)),
            format!(
                r#"{begins}"top_skills":[{skill}],"anomalies":[{{"skill_name":"a","detected_at":"2026-02-10T11:30:00Z","anomaly_type":"drop","deviation_score":2.5}}]}}}}"#
            )
        );
        let one = written(|out| skills.top()[0].write_update(timestamp, out));
        assert_eq!(one, format!(r#"{begins}"top_skills":[{skill}],"anomalies":[]}}}}"#));
    }

    #[test]
    fn of_the_familys_messages_only_the_welcome_and_pongs_have_a_counterpart() {
        let timestamp = &Timestamp::from_unix(Duration::ZERO);
        let stamp = Stamp { id: Uuid::nil(), timestamp };
        let welcome = Welcome {
            connection_id: Uuid::nil(),
            server: "s",
            message: "m",
            authenticated: false,
            secure: true,
            rate_limit: None,
            extras: &[],
        };
        let word = |message: Envelope<'_>| Told::instead_of(&message).map(|told| told.word());
        assert_eq!(word(Envelope::welcome(stamp, welcome)), Some(Word::Connected));
        assert_eq!(word(Envelope::pong(stamp, None)), Some(Word::Pong));
        assert_eq!(word(Envelope::error(stamp, Reason::AuthFailed, None, None)), None);
        assert_eq!(word(Envelope::authenticated(stamp, None, None)), None);
        assert_eq!(word(Envelope::closing(stamp, "{}")), None);
        for (index, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word.index(), index);
        }
    }
}
