//! Rooms full of members: one speaks in each, all listen, and every delivery is accounted for.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mahavishnu_bench_peers::Result;
use mio::{Events, Poll};

use crate::{
    dialect::{self, Dialect},
    member::Member,
};

/// What comes later than this is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub dialect: Dialect,
    pub port: u16,
    pub rooms: usize,
    pub members: usize,
    /// Texts of a room that are said and have not reached everybody.
    pub window: u64,
    /// Bytes of a text.
    pub bytes: usize,
}

/// What has come.
pub struct Tally {
    pub deliveries: u64,
    pub bytes: u64,
    /// Deliveries that came twice, too late, or in another order.
    pub violations: u64,
    pub latency: Histogram<u64>,
    /// Time in which there was nothing to do.
    pub idle: Duration,
}

impl Tally {
    fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { deliveries: 0, bytes: 0, violations: 0, latency, idle: Duration::ZERO })
    }
}

#[derive(Default)]
struct Room {
    /// Of each text under way: since when, and how many have not heard it.
    under_way: VecDeque<(Instant, usize)>,
    /// Texts that everybody has heard.
    heard: u64,
}

impl Room {
    fn said(&self) -> u64 {
        self.heard + self.under_way.len() as u64
    }

    /// Somebody has heard the text of this number; since when it was under way.
    fn hear(&mut self, number: u64) -> Option<Instant> {
        let place = usize::try_from(number.checked_sub(self.heard)?).ok()?;
        let (since, missing) = self.under_way.get_mut(place)?;
        let since = *since;
        *missing = missing.saturating_sub(1);
        while self.under_way.front().is_some_and(|(_, missing)| *missing == 0) {
            self.under_way.pop_front();
            self.heard += 1;
        }
        Some(since)
    }
}

/// The generator.
pub struct Rooms {
    plan: Plan,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// With the number of the next text, room after room.
    members: Vec<(Member, u64)>,
    rooms: Vec<Room>,
    /// Who is there, as the last answer in each room has said.
    there: Vec<Option<usize>>,
    pub tally: Tally,
}

impl Rooms {
    /// Fills the rooms.
    pub fn fill(plan: Plan) -> Result<Self> {
        let mut this = Self {
            plan,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            members: Vec::new(),
            rooms: (0..plan.rooms).map(|_| Room::default()).collect(),
            there: vec![None; plan.rooms],
            tally: Tally::new()?,
        };
        for place in 0..plan.rooms * plan.members {
            let room = channel(place / plan.members);
            let mut member = Member::join(plan.dialect, plan.port, &room, &format!("m{place}"))?;
            member.register(this.poll.registry(), place)?;
            this.members.push((member, 0));
            // Those who are there hear who comes.
            this.turn()?;
        }
        this.settle()?;
        Ok(this)
    }

    /// Begins to count anew.
    pub fn reset(&mut self) -> Result<()> {
        self.tally = Tally { violations: self.tally.violations, ..Tally::new()? };
        Ok(())
    }

    /// Says and hears for a time.
    pub fn talk(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for room in 0..self.plan.rooms {
                while (self.rooms.get(room))
                    .is_some_and(|it| (it.under_way.len() as u64) < self.plan.window)
                {
                    self.say(room)?;
                }
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Has the first member of the only room ask the server for so many texts to everybody, and hears them. How many never
    /// came.
    pub fn ask(&mut self, how: &str, texts: u64) -> Result<u64> {
        let room = self.rooms.first_mut().ok_or("no room")?;
        let wish = dialect::go(how, room.said(), texts, self.plan.bytes);
        for _ in 0..texts {
            room.under_way.push_back((Instant::now(), self.plan.members));
        }
        self.members.first_mut().ok_or("nobody is there")?.0.send(&wish)?;
        let (mut seen, mut last) = (self.missing(), Instant::now());
        while seen > 0 && last.elapsed() < PATIENCE {
            self.turn()?;
            if self.missing() < seen {
                (seen, last) = (self.missing(), Instant::now());
            }
        }
        Ok(seen)
    }

    /// Hears what is under way, and says how many deliveries never came.
    pub fn drain(&mut self) -> Result<u64> {
        let end = Instant::now() + PATIENCE;
        while self.missing() > 0 && Instant::now() < end {
            self.turn()?;
        }
        // What comes twice comes after all that was waited for.
        self.settle()?;
        Ok(self.missing())
    }

    /// Asks in each room who is there: in how many the answer is wrong.
    pub fn roll_call(&mut self) -> Result<usize> {
        let Some(who) = self.plan.dialect.who() else { return Ok(0) };
        for room in 0..self.plan.rooms {
            if let Some((member, _)) = self.members.get_mut(room * self.plan.members) {
                member.send(&who)?;
            }
        }
        let end = Instant::now() + PATIENCE;
        while self.there.contains(&None) && Instant::now() < end {
            self.turn()?;
        }
        Ok(self.there.iter().filter(|there| **there != Some(self.plan.members)).count())
    }

    /// Hears until nothing has come for half a second.
    pub fn settle(&mut self) -> Result<()> {
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(500) {
            if self.turn()? {
                last = Instant::now();
            }
        }
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.rooms.iter().flat_map(|room| &room.under_way).map(|(_, missing)| *missing as u64).sum()
    }

    fn say(&mut self, room: usize) -> Result<()> {
        let here = self.rooms.get_mut(room).ok_or("no such room")?;
        let place = room * self.plan.members;
        let text = dialect::text(here.said(), self.plan.bytes);
        let wish = self.plan.dialect.say(&channel(room), &format!("m{place}"), &text);
        here.under_way.push_back((Instant::now(), self.plan.members));
        self.members.get_mut(place).ok_or("nobody is there")?.0.send(&wish)
    }

    /// Reads what is there, without waiting: a generator that sleeps is woken at the server's cost.
    fn turn(&mut self) -> Result<bool> {
        let begun = Instant::now();
        self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
        if self.events.is_empty() {
            self.tally.idle += begun.elapsed();
            return Ok(false);
        }
        for event in &self.events {
            let place = event.token().0;
            let number = place / self.plan.members;
            let Some((member, next)) = self.members.get_mut(place) else { continue };
            let Some(room) = self.rooms.get_mut(number) else { continue };
            let Some(there) = self.there.get_mut(number) else { continue };
            let (tally, dialect) = (&mut self.tally, self.plan.dialect);
            let now = Instant::now();
            tally.bytes += member.hear(&mut self.buffer, |message| {
                let Some(number) = dialect::number(message)? else {
                    if let Some(count) = dialect.members(std::str::from_utf8(message)?) {
                        *there = Some(count);
                    }
                    return Ok(());
                };
                if number != *next {
                    tally.violations += 1;
                }
                *next = number + 1;
                tally.deliveries += 1;
                match room.hear(number) {
                    Some(since) => {
                        let micros = now.duration_since(since).as_micros();
                        tally.latency.saturating_record(u64::try_from(micros)?.max(1));
                    }
                    None => tally.violations += 1,
                }
                Ok(())
            })?;
        }
        Ok(true)
    }
}

fn channel(room: usize) -> String {
    format!("chat:{room}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_over_when_everybody_has_heard_it() {
        let mut room = Room::default();
        let now = Instant::now();
        room.under_way.extend([(now, 2), (now, 2)]);

        assert_eq!(room.said(), 2);
        assert!(room.hear(0).is_some() && room.hear(1).is_some());
        assert_eq!(room.heard, 0);
        assert!(room.hear(0).is_some());
        assert_eq!((room.heard, room.said()), (1, 2));
        // Once more than there are members, and one that nobody has said.
        assert!(room.hear(0).is_none());
        assert!(room.hear(7).is_none());
    }
}
