//! Sessions: until when each certainly can be resumed, from when on it certainly cannot, and what it consists of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Attendance, Oracle};
use crate::clock::{MILLI, Nanos, SECOND};

/// What a connection had when it was gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estate {
    /// What it certainly was subscribed to, and how it attended.
    pub(crate) sure: BTreeMap<u64, Option<Attendance>>,
    /// What it was subscribed to without knowing how it attended: it was resumed, and not subscribed to again.
    pub(crate) doubtful: BTreeSet<u64>,
    /// What it may have been subscribed to besides.
    pub(crate) perhaps: BTreeSet<u64>,
}

impl Estate {
    /// How it attended a channel, if that is certain.
    pub(crate) fn attended(&self, channel: u64) -> Option<Option<Attendance>> {
        self.sure.get(&channel).copied().filter(|_| !self.doubtful.contains(&channel))
    }
}

#[derive(Debug)]
struct Session {
    id: String,
    user: Option<&'static str>,
    /// The name by which others know whoever has it.
    name: String,
    /// For how long it waits: at least and at most.
    ttl: (Nanos, Nanos),
    /// What was asked for since and not answered: it may be so by now.
    wanted: Vec<Nanos>,
    /// The connection that has it, or had it last.
    holder: usize,
    /// Connections that had it before.
    past: BTreeSet<usize>,
    /// Connections that asked for it and were not answered.
    claims: BTreeSet<usize>,
    /// Somebody has asked for it since its holder has it.
    claimed: bool,
    /// Until then somebody whose connection has ended may be heard of yet who asked for it.
    unsettled: Nanos,
    /// And until then somebody who asked for it and has closed since, with which the session ends, even if others have it.
    ends_by: Nanos,
    /// If nobody has it: until when it can be resumed, at least and at most.
    until: Option<(Nanos, Nanos)>,
    /// Until when a member may stay that an earlier connection was: what is not resumed stays as long as it was to.
    stays: Nanos,
    /// `None`: nobody knows.
    estate: Option<Estate>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// A hub tells it at the end of its turn: not before then,
    since: Nanos,
    /// and by then.
    by: Nanos,
    /// A session ended with it.
    over: bool,
}

/// Somebody was told what can only be if a connection has ended. A hub may say so before it tells of the end, which comes
/// with its next turn.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// What was told came by then.
    at: Nanos,
    /// And if the session ended with it.
    over: bool,
    who: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Vec<Session>,
    ids: BTreeMap<String, usize>,
    /// Connections that have ended.
    ended: BTreeMap<usize, Ended>,
    /// Connections of which nobody has heard the end yet, and which must have ended.
    owed: BTreeMap<usize, Owed>,
    /// Close codes that clients have sent of their own accord.
    said: BTreeMap<usize, u16>,
    /// When somebody asked to keep one and was not answered: it may exist.
    asked: BTreeMap<usize, Nanos>,
}

impl Sessions {
    pub(super) fn ended_at(&self, link: usize) -> Option<Nanos> {
        self.ended.get(&link).map(|ended| ended.by)
    }

    /// Until when a member may stay whose connection has or had a session; `None`: a connection has it, or may have it.
    pub(super) fn stays(&self, session: usize) -> Option<Nanos> {
        let session = &self.all[session];
        let until = session.until.filter(|_| session.claims.is_empty());
        until.map(|(_, most)| most.max(session.stays))
    }

    /// Whether the member that a session's connection was cannot be lost yet.
    pub(super) fn must_stay(&self, session: usize, channel: u64, info: u64, now: Nanos) -> bool {
        let session = &self.all[session];
        let had = session.estate.as_ref().and_then(|estate| estate.attended(channel)?);
        let lasts = session.until.is_none_or(|(least, _)| now < least);
        info > 0 && had == Some(Attendance::Join(info)) && !session.claimed && lasts
    }
}

/// What happens to connections.
impl Oracle {
    /// A client closes of its own accord.
    pub(crate) fn said_close(&mut self, link: usize, code: u16) {
        self.sessions.said.insert(link, code);
    }

    /// A hub is done with a connection, not before `since`. `peer_closed`: because the client said so; `unwanted`: somebody
    /// decided that it is not to go on.
    pub(crate) fn connection_ended(
        &mut self,
        (link, since): (usize, Nanos),
        peer_closed: bool,
        unwanted: bool,
    ) {
        let done = self.sessions.said.get(&link).is_none_or(|code| *code == 1000);
        let over = unwanted || (peer_closed && done);
        let ended = Ended { since, by: self.now, over };
        self.sessions.ended.insert(link, ended);
        self.settle_owed(link, ended);
        self.name_ended(link);
        for at in 0..self.sessions.all.len() {
            self.session_loses(at, link);
        }
    }

    /// A connection has ended of which that may have been said before.
    fn settle_owed(&mut self, link: usize, ended: Ended) {
        let Some(Owed { at, over, who }) = self.sessions.owed.remove(&link) else { return };
        if ended.since > at || (over && !ended.over) {
            self.fail("sessions", || {
                format!("client {who} was told at {at} of an end, over: {over}; it was {ended:?}")
            });
        }
    }

    /// A connection must have ended, as somebody was told.
    fn owes_end(&mut self, link: usize, over: bool, who: usize) {
        let fresh = Owed { at: self.now, over, who };
        let owed = self.sessions.owed.entry(link).or_insert(fresh);
        owed.over |= over;
    }

    /// Whoever must have ended has ended by now.
    pub(crate) fn check_owed(&mut self) {
        let late = |(_, owed): &(&usize, &Owed)| owed.at + self.slack < self.now;
        let late = self.sessions.owed.iter().find(late).map(|(link, owed)| (*link, *owed));
        if let Some((link, Owed { at, who, .. })) = late {
            self.fail("sessions", || {
                format!("client {who} was told at {at} what cannot be: connection {link} goes on")
            });
        }
    }

    fn session_loses(&mut self, at: usize, link: usize) {
        let Some(&Ended { since, by, over }) = self.sessions.ended.get(&link) else { return };
        let session = &mut self.sessions.all[at];
        let (least, most) = session.ttl;
        if session.holder == link && session.until.is_none() {
            let until = if over { (0, by) } else { (since + least, by + most) };
            session.until = Some(until);
            session.stays = session.stays.max(until.1);
        } else if session.claims.remove(&link) {
            session.unsettled = by + self.slack;
            if over {
                session.ends_by = session.unsettled;
            }
            // It may have had it, or not, and have been refused part of it without hearing so.
            session.estate = None;
            let (least, before) = session.until.unwrap_or((Nanos::MAX, 0));
            let least = if over { 0 } else { least };
            if session.until.is_some() {
                session.until = Some((least, before.max(by + most)));
            } else if over {
                session.until = Some((0, Nanos::MAX - FAR));
            }
        }
    }
}

/// What clients ask for, and are told.
impl Oracle {
    pub(crate) fn asks_to_keep(&mut self, link: usize, name: &str) {
        let now = self.now;
        self.sessions.asked.insert(link, now);
        self.name_asks_to_keep(name);
    }

    /// A session is kept. Which one it is.
    pub(crate) fn kept(
        &mut self,
        (link, name): (usize, &str),
        user: Option<&'static str>,
        wanted: Option<u64>,
        answer: &Value,
        who: usize,
    ) -> Option<usize> {
        self.sessions.asked.remove(&link);
        let id = answer["session"].as_str().unwrap_or_default().to_owned();
        let seconds = self.options.session_ms / 1_000;
        let due = wanted.unwrap_or(seconds).min(seconds);
        if id.len() != 32 || answer["ttl"].as_u64() != Some(due) || due == 0 {
            self.fail("sessions", || format!("client {who} wanted {wanted:?} and got {answer}"));
            return None;
        }
        let ttl = (due * SECOND, due * SECOND);
        if let Some(&at) = self.sessions.ids.get(&id) {
            let session = &mut self.sessions.all[at];
            if session.past.contains(&link) {
                // It was told late: somebody else has it by now.
                return Some(at);
            }
            if session.holder != link {
                self.fail("sessions", || format!("client {who} was given somebody's session"));
                return None;
            }
            // What it was told before it ended.
            if session.until.is_none() {
                if let Some(asked) = session.wanted.iter().position(|wanted| *wanted == ttl.0) {
                    session.wanted.remove(asked);
                }
                let least = session.wanted.iter().copied().fold(ttl.0, Nanos::min);
                let most = session.wanted.iter().copied().fold(ttl.1, Nanos::max);
                session.ttl = (least, most);
            }
            return Some(at);
        }
        let at = self.sessions.all.len();
        self.sessions.all.push(Session {
            id: id.clone(),
            user,
            name: name.to_owned(),
            ttl,
            wanted: Vec::new(),
            holder: link,
            past: BTreeSet::new(),
            claims: BTreeSet::new(),
            claimed: false,
            unsettled: 0,
            ends_by: 0,
            until: None,
            stays: 0,
            estate: None,
        });
        self.sessions.ids.insert(id, at);
        self.name_has_session(name, at);
        self.session_loses(at, link);
        Some(at)
    }

    /// The session's time is being changed.
    pub(crate) fn asks_to_keep_on(&mut self, session: usize, wanted: Option<u64>) {
        let seconds = self.options.session_ms / 1_000;
        let due = wanted.unwrap_or(seconds).min(seconds) * SECOND;
        let session = &mut self.sessions.all[session];
        session.wanted.push(due);
        let (least, most) = &mut session.ttl;
        (*least, *most) = (due.min(*least), due.max(*most));
    }

    /// A session was refused for there being too many: a hub has no more than all of them.
    pub(crate) fn sessions_full(&mut self, who: usize) {
        let max = self.options.sessions_max;
        let alive = |session: &&Session| {
            session.until.is_none_or(|(_, most)| self.now <= most + self.slack)
        };
        let window = self.options.session_ms * MILLI + self.slack;
        let known = self.sessions.all.iter().filter(alive).count();
        let unknown = self.sessions.asked.iter().filter(|(link, asked)| {
            let ended = self.sessions.ended_at(**link);
            ended.is_none_or(|ended| self.now <= ended.max(**asked) + window)
        });
        let all = (known + unknown.count()) as u64;
        if all < max {
            self.fail("sessions", || format!("client {who}: {all} sessions, and they are full"));
        }
    }

    pub(crate) fn session_id(&self, session: usize) -> &str {
        &self.sessions.all[session].id
    }

    /// For how long a session waits, at most.
    pub(crate) fn longest_ttl(&self, session: usize) -> Nanos {
        self.sessions.all[session].ttl.1
    }

    /// A session that is not this user's, or is: one of many, by `roll`.
    pub(crate) fn session_of(
        &self,
        is_same: bool,
        user: Option<&'static str>,
        roll: u64,
    ) -> Option<usize> {
        let fits = |at: &usize| (self.sessions.all[*at].user == user) == is_same;
        let all: Vec<usize> = (0..self.sessions.all.len()).rev().filter(fits).take(8).collect();
        all.get((roll % 8) as usize).copied()
    }

    /// A connection asks for a session.
    pub(crate) fn claims(&mut self, session: usize, link: usize) {
        let session = &mut self.sessions.all[session];
        session.claims.insert(link);
        session.claimed = true;
    }

    /// It was not even looked at.
    pub(crate) fn claim_failed(&mut self, session: usize, link: usize) {
        self.sessions.all[session].claims.remove(&link);
    }

    /// A session is unknown, it is said.
    pub(crate) fn session_denied(&mut self, session: usize, link: usize, who: usize) {
        let now = self.now;
        let session = &mut self.sessions.all[session];
        session.claims.remove(&link);
        let contended = !session.claims.is_empty();
        let (holder, until) = (session.holder, session.until);
        if session.ends_by > 0 {
            return;
        }
        if until.is_none() && !contended {
            return self.owes_end(holder, true, who);
        }
        let lasts = until.is_some_and(|(least, _)| now < least);
        if lasts && !contended {
            self.fail("sessions", || {
                format!("client {who}: its session lasts until {until:?} and is unknown")
            });
        }
    }

    /// A session was resumed. What it had.
    pub(crate) fn session_granted(
        &mut self,
        (session, link): (usize, usize),
        user: Option<&'static str>,
        asked_at: Nanos,
        name: &str,
        who: usize,
    ) -> Option<Estate> {
        // A session is as punctual as the messages about it.
        let slack = self.slack - SECOND + 10 * MILLI;
        let ended = self.sessions.ended_at(self.sessions.all[session].holder);
        let found = &mut self.sessions.all[session];
        let (holder, until) = (found.holder, found.until);
        let due = found.claims.remove(&link);
        let told_late = !due && holder != link && self.sessions.ended.contains_key(&link);
        let alone = found.claims.is_empty();
        let wrong = if found.user != user {
            Some("another user's")
        } else if told_late {
            // It is gone already, and who came behind it may have been told before.
            found.estate = None;
            return None;
        } else if until.is_some_and(|(_, most)| alone && asked_at > most + slack) {
            Some("one whose time is over")
        } else if found.name != name {
            Some("one of another name")
        } else {
            None
        };
        if ended.is_none() && holder != link {
            self.owes_end(holder, false, who);
        }
        if let Some(what) = wrong {
            self.fail("sessions", || {
                format!("client {who} at {asked_at} has resumed {what}, it lasted until {until:?}")
            });
        }
        let found = &mut self.sessions.all[session];
        found.past.insert(holder);
        found.holder = link;
        found.until = None;
        found.claimed = !alone || self.now < found.unsettled;
        if self.now > found.ends_by {
            found.ends_by = 0;
        }
        let estate = found.estate.take().filter(|_| alone);
        let gone = !due;
        self.session_loses(session, link);
        // Who asked and is gone was reckoned with before.
        if gone && self.sessions.ended_at(link).is_none() {
            self.fail("sessions", || format!("client {who} did not ask for its session"));
        }
        estate
    }

    /// Whoever has a session is gone, and this is what it had.
    pub(crate) fn bequeath(&mut self, session: usize, link: usize, estate: Estate) {
        let session = &mut self.sessions.all[session];
        if session.holder == link && !session.claimed {
            session.estate = Some(estate);
        }
    }

    /// Somebody may have had a session for a while, and have lost part of it.
    pub(crate) fn shake(&mut self, session: usize) {
        self.sessions.all[session].estate = None;
    }

    /// A connection was closed since somebody else has its session, it is said.
    pub(crate) fn resumed_elsewhere(&mut self, session: Option<usize>, link: usize, who: usize) {
        let is_so = session.is_some_and(|session| {
            let session = &self.sessions.all[session];
            session.holder != link || session.claimed
        });
        if !is_so {
            self.fail("sessions", || format!("client {who}: nobody else has its session"));
        }
    }
}

/// Longer than any world, and far from the end of numbers.
const FAR: Nanos = 1 << 60;
