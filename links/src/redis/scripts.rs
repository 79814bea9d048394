//! What Redis carries out in one step. Each text begins with its keys, arguments and replies.
//!
//! Scripts without `no-writes` are refused as a whole by a replica (`READONLY`), over `maxmemory` (`OOM`), when the disk is
//! full (`MISCONF`) and with too few replicas (`NOREPLICAS`): what a bare `SPUBLISH` does not do.

/// One of the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Script {
    /// Numbers messages, keeps them, and tells all who follow the channel.
    Append,
    /// Tells all who follow the channel, and keeps nothing.
    Announce,
    /// Reads what is kept of a channel.
    Read,
    /// Tells where channels stand.
    Standing,
    /// Tells where channels stand, and founds those of which nothing is known.
    Found,
    /// Puts back what was lost.
    Heal,
    /// Begins a new epoch.
    Fork,
    /// Renews a lease.
    Beat,
    /// Gives a lease up.
    Quit,
    /// Tells all nodes something.
    Control,
    /// Reads what all nodes were told.
    Commands,
    /// Tells all nodes something that is not kept.
    Tell,
    /// Changes which connections a user has.
    Visit,
    /// Tells which connections a user has.
    Visits,
    /// Takes entries out of a queue into which others write.
    Take,
    /// Changes who is in a channel.
    Attend,
    /// Tells who is in a channel.
    Members,
    /// Keeps a session as it is.
    KeepSession,
    /// Gives a session to whoever claims it.
    ClaimSession,
    /// Keeps sessions for longer.
    RenewSessions,
    /// Ends a session.
    EndSession,
    /// Proves that writes are taken and live messages come.
    Probe,
}

impl Script {
    /// How many there are.
    pub const COUNT: usize = 22;

    /// All, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Append,
        Self::Announce,
        Self::Read,
        Self::Standing,
        Self::Found,
        Self::Heal,
        Self::Fork,
        Self::Beat,
        Self::Quit,
        Self::Control,
        Self::Commands,
        Self::Tell,
        Self::Visit,
        Self::Visits,
        Self::Take,
        Self::Attend,
        Self::Members,
        Self::KeepSession,
        Self::ClaimSession,
        Self::RenewSessions,
        Self::EndSession,
        Self::Probe,
    ];

    /// What Redis is given.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Append => include_str!("scripts/append.lua"),
            Self::Announce => include_str!("scripts/announce.lua"),
            Self::Read => include_str!("scripts/read.lua"),
            Self::Standing => include_str!("scripts/standing.lua"),
            Self::Found => include_str!("scripts/found.lua"),
            Self::Heal => include_str!("scripts/heal.lua"),
            Self::Fork => include_str!("scripts/fork.lua"),
            Self::Beat => include_str!("scripts/beat.lua"),
            Self::Quit => include_str!("scripts/quit.lua"),
            Self::Control => include_str!("scripts/control.lua"),
            Self::Commands => include_str!("scripts/commands.lua"),
            Self::Tell => include_str!("scripts/tell.lua"),
            Self::Visit => include_str!("scripts/visit.lua"),
            Self::Visits => include_str!("scripts/visits.lua"),
            Self::Take => include_str!("scripts/take.lua"),
            Self::Attend => include_str!("scripts/attend.lua"),
            Self::Members => include_str!("scripts/members.lua"),
            Self::KeepSession => include_str!("scripts/keep_session.lua"),
            Self::ClaimSession => include_str!("scripts/claim_session.lua"),
            Self::RenewSessions => include_str!("scripts/renew_sessions.lua"),
            Self::EndSession => include_str!("scripts/end_session.lua"),
            Self::Probe => include_str!("scripts/probe.lua"),
        }
    }

    /// Its name, that of its file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Announce => "announce",
            Self::Read => "read",
            Self::Standing => "standing",
            Self::Found => "found",
            Self::Heal => "heal",
            Self::Fork => "fork",
            Self::Beat => "beat",
            Self::Quit => "quit",
            Self::Control => "control",
            Self::Commands => "commands",
            Self::Tell => "tell",
            Self::Visit => "visit",
            Self::Visits => "visits",
            Self::Take => "take",
            Self::Attend => "attend",
            Self::Members => "members",
            Self::KeepSession => "keep_session",
            Self::ClaimSession => "claim_session",
            Self::RenewSessions => "renew_sessions",
            Self::EndSession => "end_session",
            Self::Probe => "probe",
        }
    }
}
