//! `mahavishnu cert check`: what the certificates are, how long they last, and what is wrong with them.

use std::{path::Path, time::Duration};

use mahavishnu_core::tls::{Certified, CertifiedError, Chain, Facts};
use serde_json::{Value, json};

use super::{
    day, days_left,
    files::{self, Pair},
};
use crate::{
    cli::CertCheckArgs,
    exit::{Exit, Failure},
    out,
    settings::{self, Settings},
};

/// Everything about one file of certificates.
struct Report {
    pair: Pair,
    facts: Vec<Facts>,
    /// Whether the key is the certificate's; `None` if the key could not be read.
    key_matches: Option<bool>,
    chain_in_order: bool,
    days: i64,
    problems: Vec<String>,
    /// What some clients refuse.
    warnings: Vec<&'static str>,
    exit: Exit,
}

/// Checks the certificates that the settings, or the arguments, name. The exit code is the worst of them.
pub(crate) fn check(args: &CertCheckArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    loaded.demand_sound(&[files::CERT_FILE, files::KEY_FILE, "MAHAVISHNU_CERT_MIN_DAYS"])?;
    let settings = &loaded.settings;
    let pairs = pairs(args, settings)?;
    let days_min = args.min_days.unwrap_or(settings.cert_min_days);
    let reports = pairs
        .into_iter()
        .map(|pair| Report::of(pair, super::now(), days_min))
        .collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let list: Vec<_> = reports.iter().map(Report::to_json).collect();
        out::line(json!({ "status": word(worst(&reports)), "certificates": list }))?;
    } else {
        for report in &reports {
            out::line(report.to_text())?;
        }
    }
    Ok(worst(&reports))
}

fn pairs(args: &CertCheckArgs, settings: &Settings) -> Result<Vec<Pair>, Failure> {
    if let Some(certificate) = &args.cert {
        let key = args.key.as_ref().unwrap_or(certificate).clone();
        return Ok(vec![Pair { certificate: certificate.clone(), key }]);
    }
    let pairs = files::pairs(settings);
    if pairs.is_empty() {
        let text = "no certificate is named: set MAHAVISHNU_CERT_FILE or give --cert FILE";
        return Err(Failure::new(Exit::Configuration, text));
    }
    Ok(pairs)
}

/// What is to be known of one file of certificates.
pub(crate) struct Surveyed {
    pub(crate) days: i64,
    pub(crate) problems: Vec<String>,
    pub(crate) exit: Exit,
}

/// All files that the settings name, for another subcommand.
pub(crate) fn survey(settings: &Settings, days_min: u32) -> Result<Vec<Surveyed>, Failure> {
    let surveyed = |pair: Pair| {
        let path = show(&pair.certificate);
        let report = Report::of(pair, super::now(), days_min)?;
        let problems = report.problems.iter().map(|problem| format!("{path}: {problem}"));
        Ok(Surveyed { days: report.days, problems: problems.collect(), exit: report.exit })
    };
    files::pairs(settings).into_iter().map(surveyed).collect()
}

impl Report {
    fn of(pair: Pair, now: Duration, days_min: u32) -> Result<Self, Failure> {
        let chain = files::read_chain(files::CERT_FILE, &pair.certificate)?;
        let facts = chain.facts().map_err(|place| {
            let text = CertifiedError::Unreadable(place);
            let path = pair.certificate.display();
            Failure::new(Exit::CertificateInvalid, format!("{}: {path}: {text}", files::CERT_FILE))
        })?;
        let mut problems = Vec::new();
        let key_matches = key_matches(&pair, &chain, &mut problems);
        let broken = chain.break_in_order();
        if let Some(place) = broken {
            problems.push(format!(
                "certificate {place} of the file is not signed by the next one; put each before the one that signed it"
            ));
        }
        for (facts, place) in facts.iter().zip(1..) {
            if let Some(text) = files::out_of_time(facts, now) {
                problems.push(format!("certificate {place} {text}"));
            }
            if let Some(weakness) = facts.weakness() {
                problems.push(format!("certificate {place} is weak: {weakness}"));
            }
        }
        let warnings: Vec<_> = facts.first().map(Facts::peculiarities).unwrap_or_default();
        // A chain is as good as its first certificate to expire.
        let days =
            facts.iter().map(|facts| days_left(facts.not_after, now)).min().unwrap_or_default();
        let exit = if !problems.is_empty() {
            Exit::CertificateInvalid
        } else if days < i64::from(days_min) {
            Exit::CertificateExpiring
        } else {
            Exit::Ok
        };
        if let Some(text) = files::open_to_all(&pair.key) {
            // Not wrong for TLS, but worth a line.
            problems.push(text.to_owned());
        }
        Ok(Self {
            pair,
            facts,
            key_matches,
            chain_in_order: broken.is_none(),
            days,
            problems,
            warnings,
            exit,
        })
    }

    fn to_json(&self) -> Value {
        let leaf = self.facts.first();
        let names: Vec<_> =
            leaf.into_iter().flat_map(Facts::alternative_names).map(ToString::to_string).collect();
        json!({
            "file": self.pair.certificate.display().to_string(),
            "key_file": self.pair.key.display().to_string(),
            "status": word(self.exit),
            "subject": leaf.map(|facts| &facts.subject),
            "issuer": leaf.map(|facts| &facts.issuer),
            "not_before": leaf.map(|facts| day(facts.not_before)),
            "not_after": leaf.map(|facts| day(facts.not_after)),
            "days_left": self.days,
            "names": names,
            "key": leaf.map(|facts| facts.key.to_string()),
            "key_matches": self.key_matches,
            "chain": self.facts.iter().map(|facts| &facts.subject).collect::<Vec<_>>(),
            "chain_in_order": self.chain_in_order,
            "problems": self.problems,
            "warnings": self.warnings,
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}: {}\n", self.pair.certificate.display(), word(self.exit));
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<9} {value}\n"));
        if let Some(leaf) = self.facts.first() {
            line("subject", leaf.subject.clone());
            line("issuer", leaf.issuer.clone());
            line(
                "valid",
                format!(
                    "{} to {}, {} days left",
                    day(leaf.not_before),
                    day(leaf.not_after),
                    self.days
                ),
            );
            let names: Vec<_> = leaf.alternative_names().map(ToString::to_string).collect();
            line("names", names.join(", "));
            let matches = match self.key_matches {
                Some(true) => "the key file matches",
                Some(false) => "the key file does not match",
                None => "the key file cannot be used",
            };
            line("key", format!("{}, {matches}", leaf.key));
        }
        let order = if self.chain_in_order { "in order" } else { "not in order" };
        let certificates = if self.facts.len() == 1 { "certificate" } else { "certificates" };
        line("chain", format!("{} {certificates}, {order}", self.facts.len()));
        for problem in &self.problems {
            line("problem", problem.clone());
        }
        for warning in &self.warnings {
            line("warning", format!("the certificate {warning}"));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn key_matches(pair: &Pair, chain: &Chain, problems: &mut Vec<String>) -> Option<bool> {
    let key = match files::read_key(&pair.key) {
        Ok(key) => key,
        Err(failure) => {
            problems.extend(failure.lines);
            return None;
        }
    };
    match Certified::new(chain.clone(), &key) {
        Ok(_) => Some(true),
        Err(error) => {
            let file = match error {
                CertifiedError::OldVersion | CertifiedError::UnknownCritical => &pair.certificate,
                CertifiedError::Unreadable(_)
                | CertifiedError::UnsupportedKey(_)
                | CertifiedError::Mismatch
                | _ => &pair.key,
            };
            problems.push(format!("{}: {error}", show(file)));
            (error == CertifiedError::Mismatch).then_some(false)
        }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn worst(reports: &[Report]) -> Exit {
    // Declared in this order: expiring, then invalid.
    reports.iter().map(|report| report.exit).max_by_key(|exit| *exit as u8).unwrap_or(Exit::Ok)
}

fn word(exit: Exit) -> &'static str {
    if exit == Exit::CertificateInvalid {
        "invalid"
    } else if exit == Exit::CertificateExpiring {
        "expiring"
    } else {
        "valid"
    }
}
