//! What worlds keep of their channels, and how many clients care.

use std::time::Duration;

use mahavishnu_core::{auth::Pattern, config, limits};

use super::{Options, channel_name};
use crate::random::Random;

/// What is kept of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) messages: u64,
    pub(crate) ms: u64,
}

impl Keep {
    pub(crate) fn is_off(self) -> bool {
        self.messages == 0 || self.ms == 0
    }
}

impl Options {
    /// History as it is by default, for nobody.
    pub(super) fn with_default_history(seed: u64) -> Self {
        Self {
            keep_messages: 100,
            keep_ms: 300_000,
            keep_channel_bytes: 1 << 20,
            keep_bytes: 64 << 20,
            recover_max: 1_000,
            page_max: 1_000,
            position_keep_ms: 86_400_000,
            queued_bytes: 256 << 20,
            members_max: 10_000,
            info_bytes: 1_024,
            changes_max: 16,
            sessions_max: 10_000,
            state_bytes: 65_536,
            store_queue_bytes: 16 << 20,
            ..Self::zero(seed)
        }
    }

    pub(super) fn draw_history(&mut self, r: &mut Random) {
        // One world in four is as it was before there were positions.
        if r.chance(750) {
            self.positions_pm = r.pick(&[300, 700, 1_000]);
            self.blink_pm = r.pick(&[0, 20, 100]);
            self.look_pm = r.pick(&[0, 20, 100]);
        }
        self.keep_messages = r.pick(&[0, 3, 20, 100, 100, 1_000]);
        self.keep_ms = r.pick(&[50, 1_000, 300_000, 300_000, 300_000]);
        self.keep_mixed = u64::from(r.chance(300));
        self.keep_changes = u64::from(r.chance(500));
        self.keep_channel_bytes = r.pick(&[2_000, 20_000, 1 << 20, 1 << 20, 1 << 20]);
        self.keep_bytes = r.pick(&[4_000, 50_000, 64 << 20, 64 << 20, 64 << 20, 64 << 20]);
        self.recover_max = r.pick(&[5, 50, 1_000, 1_000]);
        self.page_max = r.pick(&[3, 100, 1_000]);
        self.position_keep_ms = r.pick(&[200, 5_000, 86_400_000, 86_400_000, 86_400_000]);
        self.rewind_rule = if r.chance(100) { r.range(1, 20) } else { 0 };
        self.queued_bytes = r.pick(&[20_000, 256 << 20, 256 << 20, 256 << 20]);
    }

    /// What the `generation`th configuration keeps of a channel.
    pub(crate) fn keep(&self, channel: u64, generation: u64) -> Keep {
        let mut keep = Keep { messages: self.keep_messages, ms: self.keep_ms };
        match channel % 3 {
            1 if self.keep_mixed == 1 => keep.messages = 0,
            2 if self.keep_mixed == 1 => keep.messages = keep.messages.div_ceil(2),
            _ => {}
        }
        match generation % 4 {
            1 if self.keep_changes == 1 => keep.messages = keep.messages.div_ceil(2),
            2 if self.keep_changes == 1 => keep.ms = keep.ms.div_ceil(2),
            3 if self.keep_changes == 1 => keep.messages = 0,
            _ => {}
        }
        keep
    }

    /// How many of its last messages who subscribes is sent without asking.
    pub(crate) fn rewinds(&self, channel: u64) -> u64 {
        if channel % 2 == 1 { self.rewind_rule } else { 0 }
    }

    pub(super) fn history(&self, generation: u64) -> config::History {
        let pattern = |channel: u64| Pattern::parse(&channel_name(channel)).expect("a pattern");
        let keep = |channel: u64| {
            let Keep { messages, ms } = self.keep(channel, generation);
            config::Keep { messages: messages as u32, time: Duration::from_millis(ms) }
        };
        let rewound = (0..self.channels).filter(|channel| self.rewinds(*channel) > 0);
        config::History {
            default: keep(0),
            rules: (0..self.channels).map(|channel| (pattern(channel), keep(channel))).collect(),
            rewind: rewound
                .map(|channel| (pattern(channel), self.rewinds(channel) as u32))
                .collect(),
        }
    }

    pub(super) fn history_limits(&self) -> limits::History {
        limits::History {
            history_channel_bytes_max: self.keep_channel_bytes as usize,
            history_bytes_max: self.keep_bytes as usize,
            recover_messages_max: self.recover_max as u32,
            history_page_max: self.page_max as u32,
            position_keep: Duration::from_millis(self.position_keep_ms),
            state_bytes_max: self.state_bytes as usize,
            store_queue_bytes_max: self.store_queue_bytes as usize,
        }
    }
}
