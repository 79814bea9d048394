//! Where Redis is and how it is spoken to: the link's configuration, from the settings.

use std::path::Path;

use mahavishnu_driver::links::{
    LinkConfig, LinkLimits, Secret, Servers,
    tls::{self, ClientError},
};
use zeroize::Zeroizing;

use crate::{
    exit::{Exit, Failure},
    handed,
    memory::Capacity,
    settings::{self, Loaded, Settings},
    translate, trust,
};

/// How this server speaks to Redis; `None`: there is to be none. `loaded` must be free of problems.
///
/// # Errors
///
/// A file for TLS cannot be used, named with what to do.
pub(crate) fn link_config(loaded: &Loaded) -> Result<Option<LinkConfig>, Failure> {
    let settings = &loaded.settings;
    let Some(servers) = servers(loaded) else { return Ok(None) };
    Ok(Some(LinkConfig {
        servers,
        db: settings.redis_db,
        username: settings.redis_username.as_deref().map(Into::into),
        password: loaded.passwords.redis.as_ref().map(secret),
        prefix: settings.redis_prefix.as_str().into(),
        node_name: translate::node_name(settings).into(),
        tls: tls(settings)?,
        connect_timeout: settings.redis_connect_timeout,
        timeout: settings.redis_timeout,
        limits: limits(settings),
    }))
}

fn limits(settings: &Settings) -> LinkLimits {
    let default = LinkLimits::default();
    LinkLimits {
        command_bytes_max: Capacity::of(settings).bus.commands,
        // One message that may be published also has to come back, with room for what is around it.
        reply_bytes_max: default.reply_bytes_max.max(settings.max_message_bytes.saturating_mul(2)),
        ..default
    }
}

/// What a reload makes of it: where Redis is, what is whose there and what this server is called stay as they were at the
/// start.
pub(crate) fn reloaded(running: &LinkConfig, fresh: LinkConfig) -> LinkConfig {
    let servers = match (&running.servers, fresh.servers) {
        (
            Servers::Sentinel { addresses, master, .. },
            Servers::Sentinel { username, password, .. },
        ) => Servers::Sentinel {
            addresses: addresses.clone(),
            master: master.clone(),
            username,
            password,
        },
        (servers, _) => servers.clone(),
    };
    let LinkConfig { db, prefix, node_name, .. } = running.clone();
    LinkConfig { servers, db, prefix, node_name, ..fresh }
}

fn servers(loaded: &Loaded) -> Option<Servers> {
    let settings = &loaded.settings;
    if let Some(host) = &settings.redis_host {
        return Some(Servers::Single { host: host.as_str().into(), port: settings.redis_port });
    }
    let master = settings.redis_sentinel_master.as_deref()?.into();
    let address = |at: &settings::Endpoint| (at.host.as_str().into(), at.port);
    Some(Servers::Sentinel {
        addresses: settings.redis_sentinels.iter().map(address).collect(),
        master,
        username: settings.redis_sentinel_username.as_deref().map(Into::into),
        password: loaded.passwords.sentinel.as_ref().map(secret),
    })
}

fn secret(secret: &settings::Secret) -> Secret {
    Secret::new(secret.reveal())
}

fn tls(settings: &Settings) -> Result<Option<tls::Client>, Failure> {
    if !settings.redis_tls {
        return Ok(None);
    }
    let authorities = match &settings.redis_ca_file {
        Some(path) => read(CA_FILE, path)?,
        None => trust::bundle()?.1,
    };
    let own = settings.redis_cert_file.as_deref();
    let own = own.map(|certificate| {
        let key = settings.redis_key_file.as_deref().unwrap_or(certificate);
        Ok::<_, Failure>((read(CERT_FILE, certificate)?, read(KEY_FILE, key)?))
    });
    let own = own.transpose()?;
    let own = own.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
    let client = tls::Client::new(&authorities, own, settings.redis_tls_name.as_deref());
    client.map(Some).map_err(|error| {
        let name = match error {
            ClientError::Authorities => CA_FILE,
            ClientError::Certificate => CERT_FILE,
            ClientError::Key | ClientError::Mismatch => KEY_FILE,
            ClientError::Name => "MAHAVISHNU_REDIS_TLS_NAME",
            ClientError::Library | _ => "MAHAVISHNU_REDIS_TLS",
        };
        Failure::new(Exit::Configuration, format!("{name}: {error}"))
    })
}

fn read(name: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    handed::bytes(path).map_err(|refused| refused.of(name))
}

const CA_FILE: &str = "MAHAVISHNU_REDIS_CA_FILE";
const CERT_FILE: &str = "MAHAVISHNU_REDIS_CERT_FILE";
const KEY_FILE: &str = "MAHAVISHNU_REDIS_KEY_FILE";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::testing::load;

    fn config(pairs: &[(&str, &str)]) -> LinkConfig {
        link_config(&load(pairs)).unwrap().unwrap()
    }

    #[test]
    fn without_a_host_there_is_no_redis() {
        assert_eq!(link_config(&load(&[])).unwrap(), None);
    }

    #[test]
    fn defaults_are_those_of_a_link() {
        let config = config(&[("REDIS_HOST", "127.0.0.1"), ("NODE_NAME", "node")]);
        assert_eq!(config, LinkConfig::default());
    }

    #[test]
    fn every_setting_reaches_the_link() {
        let config = config(&[
            ("REDIS_HOST", "redis.example"),
            ("REDIS_PORT", "6380"),
            ("REDIS_DB", "3"),
            ("REDIS_USERNAME", "app"),
            ("REDIS_PASSWORD", "hunter2"),
            ("REDIS_PREFIX", "team"),
            ("REDIS_CONNECT_TIMEOUT", "1"),
            ("REDIS_TIMEOUT", "3"),
            ("NODE_NAME", "a1"),
        ]);
        let servers = Servers::Single { host: "redis.example".into(), port: 6380 };
        assert_eq!((config.servers, config.db), (servers, 3));
        assert_eq!(config.username.as_deref(), Some("app"));
        assert_eq!(config.password, Some(Secret::new("hunter2")));
        assert_eq!((&*config.prefix, &*config.node_name), ("team", "a1"));
        let times = (config.connect_timeout, config.timeout);
        assert_eq!(times, (Duration::from_secs(1), Duration::from_secs(3)));
    }

    #[test]
    fn what_may_be_under_way_follows_from_what_is_let_in_and_from_the_memory() {
        let limits = |pairs: &[(&str, &str)]| {
            let limits = config(&[&[("REDIS_HOST", "r")], pairs].concat()).limits;
            (limits.command_bytes_max, limits.reply_bytes_max)
        };
        assert_eq!(limits(&[("REDIS_QUEUE_BYTES", "33554432")]), (32 << 20, 64 << 20));
        assert_eq!(limits(&[("MAX_MESSAGE_BYTES", "134217728")]), (16 << 20, 256 << 20));
        let (small, _) = limits(&[("MEMORY_LIMIT", "64M"), ("SHARDS", "1")]);
        assert!(small < 2 << 20, "{small}");
    }

    #[test]
    fn sentinels_stand_in_for_the_host() {
        let config = config(&[
            ("REDIS_SENTINELS", "10.0.0.1:1,s-2"),
            ("REDIS_SENTINEL_MASTER", "main"),
            ("REDIS_SENTINEL_USERNAME", "app"),
            ("REDIS_SENTINEL_PASSWORD", "hunter2"),
        ]);
        let expected = Servers::Sentinel {
            addresses: vec![("10.0.0.1".into(), 1), ("s-2".into(), 26379)],
            master: "main".into(),
            username: Some("app".into()),
            password: Some(Secret::new("hunter2")),
        };
        assert_eq!(config.servers, expected);
    }

    #[test]
    fn a_reload_brings_new_passwords_and_times_to_the_same_redis() {
        let sentinel = |host: &str, password: &str, timeout: &str| {
            config(&[
                ("REDIS_SENTINELS", host),
                ("REDIS_SENTINEL_MASTER", "main"),
                ("REDIS_SENTINEL_PASSWORD", password),
                ("REDIS_PASSWORD", password),
                ("REDIS_TIMEOUT", timeout),
            ])
        };
        let (running, fresh) = (sentinel("s", "old", "5"), sentinel("elsewhere", "new", "6"));
        assert_eq!(reloaded(&running, fresh), sentinel("s", "new", "6"));
        let single = |host: &str, db: &str, password: &str| {
            let base = [("REDIS_HOST", host), ("REDIS_DB", db), ("REDIS_PASSWORD", password)];
            config(&[&base[..], &[("NODE_NAME", host), ("REDIS_PREFIX", host)]].concat())
        };
        let reloaded = reloaded(&single("r", "1", "old"), single("elsewhere", "2", "new"));
        assert_eq!(reloaded, single("r", "1", "new"));
    }

    #[test]
    fn what_is_wrong_with_files_for_tls_is_said_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let made = rcgen::generate_simple_self_signed(["redis".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["redis".to_owned()]).unwrap();
        let cert = file("cert", &made.cert.pem());
        let key = file("key", &made.signing_key.serialize_pem());
        let other = file("other", &other.signing_key.serialize_pem());
        let both = file("both", &(made.cert.pem() + &made.signing_key.serialize_pem()));
        let empty = file("empty", "");
        let tls = |pairs: &[(&str, &str)]| {
            let base = [("REDIS_HOST", "r"), ("REDIS_TLS", "true")];
            let config = link_config(&load(&[&base[..], pairs].concat()));
            config.map(|config| config.unwrap().tls.is_some()).map_err(|error| error.to_string())
        };
        let (ca, own) = (("REDIS_CA_FILE", &*cert), ("REDIS_CERT_FILE", &*cert));
        for fine in [
            &[ca][..],
            &[ca, ("REDIS_TLS_NAME", "r.example")],
            &[ca, own, ("REDIS_KEY_FILE", &key)],
            &[ca, ("REDIS_CERT_FILE", &both)],
        ] {
            assert_eq!(tls(fine), Ok(true), "{fine:?}");
        }
        for (wrong, name) in [
            (&[("REDIS_CA_FILE", "/nonexistent")][..], "MAHAVISHNU_REDIS_CA_FILE: /nonexistent"),
            (&[("REDIS_CA_FILE", &*empty)], "MAHAVISHNU_REDIS_CA_FILE: "),
            (&[ca, ("REDIS_CERT_FILE", &*empty)], "MAHAVISHNU_REDIS_KEY_FILE: "),
            (&[ca, ("REDIS_CERT_FILE", &*key)], "MAHAVISHNU_REDIS_CERT_FILE: "),
            (&[ca, own], "MAHAVISHNU_REDIS_KEY_FILE: "),
            (&[ca, own, ("REDIS_KEY_FILE", &*other)], "MAHAVISHNU_REDIS_KEY_FILE: "),
        ] {
            let error = tls(wrong).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn without_a_name_of_its_own_a_node_has_the_machines() {
        let config = config(&[("REDIS_HOST", "r")]);
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(&*config.node_name, name.trim_end());
    }
}
