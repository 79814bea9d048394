//! `mahavishnu verify`: whether an installation works, seen by a client and, on the server's machine, from within.
//!
//! Each check tries the real thing and says what it found, and what to do if that is not well. None changes anything but
//! for one event, published to a channel that nobody else knows.

mod answers;
mod files;
mod machine;
mod proxy;
mod redis;
mod report;
mod served;
mod site;
mod talk;

use crate::{
    cli::VerifyArgs,
    exit::{Exit, Failure},
};

use self::{report::Report, site::Site};

/// Carries out every check in turn. Something failed: exit code 4.
pub(crate) fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let site = Site::find(args)?;
    let mut report = Report::new(args.json, args.strict);
    for check in machine::checks(&site) {
        report.add(check)?;
    }
    for check in files::checks(&site) {
        report.add(check)?;
    }
    report.add(redis::check(&site))?;
    let health = answers::Health::ask(&site);
    for check in health.checks(&site) {
        report.add(check)?;
    }
    report.add(answers::metrics(&site, args.metrics.as_deref()))?;
    for check in served::checks(&site) {
        report.add(check)?;
    }
    // Who does not answer over HTTP need not be waited for once more.
    if health.is_there() {
        for check in talk::checks(&site, args) {
            report.add(check)?;
        }
        for check in proxy::checks(&site, &health) {
            report.add(check)?;
        }
    }
    report.finish(&site.target.http(""))
}
