//! The HTTP client of the subcommands, and its errors in an operator's words.

use std::{io, time::Duration};

use crate::exit::{Exit, Failure, plain};

/// A client that answers within `timeout` and goes straight to the server: a proxy would hide what it is asked for.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
    config.max_redirects(0).max_redirects_will_error(false).proxy(None).build().into()
}

/// What became of a request that got no answer.
pub(crate) fn failure(url: &str, error: &ureq::Error) -> Failure {
    let (exit, why) = if let ureq::Error::Io(error) = error {
        match error.kind() == io::ErrorKind::ConnectionRefused {
            true => (Exit::NotRunning, "nothing listens there (connection refused)".to_owned()),
            false => (Exit::General, plain(error)),
        }
    } else if matches!(error, ureq::Error::Timeout(_)) {
        (Exit::Timeout, "no answer in time".to_owned())
    } else {
        (Exit::General, error.to_string())
    };
    Failure::new(exit, format!("{url}: {why}"))
}
