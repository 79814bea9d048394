//! What operators are told of a link to Redis.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_core::hub::{BusEvent, BusState, LinkEvent, NodeEvent, ShardId};
use mahavishnu_links::RedisInfo;
use tracing::{info, warn};

/// What was told of one link, so that it is told once, and again only now and then.
#[derive(Debug)]
pub(crate) struct Reports {
    shard: u16,
    /// Since when Redis is away, for what cause, and when that was last told.
    away: Option<(Instant, Arc<str>, Instant)>,
    /// What it was when it was last connected to.
    redis: Option<RedisInfo>,
    full: Option<&'static str>,
}

impl Reports {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self { shard: shard.0, away: None, redis: None, full: None }
    }

    /// The link tells the hub something.
    pub(crate) fn hear(&mut self, event: &BusEvent, redis: Option<&RedisInfo>) {
        if let BusEvent::Link(LinkEvent::Up { session }) = event {
            self.up(*session, redis);
        } else if let BusEvent::Link(LinkEvent::State(state)) = event {
            self.state(state, Instant::now());
        } else if let BusEvent::Node(NodeEvent::LeaseLost) = event {
            warn!(
                shard = self.shard,
                "the lease was over before it was renewed: the other servers have taken this one for gone"
            );
        }
    }

    fn up(&mut self, session: u64, redis: Option<&RedisInfo>) {
        let away = self.away.take().map(|(since, ..)| since.elapsed().as_secs_f64());
        let (server, version) = redis
            .map_or_else(Default::default, |redis| (redis.server.clone(), redis.version.clone()));
        info!(shard = self.shard, session, %server, %version, away_seconds = away, "Redis is there");
        if self.redis.as_ref() == redis {
            return;
        }
        self.redis = redis.cloned();
        // All links have the same Redis.
        if self.shard != 0 {
            return;
        }
        if let Some(policy) = redis.and_then(|redis| redis.eviction.as_deref())
            && policy != "noeviction"
        {
            warn!(
                policy,
                "Redis' maxmemory-policy lets it throw away what it keeps of channels; set it to noeviction"
            );
        }
    }

    fn state(&mut self, state: &BusState, now: Instant) {
        if state.full != self.full {
            self.full = state.full;
            match state.full {
                Some(why) => {
                    warn!(shard = self.shard, why, "Redis takes no writes: publishers wait");
                }
                None => info!(shard = self.shard, "Redis takes writes again"),
            }
        }
        if let Some(cause) = state.cause.as_ref().filter(|_| !state.up)
            && let Some(since) = self.is_news(cause, now)
        {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            warn!(shard = self.shard, %cause, seconds, "Redis is away");
            self.away = Some((since, cause.clone(), now));
        }
    }

    /// Since when Redis is away, if that is to be told.
    fn is_news(&self, cause: &Arc<str>, now: Instant) -> Option<Instant> {
        let Some((since, told, at)) = &self.away else { return Some(now) };
        (told != cause || now.saturating_duration_since(*at) >= TOLD_EVERY).then_some(*since)
    }
}

/// How often it is told that Redis is still away.
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn away(cause: &str) -> BusState {
        BusState { cause: Some(cause.into()), ..BusState::default() }
    }

    #[test]
    fn the_same_cause_is_told_once_a_minute() {
        let mut reports = Reports::new(ShardId(0));
        let start = Instant::now();
        let told = |reports: &mut Reports, cause: &str, seconds| {
            reports.state(&away(cause), start + Duration::from_secs(seconds));
            reports.away.as_ref().map(|(since, _, at)| {
                let of = |at: &Instant| at.saturating_duration_since(start).as_secs();
                (of(since), of(at))
            })
        };
        assert_eq!(told(&mut reports, "refused", 1), Some((1, 1)));
        assert_eq!(told(&mut reports, "refused", 60), Some((1, 1)), "not again so soon");
        assert_eq!(told(&mut reports, "WRONGPASS", 60), Some((1, 60)), "another cause");
        assert_eq!(told(&mut reports, "WRONGPASS", 120), Some((1, 120)));
        reports.up(1, None);
        assert_eq!(told(&mut reports, "WRONGPASS", 121), Some((121, 121)), "a new outage");
    }
}
