//! The words of a script.

use arbitrary::{Arbitrary, Result, Unstructured};

/// Everything that happens in one run.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) setup: Setup,
    pub(super) ending: Ending,
    /// Play it twice and compare.
    pub(super) twice: bool,
    pub(super) ops: Vec<Op>,
}

/// Operations up to the end of the input: no byte says whether another one follows, so each byte counts.
impl<'a> Arbitrary<'a> for Script {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let (setup, ending, twice): (_, _, u8) = bytes.arbitrary()?;
        let mut ops = Vec::new();
        while !bytes.is_empty() {
            ops.push(bytes.arbitrary()?);
        }
        Ok(Self { setup, ending, twice: twice % 8 == 0, ops })
    }
}

/// Configuration.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) shards: u8,
    pub(super) auth: bool,
    pub(super) ask_subscribe: bool,
    pub(super) ask_publish: bool,
    pub(super) slow: Slow,
    /// Room for a few messages only.
    pub(super) small_outbox: bool,
    pub(super) small_round: bool,
}

impl Setup {
    /// Whether there is a store. It has no byte of its own, so that scripts from before stay what they are.
    pub(super) fn has_store(&self) -> bool {
        self.shards / 3 % 4 == 1
    }

    /// Whether the application is asked whose a handshake or request is: likewise.
    pub(super) fn asks_whose(&self) -> bool {
        self.shards / 12 % 4 == 1
    }
}

/// The slow-reader policy of all channels.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub(super) enum Slow {
    Disconnect,
    Gap,
    Latest,
}

/// How the hubs are brought to rest.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    /// All peers hang up.
    HangUp,
    /// All peers fall silent, and read nothing any more.
    Silence,
    /// All peers fall silent, but read.
    Listen,
    /// The server drains.
    Drain { seconds: u8 },
}

/// One step. Numbers choose among what there is, modulo how many there are.
#[derive(Arbitrary, Debug)]
pub(super) enum Op {
    Accept {
        shard: u8,
        metrics: bool,
    },
    /// The opening handshake.
    Upgrade {
        conn: u8,
        token: Option<Token>,
    },
    Say {
        conn: u8,
        what: What,
        cut: u8,
    },
    Http {
        conn: u8,
        what: Http,
    },
    Bytes {
        conn: u8,
        bytes: Vec<u8>,
    },
    Frame {
        conn: u8,
        control: Control,
    },
    Eof {
        conn: u8,
    },
    IoError {
        conn: u8,
    },
    /// So many bytes more may be written; `None`: any number.
    Room {
        conn: u8,
        bytes: Option<u16>,
    },
    Wait {
        time: Time,
    },
    /// Every hub takes its turn.
    Turn,
    /// One hub takes its turn; its messages to others wait.
    TurnOf {
        shard: u8,
    },
    /// The messages of one hub for another arrive; if it is the same one, the store answers, and has kept nothing if `to` is
    /// a multiple of four.
    Carry {
        from: u8,
        to: u8,
    },
    Publish {
        shard: u8,
        channel: u8,
        wide: bool,
        ask: bool,
    },
    Answer {
        which: u8,
        how: Answer,
    },
    Disconnect {
        conn: u8,
    },
    Reload {
        setup: Setup,
    },
    Drain {
        seconds: u8,
    },
}

/// A token.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    Admin,
    Reader,
    Wrong,
}

/// A message of the protocol.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum What {
    Auth(Option<Token>),
    Refresh(Token),
    /// From a number on with a wish: see `wishes`.
    Subscribe(u8),
    /// From a number on a request for history.
    SubscribeByEvent(u8),
    Unsubscribe(u8),
    Publish {
        channel: u8,
        wide: bool,
    },
    Ask,
    AskUnknown,
    Ping,
    Nonsense,
    Keep {
        seconds: u8,
    },
    /// One of the sessions that were kept, with positions of the channels that are known so far behind.
    Resume {
        which: u8,
        behind: Option<u8>,
    },
}

/// A plain request.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Http {
    Health,
    Ready,
    /// Half of the channels alone, without a key: reads that channel's history.
    Publish {
        channel: u8,
        second: Option<u8>,
        key: Option<u8>,
    },
    Unknown,
    /// A head without its end.
    Half,
}

/// A control frame.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Control {
    Ping,
    Pong,
    Close,
}

/// How much time passes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Time {
    Millis(u8),
    Seconds(u8),
    /// Until the soonest deadline.
    Deadline,
}

/// What the application says to a question.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Answer {
    Data,
    Error,
    NotAnObject,
    Allow,
    Deny,
}
