//! `mahavishnu completions` and `mahavishnu man`: what shells and man(1) want to know, from the command line itself. By
//! clap's own generators, which know every flag.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::{
    cli::{CompletionsArgs, ManArgs},
    examples,
    exit::{Exit, Failure},
    out,
};

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut examples::command(), NAME, &mut text);
    out::line(String::from_utf8_lossy(&text).trim_end())?;
    Ok(Exit::Ok)
}

/// Prints the first page, or writes all into a directory: one for each subcommand.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let command = built();
    let Some(dir) = &args.dir else {
        let page = page(command).map_err(|error| Failure::io("manual page", &error))?;
        out::line(String::from_utf8_lossy(&page).trim_end())?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(dir).map_err(|error| Failure::io(dir.display(), &error))?;
    let mut written = 0;
    write(command, dir, &mut written)?;
    out::line(format_args!("{written} pages written to {}", dir.display()))?;
    Ok(Exit::Ok)
}

/// The command line, with the names that pages refer to each other by: `mahavishnu-token-create`.
fn built() -> Command {
    let mut command = examples::command().disable_help_subcommand(true);
    command.build();
    command
}

fn write(command: Command, dir: &Path, written: &mut usize) -> Result<(), Failure> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write(sub.clone(), dir, written)?;
    }
    let name = file_name(&command);
    let path = dir.join(&name);
    let page = page(command).and_then(|page| std::fs::write(&path, page));
    page.map_err(|error| Failure::io(path.display(), &error))?;
    *written += 1;
    Ok(())
}

fn file_name(command: &Command) -> String {
    format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()))
}

fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(text)
}

const NAME: &str = "mahavishnu";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut written = 0;
        write(built(), dir.path(), &mut written).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), written);
        for name in ["mahavishnu.1", "mahavishnu-token-create.1", "mahavishnu-websocket-start.1"] {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
        assert!(
            !names.iter().any(|name| name.contains("docs")),
            "hidden ones have none: {names:?}"
        );
        let page = std::fs::read_to_string(dir.path().join("mahavishnu-token-create.1")).unwrap();
        for part in [".TH", "\\-\\-permission", "Examples"] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
}
