//! Keeping a document small: what is oldest goes, and the document says how much went.

use crate::{
    fold::Path,
    json::{Json, Object},
};

/// Brings a document down to so many bytes: entries of its lists go, oldest first, of the list that takes most; then
/// members, the largest first. `false`: that is not possible.
pub(crate) fn fit(document: &mut Object, lists: &[&Path], bytes_max: usize) -> bool {
    let mut rounds = 0;
    while document.bytes() > bytes_max {
        rounds += 1;
        let largest = lists
            .iter()
            .map(|list| {
                (document.at(list).filter(Json::is_list).map_or(0, |found| found.bytes()), list)
            })
            .filter(|(bytes, _)| *bytes > EMPTY_LIST_BYTES)
            .max_by_key(|(bytes, _)| *bytes);
        if let Some((_, list)) = largest {
            let mut entries = document.list_at(list);
            let over = document.bytes() - bytes_max;
            let gone = oldest(&entries, over);
            entries.drain(..gone);
            document.place(list, Json::List(entries));
            tell(document, gone);
            continue;
        }
        let largest = document
            .members()
            .filter(|(name, _)| *name != SHED)
            .max_by_key(|(_, value)| value.bytes());
        match largest.map(|(name, _)| Box::<str>::from(name)) {
            Some(name) if rounds < ROUNDS_MAX => {
                document.remove(&name);
                tell(document, 1);
            }
            _ => return false,
        }
    }
    true
}

/// Notes in the document that so many entries or members went.
pub(crate) fn tell(document: &mut Object, gone: usize) {
    if gone > 0 {
        let before = document.get(SHED).and_then(Json::whole).unwrap_or_default();
        document.set(SHED, Json::number(before.saturating_add(gone as u64)));
    }
}

/// How many entries from the front have so many bytes: at least one, if there is any.
fn oldest(entries: &[Json], bytes: usize) -> usize {
    let mut freed = 0;
    for (index, entry) in entries.iter().enumerate() {
        freed += 1 + entry.bytes();
        if freed >= bytes {
            return index + 1;
        }
    }
    entries.len()
}

/// The member that says how many entries and members went.
pub(crate) const SHED: &str = "shed";

/// Of a list without entries.
const EMPTY_LIST_BYTES: usize = 2;

/// A document of this service has a few dozen members. One that takes more rounds than this is somebody's own.
const ROUNDS_MAX: usize = 1024;
