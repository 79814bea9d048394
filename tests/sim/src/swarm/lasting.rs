//! What outlives a message or a connection: members, sessions and documents.

use std::time::Duration;

use mahavishnu_core::{auth::Pattern, limits};

use super::{Options, channel_name};
use crate::random::Random;

impl Options {
    pub(super) fn draw_members(&mut self, r: &mut Random) {
        if r.chance(600) {
            self.attend_pm = r.pick(&[300, 700, 1_000]);
        }
        self.members_max = r.pick(&[2, 5, 10_000, 10_000]);
        self.info_bytes = r.pick(&[40, 1_024]);
        self.changes_max = r.pick(&[1, 3, 16]);
    }

    pub(super) fn draw_sessions(&mut self, r: &mut Random) {
        if r.chance(600) {
            self.sessions_pm = r.pick(&[300, 700, 1_000]);
        }
        self.session_ms = r.pick(&[0, 1_000, 2_000, 5_000, 60_000, 60_000]);
        self.sessions_max = r.pick(&[3, 10_000, 10_000]);
        self.break_pm = r.pick(&[0, 20, 50, 100]);
        self.thief_pm = r.pick(&[0, 10, 30]);
    }

    pub(super) fn draw_documents(&mut self, r: &mut Random) {
        if r.chance(500) {
            self.state_pm = r.pick(&[100, 500, 900]);
        }
        self.state_bytes = r.pick(&[100, 65_536]);
    }

    /// Whether a channel tells who is in it.
    pub(crate) fn has_presence(&self, channel: u64) -> bool {
        self.attend_pm > 0 && channel % 3 != 2
    }

    pub(super) fn presence(&self) -> Vec<(Pattern, bool)> {
        let channels = (0..self.channels).filter(|channel| self.has_presence(*channel));
        channels
            .map(|channel| (Pattern::parse(&channel_name(channel)).expect("a pattern"), true))
            .collect()
    }

    pub(super) fn presence_limits(&self) -> limits::Presence {
        limits::Presence {
            presence_members_max: self.members_max as u32,
            presence_info_bytes_max: self.info_bytes as usize,
            presence_changes_max: self.changes_max as u32,
            ..limits::Presence::default()
        }
    }

    pub(super) fn session_limits(&self) -> limits::Sessions {
        limits::Sessions {
            session_window: Duration::from_millis(self.session_ms),
            sessions_max: self.sessions_max as usize,
            ..limits::Sessions::default()
        }
    }
}
