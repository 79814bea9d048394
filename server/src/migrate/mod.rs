//! `mahavishnu migrate` and `mahavishnu nodes`: what servers keep in Redis, and which of them are there.

mod client;
mod look;
mod standing;

use std::sync::Arc;

use mahavishnu_driver::links::{LinkConfig, redis as layout};
use serde::Serialize;

pub(crate) use self::look::look;
use self::standing::{Live, Place, foreign};
use crate::{
    cli::{MigrateDownArgs, MigrateUpArgs, NodesArgs, RedisArgs},
    exit::{Exit, Failure},
    out::{self, one_line, span},
    redis, settings, token,
};

/// Says what lies in Redis. It is not for this program: exit code 5.
pub(crate) fn status(args: &RedisArgs) -> Result<Exit, Failure> {
    let config = config(args)?;
    let mut place = Place::open(&config)?;
    let client = &place.client;
    let [server, version, role] =
        ["server", "version", "role"].map(|name| one_line(client.says(name)));
    let who = client.who();
    out::line(format_args!("{who}: {server} {version}, {role}"))?;
    out::line(format_args!("prefix {}, database {}", config.prefix, config.db))?;
    if let Some(why) = place.unfit() {
        return Err(Failure::new(Exit::Configuration, format!("{}: {why}", place.client.who())));
    }
    let there = place.layout()?;
    out::line(format_args!("layout: {}", describe(&mut place, there.as_deref())?))?;
    let nodes = place.live()?;
    out::line(format_args!("nodes: {}", nodes.len()))?;
    for node in &nodes {
        out::line(format_args!("  {}", line(node)))?;
    }
    out::line(format_args!("keys: {}", place.count()?))?;
    match there {
        Some(other) if other != layout::LAYOUT => Err(foreign(&other)),
        Some(_) => told("fits"),
        None => told("fits: the first node begins the layout, or `mahavishnu migrate up`"),
    }
}

fn describe(place: &mut Place, there: Option<&str>) -> Result<String, Failure> {
    let here = layout::LAYOUT;
    let Some(there) = there else { return Ok(format!("none there, {here} here")) };
    let by = place.layout_field("by")?.map(|by| format!(", by {by}")).unwrap_or_default();
    let at = place.layout_field("at")?.and_then(|at| at.parse::<u64>().ok());
    let age = at.and_then(|at| token::unix_now().as_secs().checked_sub(at));
    let age = age.map(|age| format!(" {} ago", span(age))).unwrap_or_default();
    Ok(format!("{there} there{by}{age}, {here} here"))
}

/// Begins the layout.
pub(crate) fn up(args: &MigrateUpArgs) -> Result<Exit, Failure> {
    let mut place = fit(&args.redis)?;
    match place.layout()? {
        Some(there) if there == layout::LAYOUT => return told(format!("layout {there} already")),
        Some(other) => return Err(foreign(&other)),
        None => {}
    }
    if args.dry_run {
        return told(format!("would begin layout {}", layout::LAYOUT));
    }
    let key = place.names.layout();
    for (field, value) in layout::founding(token::unix_now()) {
        let words = ["HSETNX", &key, field, &value].map(str::as_bytes);
        place.client.ask(&words)?;
    }
    match place.layout()? {
        Some(there) if there == layout::LAYOUT => told(format!("began layout {there}")),
        // Somebody else was faster.
        Some(other) => Err(foreign(&other)),
        None => Err(place.client.odd()),
    }
}

/// Removes everything.
pub(crate) fn down(args: &MigrateDownArgs) -> Result<Exit, Failure> {
    let mut place = fit(&args.redis)?;
    if let Some(other) = place.layout()?.filter(|there| there != layout::LAYOUT)
        && !args.force
    {
        let mut failure = foreign(&other);
        failure.lines.push("take the program that wrote it, or --force".into());
        return Err(failure);
    }
    let nodes = place.live()?;
    if !nodes.is_empty() && !args.force {
        let mut lines = vec![format!("nodes hold leases: {}; stop them, or --force", nodes.len())];
        lines.extend(nodes.iter().map(|node| format!("  {}", line(node))));
        return Err(Failure { exit: Exit::AlreadyRunning, lines });
    }
    if args.dry_run {
        return told(format!("would remove keys: {}", place.count()?));
    }
    out::line(format_args!("removed keys: {}", place.unlink()?))?;
    if !nodes.is_empty() {
        out::note("nodes are there still: they put back what they have");
    }
    Ok(Exit::Ok)
}

/// Prints who holds a lease.
pub(crate) fn nodes(args: &NodesArgs) -> Result<Exit, Failure> {
    let mut place = Place::open(&config(&args.redis)?)?;
    let nodes = place.live()?;
    for node in &nodes {
        let text = if args.json { json(node)? } else { line(node) };
        out::line(text)?;
    }
    if nodes.is_empty() {
        out::note("no node holds a lease");
    }
    Ok(Exit::Ok)
}

/// Redis, if nodes of this program can use it.
fn fit(args: &RedisArgs) -> Result<Place, Failure> {
    let place = Place::open(&config(args)?)?;
    match place.unfit() {
        Some(why) => {
            Err(Failure::new(Exit::Configuration, format!("{}: {why}", place.client.who())))
        }
        None => Ok(place),
    }
}

fn config(args: &RedisArgs) -> Result<Arc<LinkConfig>, Failure> {
    let loaded = settings::load(&args.request())?;
    loaded.demand_redis()?;
    redis::link_config(&loaded)?.map(Arc::new).ok_or_else(|| {
        let text = "no Redis is set: MAHAVISHNU_REDIS_HOST, or MAHAVISHNU_REDIS_SENTINELS and MAHAVISHNU_REDIS_SENTINEL_MASTER";
        Failure::new(Exit::Configuration, text)
    })
}

/// A node for people.
fn line(Live { id, info }: &Live) -> String {
    let (up, total) = (info.links.up, info.links.total);
    let draining = if info.draining { ", draining" } else { "" };
    let [name, version] = [&info.name, &info.version].map(|text| one_line(text));
    format!(
        "{name} {id}: version {version}, records {}, connections {}, links {up}/{total}{draining}",
        info.record, info.connections
    )
}

/// A node for programs.
fn json(node: &Live) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Shown<'a> {
        node: &'a str,
        #[serde(flatten)]
        info: &'a mahavishnu_core::hub::NodeInfo,
    }
    let text = serde_json::to_string(&Shown { node: &node.id, info: &node.info });
    text.map(|text| one_line(&text)).map_err(|e| Failure::new(Exit::General, e.to_string()))
}

fn told(text: impl std::fmt::Display) -> Result<Exit, Failure> {
    out::line(text)?;
    Ok(Exit::Ok)
}
