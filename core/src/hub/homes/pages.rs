//! What a channel's log is read by those who recover: pages of a handy size, made once for all of a turn.

use std::ops::RangeInclusive;

use super::{
    forms::{self, Form},
    log::{Entry, Log, Page},
};
use crate::ws::Segment;

/// The pages of one channel, made as far back as somebody asked. Good until something is published.
#[derive(Debug)]
pub(super) struct Pages {
    /// The log's last message.
    top: u64,
    /// By form, newest first.
    forms: [Vec<Page>; 2],
    /// The part of a page that was last asked for: those who went at the same moment come back for the same.
    part: Option<Page>,
}

impl Pages {
    pub(super) fn new(log: &Log) -> Self {
        Self { top: log.top, forms: [Vec::new(), Vec::new()], part: None }
    }

    /// Whether nothing was published since they were made.
    pub(super) fn is_of(&self, log: &Log) -> bool {
        self.top == log.top
    }

    /// All messages from the one numbered `from` on, which is kept. A page has so many `bytes` at most, but one message.
    pub(super) fn read(&mut self, log: &Log, form: Form, from: u64, bytes: usize) -> Vec<Page> {
        if from > self.top {
            return Vec::new();
        }
        let Some(pages) = self.forms.get_mut(form.index()) else { return Vec::new() };
        while pages.last().is_none_or(|page| page.first > from) {
            let last = pages.last().map_or(self.top, |page| page.first - 1);
            match make(log, form, last, bytes) {
                Some(page) => pages.push(page),
                None => break,
            }
        }
        let whole = pages.iter().rposition(|page| page.first >= from).map_or(0, |at| at + 1);
        let rest = pages.get(whole).filter(|page| page.first < from);
        let known = |part: &Page| part.first == from && part.form == form;
        let part = match (rest, self.part.take().filter(known)) {
            (Some(_), Some(part)) => Some(part),
            (Some(page), None) => cut(page, from),
            (None, _) => None,
        };
        self.part.clone_from(&part);
        let whole = pages.get(..whole).unwrap_or_default();
        part.into_iter().chain(whole.iter().rev().cloned()).collect()
    }
}

/// The page that ends with the message numbered `last`: whole rounds, as many as fit, or a part of one that does not.
fn make(log: &Log, form: Form, last: u64, max: usize) -> Option<Page> {
    let newest = log.back_from(last).next()?;
    if newest.segment.len() > max {
        return Some(part(newest, form, log.oldest()..=last, max));
    }
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.segment.len();
        bytes <= max
    };
    let rounds: Vec<_> = log.back_from(last).take_while(fits).collect();
    let first = rounds.last()?.first.max(log.oldest());
    if let [only] = rounds.as_slice()
        && only.first == first
    {
        let segment = forms::convert(&only.segment, first, only.numbered, form);
        return Some(Page { first, segment, form });
    }
    let (mut frames, mut messages, mut end) = (Vec::new(), 0, 0);
    for entry in rounds.into_iter().rev() {
        let source = (&entry.segment, entry.first, entry.numbered);
        let (added, last) = forms::append(&mut frames, source, first..=last, form);
        (messages, end) = (messages + added, last);
    }
    Some(Page { first, segment: segment(frames, messages, end), form })
}

/// As many of a round's `readable` messages as fit, from behind; at least one.
fn part(entry: &Entry, form: Form, readable: RangeInclusive<u64>, max: usize) -> Page {
    let frames: Vec<_> = (entry.first..).zip(entry.segment.frames()).collect();
    let mut bytes = 0;
    let fits = |(number, len): &(u64, usize)| {
        bytes += len;
        number == readable.end() || bytes <= max
    };
    let lengths = frames.iter().map(|(number, frame)| (*number, frame.bytes().len()));
    let within = lengths.rev().filter(|(number, _)| readable.contains(number));
    let first = within.take_while(fits).last().map_or(entry.first, |(number, _)| number);
    let mut frames = Vec::new();
    let source = (&entry.segment, entry.first, entry.numbered);
    let (messages, end) = forms::append(&mut frames, source, first..=*readable.end(), form);
    Page { first, segment: segment(frames, messages, end), form }
}

/// What is on a page from the message numbered `from` on.
fn cut(page: &Page, from: u64) -> Option<Page> {
    let numbered = page.form == Form::Positioned;
    let mut frames = Vec::new();
    let source = (&page.segment, page.first, numbered);
    let (messages, last) = forms::append(&mut frames, source, from..=u64::MAX, page.form);
    let segment = segment(frames, messages, last);
    (messages > 0).then_some(Page { first: from, segment, form: page.form })
}

fn segment(mut frames: Vec<u8>, messages: u32, last: usize) -> Segment {
    frames.shrink_to_fit();
    Segment::new(frames, messages, Segment::NO_TAG, u32::try_from(last).unwrap_or(u32::MAX))
}
