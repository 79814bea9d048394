//! The channels that are followed, and asking where they stand.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mahavishnu_core::{
    entropy::{Entropy, KeyedMap},
    hub::{BusEvent, ChannelEvent, Live, Retention},
    protocol::Epoch,
    time::Instant,
};

use crate::{LinkLimits, redis::replies::Stand};

/// The channels that are followed.
#[derive(Debug)]
pub(super) struct Follows {
    places: KeyedMap<Arc<str>, usize>,
    list: Vec<Followed>,
    /// Of which it is to be asked where they stand.
    asks: VecDeque<Wish>,
    /// Of which nothing was known while nothing could be founded.
    stranded: Vec<Named>,
    /// Batches that were asked for and not answered.
    batches: usize,
    /// How many were not told since the link is up.
    untold: usize,
    /// Names of interests, so that what was asked for one is not told of a later one.
    last_generation: u64,
}

#[derive(Debug)]
struct Followed {
    channel: Arc<str>,
    generation: u64,
    /// To begin with, until it is known.
    epoch: Option<Epoch>,
    retention: Retention,
    /// When it was last said how long the numbers are kept.
    kept: Option<Instant>,
    /// When an append last said how long all is kept, and what it said.
    renewed: Option<(Instant, Retention)>,
    /// It was told where it stands since the link is up.
    told: bool,
    /// The hub wants to be told again, and is going to be.
    asked: bool,
}

/// A channel, and for which interest.
#[derive(Clone, Debug)]
struct Named {
    channel: Arc<str>,
    generation: u64,
}

#[derive(Debug)]
struct Wish {
    named: Named,
    subscribe: bool,
    found: bool,
    /// The hub may have its last message.
    newest: bool,
}

/// Channels that are asked for together.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) channels: Vec<Arc<str>>,
    generations: Vec<u64>,
    /// They are to be subscribed to before.
    pub(super) subscribe: bool,
    /// Their last messages are to be told as well.
    pub(super) newest: bool,
    /// Those of which nothing is known are to be founded, with these epochs, and kept for so long.
    pub(super) found: Option<Vec<(Epoch, Duration)>>,
}

impl Follows {
    pub(super) fn new(entropy: &mut Entropy) -> Self {
        Self {
            places: KeyedMap::with_hasher(entropy.hash_keys()),
            list: Vec::new(),
            asks: VecDeque::new(),
            stranded: Vec::new(),
            batches: 0,
            untold: 0,
            last_generation: 0,
        }
    }

    /// A hub's interest. While the link is up it is asked for.
    pub(super) fn follow(
        &mut self,
        channel: Arc<str>,
        epoch: Epoch,
        retention: Retention,
        up: bool,
    ) {
        if let Some(followed) =
            self.places.get(&channel).and_then(|place| self.list.get_mut(*place))
        {
            followed.retention = retention;
            if up && !std::mem::replace(&mut followed.asked, true) {
                let named = Named { channel, generation: followed.generation };
                self.asks.push_back(Wish::later(named, false));
            }
            return;
        }
        self.last_generation += 1;
        let generation = self.last_generation;
        self.places.insert(channel.clone(), self.list.len());
        self.list.push(Followed {
            channel: channel.clone(),
            generation,
            epoch: Some(epoch),
            retention,
            kept: None,
            renewed: None,
            told: false,
            asked: false,
        });
        self.untold += 1;
        if up {
            let named = Named { channel, generation };
            self.asks.push_back(Wish { subscribe: true, ..Wish::later(named, true) });
        }
    }

    /// The interest is gone; whether there was one.
    pub(super) fn unfollow(&mut self, channel: &str) -> bool {
        let Some(place) = self.places.remove(channel) else { return false };
        let gone = self.list.swap_remove(place);
        if !gone.told {
            self.untold -= 1;
        }
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.channel.clone(), place);
        }
        true
    }

    /// The channel, if it is followed.
    pub(super) fn channel(&self, name: &str) -> Option<&Arc<str>> {
        self.places
            .get(name)
            .and_then(|place| self.list.get(*place))
            .map(|followed| &followed.channel)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The link is up: everything is subscribed to and asked for, in random order, so that links that come back at the same
    /// time do not ask for the same at the same time.
    pub(super) fn restart(&mut self, now: Instant, entropy: &mut Entropy) {
        self.stop();
        let mut wishes: Vec<_> =
            self.list.iter().map(|followed| followed.wish(now, true)).collect();
        for place in (1..wishes.len()).rev() {
            let other = usize::try_from(entropy.below(place as u64 + 1)).unwrap_or(0);
            wishes.swap(place, other);
        }
        for followed in &mut self.list {
            (followed.told, followed.asked) = (false, false);
        }
        self.untold = self.list.len();
        self.asks = wishes.into();
    }

    /// The link is down: nothing is asked for.
    pub(super) fn stop(&mut self) {
        self.asks.clear();
        self.stranded.clear();
        self.batches = 0;
    }

    /// From time to time everything is asked for, unless that is still going on.
    pub(super) fn check(&mut self, now: Instant) {
        if self.asks.is_empty() && self.batches == 0 {
            self.asks.extend(self.list.iter().map(|followed| followed.wish(now, false)));
        }
    }

    /// Something may have been founded by now.
    pub(super) fn retry(&mut self) {
        let stranded = std::mem::take(&mut self.stranded);
        let wishes = stranded.into_iter().map(|named| Wish::later(named, true));
        self.asks.extend(wishes);
    }

    /// Whether everything that is followed was told since the link is up.
    pub(super) fn is_told(&self) -> bool {
        self.untold == 0
    }

    /// The next batch to ask for.
    pub(super) fn next_ask(&mut self, limits: &LinkLimits, entropy: &mut Entropy) -> Option<Ask> {
        if self.batches >= limits.batches_max {
            return None;
        }
        let (mut ask, mut bytes): (Option<Ask>, usize) = (None, 0);
        while let Some(wish) = self.asks.front() {
            let place = self.places.get(&wish.named.channel);
            let followed = place.and_then(|place| self.list.get_mut(*place));
            let Some(followed) = followed.filter(|it| it.generation == wish.named.generation)
            else {
                self.asks.pop_front();
                continue;
            };
            let Wish { subscribe, found, newest, .. } = *wish;
            bytes += wish.named.channel.len() + NAME_BYTES;
            let batch = ask.get_or_insert_with(|| Ask::new(wish));
            let is_first = batch.channels.is_empty();
            let fits =
                bytes <= limits.batch_bytes_max && batch.channels.len() < limits.batch_names_max;
            let same = (batch.subscribe, batch.found.is_some(), batch.newest);
            if same != (subscribe, found, newest) || !(fits || is_first) {
                break;
            }
            if let Some(with) = &mut batch.found {
                // An epoch that was begun with once is not begun with again: it may have been given to others.
                let epoch = followed.epoch.take();
                let epoch = epoch.unwrap_or_else(|| Epoch::from_random(entropy.next_u64()));
                with.push((epoch, followed.retention.position.max(followed.retention.time)));
            }
            followed.asked = false;
            if let Some(wish) = self.asks.pop_front() {
                batch.channels.push(wish.named.channel);
                batch.generations.push(wish.named.generation);
            }
        }
        self.batches += usize::from(ask.is_some());
        ask
    }

    /// Where the channels of a batch stand. Tells those that are still followed; `full`: nothing can be founded now.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        ask: Ask,
        stands: Vec<Stand>,
        full: bool,
        events: &mut impl Extend<BusEvent>,
    ) {
        self.batches = self.batches.saturating_sub(1);
        let founding = ask.found.is_some();
        let named = ask.channels.into_iter().zip(ask.generations);
        for ((channel, generation), stand) in named.zip(stands) {
            let place = self.places.get(&channel);
            let followed = place.and_then(|place| self.list.get_mut(*place));
            let Some(followed) = followed.filter(|it| it.generation == generation) else {
                continue;
            };
            if founding {
                followed.kept = Some(now);
            }
            let event = match stand {
                Stand::At(standing, newest) => {
                    BusEvent::Channel(ChannelEvent::Standing { channel, standing, newest })
                }
                Stand::Broken => {
                    BusEvent::Channel(ChannelEvent::Live { channel, live: Live::Poison })
                }
                Stand::Nowhere => {
                    let named = Named { channel, generation };
                    if full {
                        self.stranded.push(named);
                    } else {
                        self.asks.push_back(Wish::later(named, true));
                    }
                    continue;
                }
            };
            if !std::mem::replace(&mut followed.told, true) {
                self.untold -= 1;
            }
            events.extend([event]);
        }
    }

    /// Nothing can be founded now: where do those that are there stand? Or not even that is told: it is asked a little later.
    pub(super) fn refused(&mut self, ask: Ask) {
        self.batches = self.batches.saturating_sub(1);
        let founding = ask.found.is_some();
        for (channel, generation) in ask.channels.into_iter().zip(ask.generations) {
            let named = Named { channel, generation };
            if founding {
                self.asks.push_back(Wish { newest: ask.newest, ..Wish::later(named, false) });
            } else {
                self.stranded.push(named);
            }
        }
    }

    /// Whether an append has to say how long all is kept.
    pub(super) fn is_renewal_due(&self, now: Instant, channel: &str, retention: Retention) -> bool {
        let place = self.places.get(channel);
        let renewed = place.and_then(|place| self.list.get(*place)).and_then(|it| it.renewed);
        let lasts = |retention: Retention| {
            let kept = retention.messages > 0 && !retention.time.is_zero();
            if kept { retention.time } else { retention.position }
        };
        renewed.is_none_or(|(at, what)| {
            what != retention || now.saturating_duration_since(at) >= lasts(retention) / RENEWALS
        })
    }

    /// An append has said so.
    pub(super) fn renewed(&mut self, now: Instant, channel: &str, retention: Retention) {
        let place = self.places.get(channel);
        if let Some(followed) = place.and_then(|place| self.list.get_mut(*place)) {
            followed.renewed = Some((now, retention));
        }
    }
}

impl Followed {
    /// Where does it stand? From time to time, and at first, it is also said how long that is kept.
    fn wish(&self, now: Instant, subscribe: bool) -> Wish {
        let named = Named { channel: self.channel.clone(), generation: self.generation };
        let life = self.retention.position.max(self.retention.time);
        let kept = self.kept.is_some_and(|kept| now.saturating_duration_since(kept) < life / KEEPS);
        // Who subscribes again may have heard all of it.
        Wish { named, subscribe, found: !kept, newest: subscribe }
    }
}

impl Wish {
    /// Of a channel that is subscribed to already.
    fn later(named: Named, found: bool) -> Self {
        Self { named, subscribe: false, found, newest: false }
    }
}

impl Ask {
    /// One that begins with this.
    fn new(wish: &Wish) -> Self {
        let found = wish.found.then(Vec::new);
        let (subscribe, newest) = (wish.subscribe, wish.newest);
        Self { channels: Vec::new(), generations: Vec::new(), subscribe, newest, found }
    }
}

/// Appends say how long all is kept so many times in that time.
const RENEWALS: u32 = 10;
/// It is said of what is followed so many times in the time for which its numbers are kept.
const KEEPS: u32 = 4;
/// About what a channel's name has more in pub/sub.
const NAME_BYTES: usize = 40;
