//! Session-Buddy's messages. It is the one service of the family with a protocol of its own: no ids, no events, no error
//! messages; whoever connects is sent the figures of skills once a second.
//!
//! A client's message is an [`Asked`], the server's is a [`Told`]. What the figures are made of is the document of one channel,
//! [`CHANNEL`], into which [`Skills`] folds the events that are published there.
//!
//! ```
//! use mahavishnu_wire::protocol::session_buddy::{Asked, Skills, Told};
//!
//! let asked = Asked::read(r#"{"type":"subscribe","skill":"pytest-run"}"#)?;
//! assert_eq!(asked, Asked::Subscribe { skill: Some("pytest-run".into()) });
//!
//! let mut out = Vec::new();
//! Told::Pong.write(&mut out);
//! assert_eq!(out, br#"{"type":"pong"}"#);
//!
//! let mut skills = Skills::default();
//! let data = r#"{"skill_name":"pytest-run","total_invocations":3,"completion_rate":92.5,"avg_duration_seconds":4.2}"#;
//! assert!(skills.fold("skill.metrics", data, std::time::Duration::ZERO));
//! assert_eq!(Skills::read(&skills.to_json()), Some(skills));
//! # Ok::<(), mahavishnu_wire::protocol::DecodeError>(())
//! ```

mod asked;
mod moment;
mod skills;
mod told;

pub use asked::Asked;
pub use skills::{Anomaly, Skill, Skills};
pub use told::{Told, Word};

/// The channel whose events are folded into what clients are sent.
pub const CHANNEL: &str = "skills";
/// The event that says how a skill does, in absolute figures: `skill_name`, `total_invocations`, `completion_rate`,
/// `avg_duration_seconds`.
pub const METRICS: &str = "skill.metrics";
/// The event that says that a skill does unusually: `skill_name`, `anomaly_type`, `deviation_score`, and `detected_at`, without
/// which it is when it was published.
pub const ANOMALY: &str = "skill.anomaly";

/// What a connection is greeted with.
pub const GREETING: &str = "Connected to Session-Buddy real-time metrics";

/// Skills that clients are sent at once, those with the most invocations: 10.
pub const TOP_SKILLS_MAX: usize = 10;
/// Anomalies that are kept and sent, the latest ones: 10.
pub const ANOMALIES_MAX: usize = 10;
/// Skills that are kept: 100. Beyond, those with the fewest invocations go.
pub const SKILLS_MAX: usize = 100;
/// Bytes of a skill's name, of an anomaly's type and of its time: 256. What has a longer one is left out.
pub const NAME_BYTES_MAX: usize = 256;
