//! A queue that most of the time is empty.

use std::collections::VecDeque;

/// A queue that takes one word in its owner while it has no memory of its own.
#[derive(Debug)]
pub(super) struct Overflow<T>(
    #[expect(clippy::box_collection, reason = "four words in each connection")]
    Option<Box<VecDeque<T>>>,
);

impl<T> Overflow<T> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub(super) fn pop_back(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_back()
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        self.0.as_mut()?.remove(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(at)
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.back_mut()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    /// Gives memory back: all of it if the queue is empty and `all` is said, else what is over `kept` and mostly unused.
    pub(super) fn give_back(&mut self, kept: usize, all: bool) {
        let Some(queue) = &mut self.0 else { return };
        if queue.is_empty() && (all || queue.capacity() > kept) {
            self.0 = None;
        } else if queue.capacity() > kept && queue.len() <= queue.capacity() / 4 {
            queue.shrink_to(queue.len());
        }
    }
}

impl<T> Overflow<T> {
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.0.as_ref()?.get(at)
    }

    pub(super) fn back(&self) -> Option<&T> {
        self.0.as_ref()?.back()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.capacity())
    }
}
