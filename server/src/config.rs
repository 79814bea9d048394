//! `mahavishnu config check | show | docs`.

use crate::{
    cli::ServerArgs,
    exit::{Exit, Failure},
    memory::Capacity,
    out, redis,
    settings::{self, Loaded},
    tls, translate,
};

/// Says whether a server would start with these settings: every problem and every warning, one line each.
pub(crate) fn check(args: &ServerArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    let found = examine(&loaded);
    for warning in &found.warnings {
        out::note(format_args!("warning: {warning}"));
    }
    found.result()?;
    out::line("configuration ok")?;
    Ok(Exit::Ok)
}

/// Fails with all that is wrong, if anything is: settings, and files that they name.
pub(crate) fn demand(loaded: &Loaded) -> Result<(), Failure> {
    examine(loaded).result()
}

/// What is wrong with settings, whichever part of the server would have found it.
struct Found {
    warnings: Vec<String>,
    failures: Vec<Failure>,
}

/// Everything in one go: somebody who mends one thing is not to be told of the next one only then.
fn examine(loaded: &Loaded) -> Found {
    let mut warnings = loaded.warnings.clone();
    let mut failures: Vec<_> = loaded.demand_all().err().into_iter().collect();
    match tls::load(&loaded.settings, None) {
        Ok(tls) => warnings.extend(tls.warnings),
        Err(failure) => failures.push(failure),
    }
    failures.extend(redis::link_config(loaded).err());
    failures.extend(translate::core_config(loaded).err());
    warnings.extend(Capacity::of(&loaded.settings).warnings(&loaded.settings));
    Found { warnings, failures }
}

impl Found {
    fn result(self) -> Result<(), Failure> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        // What only this user may not do is another matter than what is wrong for everybody.
        let alike = self.failures.iter().all(|failure| failure.exit == first.exit);
        let exit = if alike { first.exit } else { Exit::Configuration };
        let mut lines: Vec<String> = Vec::new();
        for line in self.failures.into_iter().flat_map(|failure| failure.lines) {
            // Two parts may find the same.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        Err(Failure { exit, lines })
    }
}

/// Prints every setting as it counts, with its origin. Problems are told too, and decide the exit code.
pub(crate) fn show(args: &ServerArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    out::line(settings::show(&loaded).trim_end())?;
    out::line(format!("# {}", Capacity::of(&loaded.settings).describe()))?;
    loaded.demand_all()?;
    Ok(Exit::Ok)
}

/// Prints the table of variables as Markdown, for the project's documentation.
pub(crate) fn docs() -> Result<Exit, Failure> {
    out::line(settings::docs().trim_end())?;
    Ok(Exit::Ok)
}
