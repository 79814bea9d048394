//! What Redis is asked.

use std::{fmt::Write, sync::Arc, time::Duration};

use mahavishnu_core::{
    config::{IngressKind, IngressSource},
    hub::{
        Alive, Append, Basis, BusCommand, Heal, PresenceChange, PresenceEnd, Retention,
        SessionCall, SessionHeld, SessionState, SessionWish, Take, VisitChange,
    },
    protocol::{Epoch, Position},
};

use super::{NUMBER_MAX, live::EntryId, names::Names, scripts::Script};
use crate::resp::{Arg, command};

/// Writes requests of one link.
#[derive(Debug)]
pub(crate) struct Requests {
    names: Names,
    /// `<node>.<shard>`.
    link: Box<str>,
    live_link: Box<str>,
    live_control: Box<str>,
    /// By which names Redis knows the scripts, as it said when they were loaded.
    shas: [Sha; Script::COUNT],
}

/// A script's name in Redis: 40 digits.
pub(crate) type Sha = [u8; 40];

impl Requests {
    pub(crate) fn new(names: Names, link: String) -> Self {
        let (live_link, live_control) =
            (names.live_link(&link).into(), names.live_control().into());
        Self {
            names,
            link: link.into(),
            live_link,
            live_control,
            shas: [[b'0'; 40]; Script::COUNT],
        }
    }

    /// Other names from now on.
    pub(crate) fn rename(&mut self, names: Names) {
        *self = Self { shas: self.shas, ..Self::new(names, self.link.to_string()) };
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The channel of pub/sub for this link alone.
    pub(crate) fn live_link(&self) -> &str {
        &self.live_link
    }

    /// The channel of pub/sub for all nodes.
    pub(crate) fn live_control(&self) -> &str {
        &self.live_control
    }

    /// Redis knows the script by this name.
    pub(crate) fn loaded(&mut self, script: Script, sha: Sha) {
        if let Some(known) = self.shas.get_mut(script as usize) {
            *known = sha;
        }
    }

    /// What a hub wants. `renew`: lives of keys are to be set anew.
    pub(crate) fn bus(&self, out: &mut Vec<u8>, command: &BusCommand, renew: bool) {
        match command {
            BusCommand::Follow { .. } | BusCommand::Unfollow { .. } => {}
            BusCommand::Append(append) => self.append(out, append, renew),
            BusCommand::Announce { channel, count, records, .. } => {
                let (key, live) = (self.names.meta(channel), self.names.live(channel));
                let args = [(&live).into(), (*count).into(), records.into()];
                self.eval(out, Script::Announce, &[&key], &args);
            }
            BusCommand::Read { channel, after, bytes_max, .. } => {
                let bytes_max = u64::try_from(*bytes_max).unwrap_or(u64::MAX).min(NUMBER_MAX);
                let args = [(*after).min(NUMBER_MAX).into(), bytes_max.into()];
                self.eval(out, Script::Read, &self.keys(channel), &args);
            }
            BusCommand::Heal(heal) => self.heal(out, heal),
            BusCommand::Fork { channel, found, epoch, .. } => {
                let live = self.names.live(channel);
                let (found, offset) = found_args(found.as_ref());
                let args = [found, offset, epoch.as_str().into(), (&live).into(), META_LIFE.into()];
                self.eval(out, Script::Fork, &self.keys(channel), &args);
            }
            BusCommand::Beat { node, info, lease, first } => {
                let node = node.to_string();
                let first = if *first { "1" } else { "0" };
                let args = [(&node).into(), millis(*lease).into(), info.into(), first.into()];
                self.eval(out, Script::Beat, &[self.names.leases(), self.names.nodes()], &args);
            }
            BusCommand::Quit { node } => {
                let node = node.to_string();
                let keys = [self.names.leases(), self.names.nodes()];
                self.eval(out, Script::Quit, &keys, &[(&node).into()]);
            }
            BusCommand::Control { command, keep, .. } => {
                let args = [(&*self.live_control).into(), command.into(), millis(*keep).into()];
                self.eval(out, Script::Control, &[self.names.control()], &args);
            }
            BusCommand::Tell { message } => {
                let args = [(&*self.live_control).into(), message.into()];
                self.eval(out, Script::Tell, &[self.names.control()], &args);
            }
            BusCommand::Visit(change) => self.visit(out, change),
            BusCommand::Take(take) => self.take(out, take),
            BusCommand::Visits { user, alive, max, .. } => {
                let nodes = node_list(alive);
                let args = [(&nodes).into(), millis(alive.grace).into(), (*max).into()];
                self.eval(out, Script::Visits, &[self.names.user(user)], &args);
            }
            BusCommand::Attend(change) => self.attend(out, change),
            BusCommand::Members { channel, known, alive, bytes_max, .. } => {
                let number = known.map(|known| known.offset.to_string()).unwrap_or_default();
                let epoch = known.as_ref().map_or("", |known| known.epoch.as_str());
                let (nodes, grace) = (node_list(alive), millis(alive.grace));
                let bytes_max = u64::try_from(*bytes_max).unwrap_or(u64::MAX).min(NUMBER_MAX);
                let args = [
                    epoch.into(),
                    (&number).into(),
                    (&nodes).into(),
                    grace.into(),
                    bytes_max.into(),
                ];
                self.eval(out, Script::Members, &[self.names.presence(channel)], &args);
            }
            BusCommand::Session(call) => self.session(out, call),
        }
    }

    fn append(&self, out: &mut Vec<u8>, append: &Append, renew: bool) {
        let Append { channel, epoch, known, condition, once, .. } = append;
        let (writer, live) = (append.writer.to_string(), self.names.live(channel));
        let mut keys = Vec::from(self.keys(channel));
        let mut digest = String::from("0");
        let mut once_life = 1;
        if let Some(once) = once {
            keys.push(self.names.once(channel, &once.key));
            digest = format!("{:016x}", once.digest);
            once_life = millis(once.keep);
        }
        let (mut owner, mut entry) = (String::new(), "");
        if let Some(taken) = &append.taken {
            keys.extend([self.names.ingress(&taken.source.name), queue(&taken.source)]);
            (owner, entry) = (taken.owner.to_string(), &taken.entry);
        }
        let (keep, log_life, meta_life) = lives(&append.retention);
        let (known_epoch, known_offset) = found_args(known.as_ref());
        let (wanted, wanted_epoch) = match condition {
            Some(condition) => (
                condition.offset.min(NUMBER_MAX).into(),
                condition.epoch.as_ref().map_or("", Epoch::as_str).into(),
            ),
            None => (NOTHING, NOTHING),
        };
        let (basis, basis_epoch) = match &append.basis {
            Some(Basis::Document(at)) => {
                (at.offset.min(NUMBER_MAX).into(), at.epoch.as_str().into())
            }
            Some(Basis::Nothing) => (0_u64.into(), NOTHING),
            None => (NOTHING, NOTHING),
        };
        let args = [
            (&writer).into(),
            append.id.0.into(),
            append.count.into(),
            (&append.records).into(),
            epoch.as_str().into(),
            keep.into(),
            log_life.into(),
            meta_life.into(),
            (&live).into(),
            known_epoch,
            known_offset,
            (if renew { "1" } else { "0" }).into(),
            append.state.as_ref().map_or(NOTHING, Arg::from),
            wanted,
            wanted_epoch,
            (&digest).into(),
            once_life.into(),
            (&owner).into(),
            entry.into(),
            append.again.map_or(NOTHING, |seen| seen.min(NUMBER_MAX).into()),
            basis,
            basis_epoch,
        ];
        self.eval(out, Script::Append, &keys, &args);
    }

    fn heal(&self, out: &mut Vec<u8>, heal: &Heal) {
        let (found, offset) = found_args(heal.found.as_ref());
        let (keep, log_life, meta_life) = lives(&heal.retention);
        let (number, document) = match &heal.document {
            Some((number, document)) => (*number, document.into()),
            None => (0, NOTHING),
        };
        let writers: Vec<_> = heal
            .entries
            .iter()
            .map(|entry| entry.made.map(|(writer, _)| writer.to_string()))
            .collect();
        let (to, live) = (heal.to, self.names.live(&heal.channel));
        let newest = heal.newest.map(|newest| newest.to_string());
        let mut args = vec![
            found,
            offset,
            to.epoch.as_str().into(),
            to.offset.into(),
            keep.into(),
            log_life.into(),
            meta_life.into(),
            number.into(),
            document,
            (&live).into(),
            newest.as_ref().map_or(NOTHING, Arg::from),
            heal.mark.min(NUMBER_MAX).into(),
        ];
        for (entry, writer) in heal.entries.iter().zip(&writers) {
            let last = entry.first + u64::from(entry.count) - 1;
            let made = entry.made.map_or(0, |(_, id)| id.0);
            let writer = writer.as_ref().map_or(NOTHING, Arg::from);
            let records = Arg::from(&entry.records);
            args.extend([Arg::from(last), entry.count.into(), records, writer, made.into()]);
        }
        self.eval(out, Script::Heal, &self.keys(&heal.channel), &args);
    }

    fn take(&self, out: &mut Vec<u8>, take: &Take) {
        let source = &take.source;
        let mut keys =
            vec![self.names.ingress(&source.name), queue(source), format!("{}:dead", source.name)];
        if source.kind == IngressKind::List {
            keys.push(source.name.to_string());
        }
        let owner = take.owner.to_string();
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).min(NUMBER_MAX);
        let mut args = vec![
            (&owner).into(),
            millis(take.lease).into(),
            take.after.as_deref().unwrap_or("0-0").into(),
            take.entries_max.into(),
            bytes(take.bytes_max).into(),
            bytes(take.entry_bytes_max).into(),
            (if take.gives_up { "1" } else { "0" }).into(),
            (take.done.len() as u64).into(),
        ];
        args.extend(take.done.iter().map(|entry| Arg::from(&**entry)));
        for (entry, why) in &take.unfit {
            args.extend([Arg::from(&**entry), Arg::from(*why)]);
        }
        self.eval(out, Script::Take, &keys, &args);
    }

    fn visit(&self, out: &mut Vec<u8>, change: &VisitChange) {
        let nodes = node_list(&change.alive);
        let gone: Vec<_> = change.gone.iter().map(ToString::to_string).collect();
        let come: Vec<_> = change.come.iter().map(|visit| visit.name.to_string()).collect();
        let mut args = vec![
            change.max.map_or(NOTHING, Arg::from),
            (if change.sweep { "1" } else { "0" }).into(),
            (&nodes).into(),
            millis(change.alive.grace).into(),
            millis(change.keep).into(),
            (gone.len() as u64).into(),
        ];
        args.extend(gone.iter().map(Arg::from));
        for (name, visit) in come.iter().zip(&change.come) {
            args.push(name.into());
            args.push((&visit.info).into());
        }
        self.eval(out, Script::Visit, &[self.names.user(&change.user)], &args);
    }

    fn attend(&self, out: &mut Vec<u8>, change: &PresenceChange) {
        let (live, node) = (self.names.live(&change.channel), change.node.to_string());
        let nodes = node_list(&change.alive);
        let gone: Vec<_> = change
            .gone
            .iter()
            .map(|gone| (gone.member.to_string(), gone.node.to_string(), end(gone.why)))
            .collect();
        let come: Vec<_> = change.come.iter().map(|entry| entry.id.to_string()).collect();
        let mut args = vec![
            (&live).into(),
            (&node).into(),
            change.epoch.as_str().into(),
            change.max.into(),
            (if change.sweep { "1" } else { "0" }).into(),
            (&nodes).into(),
            millis(change.alive.grace).into(),
            millis(change.keep).into(),
            (gone.len() as u64).into(),
        ];
        for (member, node, why) in &gone {
            args.extend([Arg::from(member), node.into(), (*why).into()]);
        }
        for (id, entry) in come.iter().zip(&change.come) {
            let hold = if entry.hold.is_zero() { 0 } else { millis(entry.hold) };
            args.extend([Arg::from(id), hold.into(), (&entry.info).into()]);
        }
        self.eval(out, Script::Attend, &[self.names.presence(&change.channel)], &args);
    }

    fn session(&self, out: &mut Vec<u8>, call: &SessionCall) {
        let holder = call.holder.to_string();
        match &call.what {
            SessionWish::Keep(state) => {
                let SessionState { held, user, begun, ttl, life, attached, record } = &**state;
                let user = owner(user.as_deref());
                let args = [
                    held.claim.into(),
                    (&holder).into(),
                    (if *attached { "1" } else { "0" }).into(),
                    (&user).into(),
                    millis(*ttl).into(),
                    moment(*begun).into(),
                    millis(*life).into(),
                    record.into(),
                ];
                self.eval(out, Script::KeepSession, &[self.names.session(held.key)], &args);
            }
            SessionWish::Claim { key, user, grace } => {
                let user = owner(user.as_deref());
                let args = [(&holder).into(), (&user).into(), millis(*grace).into()];
                self.eval(out, Script::ClaimSession, &[self.names.session(*key)], &args);
            }
            SessionWish::Renew(sessions) => {
                let key = |(held, _): &(SessionHeld, _)| self.names.session(held.key);
                let keys: Vec<_> = sessions.iter().map(key).collect();
                let mut args = vec![Arg::from(&holder)];
                for (held, life) in sessions {
                    args.extend([Arg::from(held.claim), millis(*life).into()]);
                }
                self.eval(out, Script::RenewSessions, &keys, &args);
            }
            SessionWish::End(held, keep) => {
                let args = [held.claim.into(), (&holder).into(), millis(*keep).into()];
                self.eval(out, Script::EndSession, &[self.names.session(held.key)], &args);
            }
        }
    }

    /// Where do these stand? And their last messages, if they take no more than so many bytes.
    pub(crate) fn standing(
        &self,
        out: &mut Vec<u8>,
        channels: &[Arc<str>],
        newest_bytes_max: Option<usize>,
    ) {
        let mut keys = Vec::with_capacity(3 * channels.len());
        for channel in channels {
            keys.extend([self.names.meta(channel), self.names.document(channel)]);
            keys.extend(newest_bytes_max.map(|_| self.names.log(channel)));
        }
        let args: Vec<_> = newest_bytes_max.map(|max| Arg::from(max as u64)).into_iter().collect();
        self.eval(out, Script::Standing, &keys, &args);
    }

    /// The same. Under the epoch beside them if nothing is known of them, and for so long.
    pub(crate) fn found(
        &self,
        out: &mut Vec<u8>,
        channels: &[Arc<str>],
        with: &[(Epoch, Duration)],
        newest_bytes_max: Option<usize>,
    ) {
        let keys: Vec<_> = channels.iter().flat_map(|channel| self.keys(channel)).collect();
        let mut args: Vec<_> = with
            .iter()
            .flat_map(|(epoch, life)| [epoch.as_str().into(), millis(*life).into()])
            .collect();
        args.extend(newest_bytes_max.map(|max| Arg::from(max as u64)));
        self.eval(out, Script::Found, &keys, &args);
    }

    /// What was told to all nodes behind this?
    pub(crate) fn commands(&self, out: &mut Vec<u8>, after: EntryId, max: u32) {
        let after = after.to_string();
        self.eval(out, Script::Commands, &[self.names.control()], &[(&after).into(), max.into()]);
    }

    pub(crate) fn probe(&self, out: &mut Vec<u8>, token: u64) {
        let token = format!("{token:016x}");
        let key = self.names.probe(&*self.link);
        self.eval(out, Script::Probe, &[key], &[(&*self.live_link).into(), (&token).into()]);
    }

    fn keys(&self, channel: &str) -> [String; 3] {
        [self.names.meta(channel), self.names.log(channel), self.names.document(channel)]
    }

    fn eval(&self, out: &mut Vec<u8>, script: Script, keys: &[impl AsRef<str>], args: &[Arg<'_>]) {
        let sha = self.shas.get(script as usize).map_or(&[][..], |sha| sha);
        let mut all = Vec::with_capacity(3 + keys.len() + args.len());
        all.extend([Arg::from("EVALSHA"), Arg::Bytes(sha), (keys.len() as u64).into()]);
        all.extend(keys.iter().map(|key| Arg::from(key.as_ref())));
        all.extend(args);
        command(out, &all);
    }
}

/// Which script carries a command out.
pub(crate) fn script(command: &BusCommand) -> Option<Script> {
    match command {
        BusCommand::Follow { .. } | BusCommand::Unfollow { .. } => None,
        BusCommand::Append(_) => Some(Script::Append),
        BusCommand::Announce { .. } => Some(Script::Announce),
        BusCommand::Read { .. } => Some(Script::Read),
        BusCommand::Heal(_) => Some(Script::Heal),
        BusCommand::Fork { .. } => Some(Script::Fork),
        BusCommand::Beat { .. } => Some(Script::Beat),
        BusCommand::Quit { .. } => Some(Script::Quit),
        BusCommand::Control { .. } => Some(Script::Control),
        BusCommand::Tell { .. } => Some(Script::Tell),
        BusCommand::Visit(_) => Some(Script::Visit),
        BusCommand::Visits { .. } => Some(Script::Visits),
        BusCommand::Take(_) => Some(Script::Take),
        BusCommand::Attend(_) => Some(Script::Attend),
        BusCommand::Members { .. } => Some(Script::Members),
        BusCommand::Session(call) => Some(match call.what {
            SessionWish::Keep(_) => Script::KeepSession,
            SessionWish::Claim { .. } => Script::ClaimSession,
            SessionWish::Renew(_) => Script::RenewSessions,
            SessionWish::End(..) => Script::EndSession,
        }),
    }
}

/// Whether a command says what can be done: whatever it says, a script must not break off within.
pub(crate) fn is_sound(command: &BusCommand) -> bool {
    match command {
        BusCommand::Append(append) => {
            let Append { id, count, known, state, condition, basis, once, taken, .. } = &**append;
            let own = state.is_some() && basis.is_none();
            let alone = own || condition.is_some() || once.is_some() || taken.is_some();
            id.0 <= SEQUENCE_MAX
                && if alone { *count == 1 } else { *count >= 1 }
                && known.is_none_or(is_position)
                && state.as_ref().is_none_or(|state| !state.is_empty())
        }
        BusCommand::Announce { count, .. } => *count >= 1,
        BusCommand::Heal(heal) => is_sound_heal(heal),
        BusCommand::Fork { found, .. } => found.is_none_or(is_position),
        BusCommand::Session(call) => match &call.what {
            SessionWish::Keep(state) => (1..=NUMBER_MAX).contains(&state.held.claim),
            SessionWish::End(held, _) => (1..=NUMBER_MAX).contains(&held.claim),
            SessionWish::Claim { .. } => true,
            SessionWish::Renew(sessions) => !sessions.is_empty(),
        },
        BusCommand::Follow { .. }
        | BusCommand::Unfollow { .. }
        | BusCommand::Read { .. }
        | BusCommand::Beat { .. }
        | BusCommand::Quit { .. }
        | BusCommand::Control { .. }
        | BusCommand::Tell { .. }
        | BusCommand::Visit(_)
        | BusCommand::Visits { .. }
        | BusCommand::Take(_)
        | BusCommand::Attend(_) => true,
        BusCommand::Members { known, .. } => known.is_none_or(is_position),
    }
}

/// Rounds without holes up to where it is healed to, none of which begins before what was found and ends behind it.
fn is_sound_heal(heal: &Heal) -> bool {
    let Heal { found, to, entries, document, .. } = heal;
    if !is_position(*to) || !found.is_none_or(is_position) {
        return false;
    }
    let there = found.filter(|found| found.epoch == to.epoch).map_or(0, |found| found.offset);
    let mut next = None;
    for entry in entries {
        let Some(behind) = entry.first.checked_add(entry.count.into()) else { return false };
        let overlaps = entry.first <= there && behind > there + 1;
        let fits = next.is_none_or(|next| next == entry.first);
        let made = entry.made.is_none_or(|(_, id)| id.0 <= SEQUENCE_MAX);
        if entry.first == 0 || entry.count == 0 || overlaps || !fits || !made {
            return false;
        }
        next = Some(behind);
    }
    next.is_none_or(|next| next == to.offset + 1)
        && document.as_ref().is_none_or(|(number, _)| (1..=to.offset).contains(number))
}

fn is_position(position: Position) -> bool {
    position.offset <= NUMBER_MAX
}

/// About how many bytes a command comes to.
pub(crate) fn weight(command: &BusCommand) -> usize {
    let own = match command {
        BusCommand::Follow { channel, .. }
        | BusCommand::Unfollow { channel }
        | BusCommand::Read { channel, .. }
        | BusCommand::Fork { channel, .. } => 4 * channel.len(),
        BusCommand::Append(append) => {
            let Append { channel, records, state, once, .. } = &**append;
            let once = once.as_ref().map_or(0, |once| once.key.len());
            4 * channel.len() + records.len() + state.as_ref().map_or(0, |state| state.len()) + once
        }
        BusCommand::Announce { channel, records, .. } => 2 * channel.len() + records.len(),
        BusCommand::Heal(heal) => {
            let entries: usize = heal.entries.iter().map(|entry| 128 + entry.records.len()).sum();
            let document = heal.document.as_ref().map_or(0, |(_, document)| document.len());
            4 * heal.channel.len() + entries + document
        }
        BusCommand::Beat { info, .. } => info.len(),
        BusCommand::Quit { .. } => 0,
        BusCommand::Control { command, .. } => command.len(),
        BusCommand::Tell { message } => message.len(),
        BusCommand::Visit(change) => {
            let come: usize = change.come.iter().map(|visit| 80 + visit.info.len()).sum();
            change.user.len() + come + 80 * change.gone.len() + 17 * change.alive.nodes.len()
        }
        BusCommand::Visits { user, alive, .. } => user.len() + 17 * alive.nodes.len(),
        BusCommand::Take(take) => 64 * (take.done.len() + take.unfit.len()),
        BusCommand::Attend(change) => {
            let come: usize = change.come.iter().map(|entry| 64 + entry.info.len()).sum();
            let gone = 80 * change.gone.len();
            2 * change.channel.len() + come + gone + 17 * change.alive.nodes.len()
        }
        BusCommand::Members { channel, alive, .. } => channel.len() + 17 * alive.nodes.len(),
        BusCommand::Session(call) => match &call.what {
            SessionWish::Keep(state) => {
                state.record.len() + state.user.as_ref().map_or(0, |user| user.len())
            }
            SessionWish::Claim { user, .. } => user.as_ref().map_or(0, |user| user.len()),
            SessionWish::Renew(sessions) => 128 * sessions.len(),
            SessionWish::End(..) => 0,
        },
    };
    COMMAND_BYTES + own
}

/// The stream in which the entries of a queue are. Those of a list are moved to one, where each has a name.
fn queue(source: &IngressSource) -> String {
    match source.kind {
        IngressKind::Stream => source.name.to_string(),
        IngressKind::List => format!("{}:taken", source.name),
    }
}

fn found_args(found: Option<&Position>) -> (Arg<'_>, Arg<'_>) {
    match found {
        Some(found) => (found.epoch.as_str().into(), found.offset.into()),
        None => ("".into(), 0_u64.into()),
    }
}

/// Messages that are kept, and for how long they and the numbers are, in milliseconds.
fn lives(retention: &Retention) -> (u64, u64, u64) {
    let keep = if retention.time.is_zero() { 0 } else { retention.messages.min(NUMBER_MAX) };
    (keep, millis(retention.time), millis(retention.position.max(retention.time)))
}

/// For Redis, which does not know how to keep something for no time at all, and takes no more than fits its own numbers.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, LIFE_MAX)
}

/// A user as a session has it, told from nobody.
fn owner(user: Option<&str>) -> String {
    user.map_or_else(String::new, |user| format!("={user}"))
}

/// A moment since the Unix epoch, in milliseconds.
fn moment(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX).min(NUMBER_MAX)
}

fn node_list(alive: &Alive) -> String {
    alive.nodes.iter().fold(String::from(","), |mut list, node| {
        // Writing to a string cannot fail.
        let _ = write!(list, "{node},");
        list
    })
}

/// Why a member has gone, as the others are told.
fn end(why: PresenceEnd) -> &'static str {
    match why {
        PresenceEnd::Left => "l",
        PresenceEnd::Lost => "o",
        PresenceEnd::Node => "n",
    }
}

const NOTHING: Arg<'static> = Arg::Bytes(b"");
/// Ten years, in milliseconds.
const LIFE_MAX: u64 = 315_360_000_000;
/// How long numbers are kept of which it is not said: a day, in milliseconds.
const META_LIFE: u64 = 86_400_000;
/// Lua's numbers are exact up to here.
const SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// About what a command comes to besides what it carries.
const COMMAND_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mahavishnu_core::hub::{CallId, HealEntry, IngressOwner, NodeId, Once, Writer};

    use super::*;

    const RETENTION: Retention = Retention {
        messages: 100,
        time: Duration::from_secs(300),
        position: Duration::from_secs(86_400),
    };

    fn epoch() -> Epoch {
        Epoch::from_random(7)
    }

    fn append() -> Append {
        Append {
            id: CallId(3),
            writer: Writer { node: NodeId(10), shard: 1 },
            channel: "c".into(),
            count: 1,
            records: Bytes::from_static(b"r"),
            known: None,
            again: None,
            epoch: epoch(),
            retention: RETENTION,
            state: None,
            condition: None,
            basis: None,
            once: None,
            taken: None,
        }
    }

    fn heal(first: u64, counts: &[u32], found: Option<u64>, to: u64) -> BusCommand {
        let mut next = first;
        let entries = counts.iter().map(|&count| {
            let entry = HealEntry { first: next, count, records: Bytes::new(), made: None };
            next = next.wrapping_add(u64::from(count));
            entry
        });
        let found = found.map(|offset| Position { epoch: epoch(), offset });
        BusCommand::Heal(Box::new(Heal {
            id: CallId(1),
            channel: "c".into(),
            found,
            to: Position { epoch: epoch(), offset: to },
            newest: None,
            mark: 1,
            entries: entries.collect(),
            document: None,
            retention: RETENTION,
        }))
    }

    fn words(out: &[u8]) -> Vec<String> {
        let text = String::from_utf8(out.to_vec()).unwrap();
        text.split("\r\n").skip(2).step_by(2).map(Into::into).collect()
    }

    #[test]
    fn an_append_says_what_its_script_expects() {
        let requests = Requests::new(Names::new("m", 0), "a.1".into());
        let once = Once { key: "k#0".into(), digest: 255, keep: Duration::from_secs(300) };
        let known = Some(Position { epoch: epoch(), offset: 8 });
        let mut out = Vec::new();
        let command = BusCommand::Append(Box::new(Append { once: Some(once), known, ..append() }));
        requests.bus(&mut out, &command, true);
        let tag = Names::tag("c");
        let keys = ["m", "l", "d"].map(|kind| format!("m:{{{tag}}}:{kind}:c"));
        let live = format!("m:0:{{{tag}}}:c:c");
        let (epoch, once) = (epoch(), format!("m:{{{tag}}}:i:k#0"));
        let epoch = epoch.as_str();
        let mut expected = vec!["EVALSHA", "0000000000000000000000000000000000000000", "4"];
        expected.extend(keys.iter().map(String::as_str));
        expected.extend([
            &*once,
            "000000000000000a.1",
            "3",
            "1",
            "r",
            epoch,
            "100",
            "300000",
            "86400000",
            &live,
        ]);
        expected.extend([
            epoch,
            "8",
            "1",
            "",
            "",
            "",
            "00000000000000ff",
            "300000",
            "",
            "",
            "",
            "",
            "",
        ]);
        assert_eq!(words(&out), expected);

        out.clear();
        let again = BusCommand::Append(Box::new(Append { again: Some(6), known, ..append() }));
        requests.bus(&mut out, &again, false);
        assert_eq!(words(&out).iter().rev().nth(2).map(String::as_str), Some("6"));

        out.clear();
        let basis = Some(Basis::Document(Position { epoch: self::epoch(), offset: 9 }));
        let folded = BusCommand::Append(Box::new(Append { basis, ..append() }));
        requests.bus(&mut out, &folded, false);
        assert!(words(&out).ends_with(&["9".into(), self::epoch().as_str().into()]));
    }

    #[test]
    fn a_take_says_what_its_script_expects() {
        let requests = Requests::new(Names::new("m", 0), "a.1".into());
        let words_of = |kind, after: Option<&str>| {
            let take = Take {
                id: CallId(1),
                source: Arc::new(IngressSource { kind, name: "in".into() }),
                owner: IngressOwner { node: NodeId(10), term: 2 },
                lease: Duration::from_secs(10),
                after: after.map(Into::into),
                entries_max: 3,
                bytes_max: 4,
                entry_bytes_max: usize::MAX,
                done: vec!["1-0".into(), "2-0".into()],
                unfit: vec![("3-0".into(), "bad_publish")],
                gives_up: false,
            };
            let mut out = Vec::new();
            requests.bus(&mut out, &BusCommand::Take(Box::new(take)), false);
            words(&out).split_off(2)
        };
        let keys = ["3", "m:{n}:owner:in", "in", "in:dead"];
        let arguments = ["000000000000000a.2", "10000", "0-0", "3", "4", "99999999999999", "0"];
        let settled = ["2", "1-0", "2-0", "3-0", "bad_publish"];
        assert_eq!(words_of(IngressKind::Stream, None), [&keys[..], &arguments, &settled].concat());
        let list = words_of(IngressKind::List, Some("9-0"));
        assert_eq!(list[..5], ["4", "m:{n}:owner:in", "in:taken", "in:dead", "in"]);
        assert_eq!(list[7], "9-0");
    }

    #[test]
    fn what_could_break_a_script_off_is_not_sent() {
        let sound = |change: fn(&mut Append)| {
            let mut append = append();
            change(&mut append);
            is_sound(&BusCommand::Append(Box::new(append)))
        };
        assert!(sound(|_| {}));
        assert!(sound(|append| append.count = 7));
        assert!(!sound(|append| append.count = 0));
        assert!(!sound(|append| append.id = CallId(1 << 53)));
        assert!(!sound(|append| append.state = Some(Bytes::new())));
        assert!(!sound(|append| {
            append.state = Some(Bytes::from_static(b"{}"));
            append.count = 2;
        }));
        assert!(sound(|append| {
            append.state = Some(Bytes::from_static(b"{}"));
            append.basis = Some(Basis::Nothing);
            append.count = 2;
        }));
        assert!(!sound(
            |append| append.known = Some(Position { epoch: append.epoch, offset: NUMBER_MAX + 1 })
        ));

        assert!(is_sound(&heal(4, &[2, 3], None, 8)));
        assert!(is_sound(&heal(4, &[], Some(3), 8)));
        assert!(is_sound(&heal(4, &[2, 3], Some(5), 8)), "the first is there already");
        assert!(!is_sound(&heal(4, &[2, 3], Some(4), 8)), "half of the first is there already");
        assert!(!is_sound(&heal(4, &[2, 3], None, 9)));
        assert!(!is_sound(&heal(0, &[9], None, 8)));
        assert!(!is_sound(&heal(4, &[5, 0], None, 8)));
        assert!(!is_sound(&heal(u64::MAX, &[1], None, 8)));
    }

    #[test]
    fn lives_are_such_that_redis_takes_them() {
        let retention = |messages, time, position| Retention { messages, time, position };
        let (zero, forever) = (Duration::ZERO, Duration::MAX);
        assert_eq!(lives(&RETENTION), (100, 300_000, 86_400_000));
        assert_eq!(lives(&retention(9, zero, zero)), (0, 1, 1));
        assert_eq!(lives(&retention(u64::MAX, forever, zero)), (NUMBER_MAX, LIFE_MAX, LIFE_MAX));
    }
}
