//! The channels of one connection: mostly one.

use std::ops::{Deref, DerefMut};

use crate::hub::homes::Form;

/// Membership of one channel, as the connection knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Subscription {
    /// The channel's index in this hub.
    pub(in crate::hub) channel: u32,
    /// Where the channel lists this connection.
    pub(in crate::hub) member: MemberAt,
}

/// A place in one of a channel's lists, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct MemberAt(u32);

/// A channel's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum List {
    /// Those who take each round, in a form.
    Members(Form),
    /// Those who are still being sent what they missed.
    Catching,
}

impl MemberAt {
    pub(in crate::hub) fn new(list: List, index: usize) -> Self {
        let list = match list {
            List::Members(Form::Plain) => 0,
            List::Members(Form::Positioned) => 1,
            List::Catching => 2,
        };
        Self(list << 30 | u32::try_from(index).unwrap_or(u32::MAX) & INDEX)
    }

    pub(in crate::hub) fn list(self) -> List {
        match self.0 >> 30 {
            0 => List::Members(Form::Plain),
            1 => List::Members(Form::Positioned),
            _ => List::Catching,
        }
    }

    pub(in crate::hub) fn index(self) -> usize {
        (self.0 & INDEX) as usize
    }
}

/// The bits of a place that are not the list: a billion connections.
const INDEX: u32 = (1 << 30) - 1;

/// A list that needs no memory of its own for one subscription.
#[derive(Debug, Default)]
pub(in crate::hub) enum Subscriptions {
    #[default]
    None,
    One(Subscription),
    #[expect(clippy::box_collection, reason = "two words in each connection")]
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    pub(in crate::hub) fn push(&mut self, subscription: Subscription) {
        match self {
            Self::None => *self = Self::One(subscription),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, subscription])),
            Self::Many(list) => list.push(subscription),
        }
    }

    /// Takes out the one at `at`; the last takes its place.
    pub(in crate::hub) fn swap_remove(&mut self, at: usize) -> Option<Subscription> {
        let removed = *self.get(at)?;
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Many(list) => {
                list.swap_remove(at);
                if let [only] = ***list {
                    *self = Self::One(only);
                } else if list.len() < list.capacity() / 4 {
                    list.shrink_to(list.len() * 2);
                }
            }
        }
        Some(removed)
    }
}

impl Deref for Subscriptions {
    type Target = [Subscription];

    fn deref(&self) -> &[Subscription] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(list) => list,
        }
    }
}

impl DerefMut for Subscriptions {
    fn deref_mut(&mut self) -> &mut [Subscription] {
        match self {
            Self::None => &mut [],
            Self::One(only) => std::slice::from_mut(only),
            Self::Many(list) => list,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_vector(steps in prop::collection::vec((any::<bool>(), 0usize..6), 0..60)) {
            let (mut subject, mut model) = (Subscriptions::default(), Vec::new());
            for (channel, (push, at)) in (0u32..).zip(steps) {
                let member = MemberAt::new(List::Members(Form::Plain), 7);
                let one = Subscription { channel, member };
                if push {
                    subject.push(one);
                    model.push(one);
                } else {
                    let expected = (at < model.len()).then(|| model.swap_remove(at));
                    prop_assert_eq!(subject.swap_remove(at), expected);
                }
                prop_assert_eq!(&*subject, &*model);
                prop_assert_eq!(&mut *subject, &mut *model);
                prop_assert_eq!(matches!(subject, Subscriptions::Many(_)), model.len() > 1);
            }
        }
    }

    #[test]
    fn a_place_is_a_list_and_an_index() {
        for list in [List::Members(Form::Plain), List::Members(Form::Positioned), List::Catching] {
            for index in [0, 1, INDEX as usize] {
                let at = MemberAt::new(list, index);
                assert_eq!((at.list(), at.index()), (list, index));
            }
        }
    }

    #[test]
    fn it_takes_two_words() {
        assert_eq!(size_of::<Subscriptions>(), 16);
    }
}
