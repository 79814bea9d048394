//! What is done to both: concrete steps, so that they can be repeated and left out.

use mahavishnu_redis_model::Window;

/// Words of a command.
pub(crate) type Words = Vec<Vec<u8>>;

/// Connections of a run.
pub(crate) const CONNECTIONS: usize = 3;

/// One thing that is done to both.
#[derive(Clone)]
pub(crate) enum Step {
    /// These commands in one write.
    Send { on: usize, commands: Vec<Words> },
    /// All scripts are loaded.
    Load,
    /// So long that what lives for a few milliseconds is over.
    Wait,
    /// The connection is closed, and another one made.
    Anew { on: usize, protocol: u8 },
    /// The server refuses something, or no more.
    Window(Window, bool),
    /// It becomes a replica of nobody that answers, or a primary again.
    Replica(bool),
    /// Everything that is kept is compared.
    Compare,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send { on, commands } => {
                let shown: Vec<String> = commands.iter().map(|words| shown(words)).collect();
                write!(f, "{on}: {}", shown.join("; "))
            }
            Self::Load => write!(f, "load all scripts"),
            Self::Wait => write!(f, "wait"),
            Self::Anew { on, protocol } => write!(f, "{on}: connects anew, RESP{protocol}"),
            Self::Window(window, open) => write!(f, "{window:?}: {open}"),
            Self::Replica(on) => write!(f, "replica: {on}"),
            Self::Compare => write!(f, "compare"),
        }
    }
}

fn shown(words: &[Vec<u8>]) -> String {
    let word = |word: &Vec<u8>| {
        let text = String::from_utf8_lossy(word);
        let short = if text.len() > 60 {
            format!("{}… ({})", &text[..20], text.len())
        } else {
            text.into_owned()
        };
        if short.is_empty() || short.contains([' ', '\n']) { format!("{short:?}") } else { short }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Words from texts.
pub(crate) fn words<W: AsRef<[u8]>>(all: &[W]) -> Words {
    all.iter().map(|word| word.as_ref().to_vec()).collect()
}
