//! Which channels are forgotten first: lines through the homes, so that to step in or out costs the same however long one is.

use super::Home;
use crate::hub::slab::Slab;

/// In which order homes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something is kept of the channel: by when it was last published to.
    Kept,
    /// Nothing is, and nobody subscribes; its numbers go on for a while. By when that came to be.
    Idle,
    /// Nothing is but its document, and it has subscribers. By when it was last published to.
    Document,
}

/// A home's place: its line and its neighbours there, or no line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    line: Option<Line>,
    before: u32,
    after: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self { line: None, before: NOBODY, after: NOBODY }
    }
}

/// The ends of all lines.
#[derive(Debug)]
pub(super) struct Lines {
    kept: Ends,
    idle: Ends,
    document: Ends,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

impl Default for Lines {
    fn default() -> Self {
        let none = Ends { first: NOBODY, last: NOBODY };
        Self { kept: none, idle: none, document: none }
    }
}

impl Lines {
    /// Whether nobody stands in a line where time is up some day.
    #[inline]
    pub(super) fn are_empty(&self) -> bool {
        self.kept.first == NOBODY && self.idle.first == NOBODY
    }

    /// The one that goes first.
    pub(super) fn first(&self, line: Line) -> Option<u32> {
        let ends = match line {
            Line::Kept => self.kept,
            Line::Idle => self.idle,
            Line::Document => self.document,
        };
        Some(ends.first).filter(|index| *index != NOBODY)
    }

    /// Puts a home at the end of a line, or takes it out of the one that it is in.
    pub(super) fn step(&mut self, slots: &mut Slab<Home>, index: u32, to: Option<Line>) {
        let Some(home) = slots.get_mut(index) else { return };
        let links = std::mem::take(&mut home.links);
        if let Some(line) = links.line {
            let Links { before, after, .. } = links;
            match slots.get_mut(before) {
                Some(home) => home.links.after = after,
                None => self.ends(line).first = after,
            }
            match slots.get_mut(after) {
                Some(home) => home.links.before = before,
                None => self.ends(line).last = before,
            }
        }
        let Some(line) = to else { return };
        let last = std::mem::replace(&mut self.ends(line).last, index);
        match slots.get_mut(last) {
            Some(home) => home.links.after = index,
            None => self.ends(line).first = index,
        }
        if let Some(home) = slots.get_mut(index) {
            home.links = Links { line: to, before: last, after: NOBODY };
        }
    }

    fn ends(&mut self, line: Line) -> &mut Ends {
        match line {
            Line::Kept => &mut self.kept,
            Line::Idle => &mut self.idle,
            Line::Document => &mut self.document,
        }
    }

    /// The homes of a line, in order.
    #[cfg(debug_assertions)]
    pub(super) fn of(&self, slots: &Slab<Home>, line: Line) -> Vec<u32> {
        let after = |index: &u32| Some(slots.get(*index)?.links.after).filter(|at| *at != NOBODY);
        std::iter::successors(self.first(line), after).collect()
    }
}

impl Links {
    pub(super) fn line(self) -> Option<Line> {
        self.line
    }
}

/// In place of a home's index.
const NOBODY: u32 = u32::MAX;
