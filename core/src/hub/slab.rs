//! Places that are used again, each use under a generation of its own.

/// A vector with holes. Indices are small and dense; walking it is in index order.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// Puts `value` into a free place; `None` once 2³² places are in use.
    pub(super) fn insert(&mut self, value: T) -> Option<(u32, u32)> {
        if let Some(index) = self.free.pop() {
            let slot = self.slots.get_mut(index as usize)?;
            slot.value = Some(value);
            self.len += 1;
            return Some((index, slot.generation));
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        self.len += 1;
        Some((index, 0))
    }

    /// Takes the value out; the place's next use has the next generation.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The value, if the place is still in the use that `generation` names.
    pub(super) fn get_at(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        if slot.generation == generation { slot.value.as_ref() } else { None }
    }

    /// The same, to be changed.
    pub(super) fn get_at_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation == generation { slot.value.as_mut() } else { None }
    }

    /// Takes the value out, if the place is still in the use that `generation` names.
    pub(super) fn remove_at(&mut self, index: u32, generation: u32) -> Option<T> {
        self.get_at(index, generation)?;
        self.remove(index)
    }

    /// The generation of the place's present use.
    pub(super) fn generation(&self, index: u32) -> Option<u32> {
        let slot = self.slots.get(index as usize)?;
        slot.value.is_some().then_some(slot.generation)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Indices in use, ascending.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .zip(0u32..)
            .filter(|(slot, _)| slot.value.is_some())
            .map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_used_again_has_another_generation() {
        let mut slab = Slab::new();
        let (a, first) = slab.insert("a").unwrap();
        assert_eq!(slab.remove(a), Some("a"));
        let (b, second) = slab.insert("b").unwrap();
        assert_eq!(a, b);
        assert_ne!(first, second);
        assert_eq!(slab.get_at(b, first), None);
        assert_eq!(slab.get_at(b, second), Some(&"b"));
        assert_eq!((slab.len(), slab.indices().collect::<Vec<_>>()), (1, vec![b]));
    }
}
