//! A session as a store keeps it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Terms;

/// What is known of a session again after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) public: Uuid,
    pub(super) user: Option<Arc<str>>,
    /// How long it waits after the end of a connection.
    pub(super) ttl: Duration,
    /// When its connection ended, since the Unix epoch. `None`: it had one when this was written.
    pub(super) since: Option<Duration>,
    pub(super) channels: BTreeMap<Arc<str>, Terms>,
}

/// The form on disk, behind one byte for its version. Moments are in milliseconds.
#[derive(Serialize, Deserialize)]
struct Form<'a> {
    public: [u8; 16],
    #[serde(borrow)]
    user: Option<&'a str>,
    ttl: u64,
    since: Option<u64>,
    #[serde(borrow)]
    channels: Vec<(&'a str, bool, Option<&'a str>)>,
}

impl Kept {
    pub(super) fn write(
        (public, user): (Uuid, Option<&str>),
        ttl: Duration,
        since: Option<Duration>,
        channels: &BTreeMap<Arc<str>, Terms>,
    ) -> Bytes {
        let form = Form {
            public: public.into_bytes(),
            user,
            ttl: millis(ttl),
            since: since.map(millis),
            channels: channels.iter().map(channel_form).collect(),
        };
        // Encoding plain data into memory cannot fail.
        postcard::to_extend(&form, vec![VERSION]).unwrap_or_default().into()
    }

    /// `None`: of another version, or damaged.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let (&VERSION, form) = record.split_first()? else { return None };
        let form: Form<'_> = postcard::from_bytes(form).ok()?;
        let channel = |(name, positions, presence): (&str, bool, Option<&str>)| {
            (name.into(), Terms { positions, presence: presence.map(Into::into) })
        };
        Some(Self {
            public: Uuid::from_bytes(form.public),
            user: form.user.map(Into::into),
            ttl: Duration::from_millis(form.ttl),
            since: form.since.map(Duration::from_millis),
            channels: form.channels.into_iter().map(channel).collect(),
        })
    }
}

fn channel_form<'a>((name, terms): (&'a Arc<str>, &'a Terms)) -> (&'a str, bool, Option<&'a str>) {
    (name, terms.positions, terms.presence.as_deref())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_record_is_not_read() {
        let good = Kept::write(
            (Uuid::max(), Some("ada")),
            Duration::from_secs(60),
            None,
            &BTreeMap::new(),
        );
        assert!(Kept::read(&good).is_some());
        assert_eq!(Kept::read(b""), None);
        assert_eq!(Kept::read(&[&[VERSION + 1], &good[1..]].concat()), None);
        for len in 0..good.len() {
            assert_eq!(Kept::read(&good[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn a_session_reads_back(
            public: [u8; 16], user: Option<String>, ttl in 0_u64..1 << 40, since in prop::option::of(0_u64..1 << 50),
            channels: Vec<(String, bool, Option<String>)>,
        ) {
            let channels = channels.into_iter().map(|(name, positions, presence)| {
                (name.into(), Terms { positions, presence: presence.map(Into::into) })
            });
            let public = Uuid::from_bytes(public);
            let kept = Kept {
                public,
                user: user.as_deref().map(Into::into),
                ttl: Duration::from_millis(ttl),
                since: since.map(Duration::from_millis),
                channels: channels.collect(),
            };
            let record = Kept::write((public, kept.user.as_deref()), kept.ttl, kept.since, &kept.channels);
            prop_assert_eq!(Kept::read(&record), Some(kept));
        }

        #[test]
        fn damage_is_no_panic(record: Vec<u8>) {
            let _ = Kept::read(&record);
            let _ = Kept::read(&[&[VERSION], &*record].concat());
        }
    }
}
