//! Numbers for what jobs are made of: words, files, links, folders.
//!
//! One table for all links. A link sends what an item is when it first names its number, so a set of
//! files costs little more than a bit for each of them, from the second job on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::common::inputs::Item;
use crate::common::limits::ITEMS_MAX_BYTES;

/// The table is begun anew at half of what a volunteer keeps for a link.
const TABLE_MAX_BYTES: usize = ITEMS_MAX_BYTES / 2;

/// An item and its number.
pub type Numbered = (u32, Arc<Item>);

/// Gives numbers to items.
#[derive(Debug, Default)]
pub struct Dictionary(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Names of the user's own files need no hashes that a stranger cannot foresee.
    numbers: HashMap<Arc<Item>, u32, foldhash::fast::RandomState>,
    bytes: usize,
    generation: u32,
}

impl Dictionary {
    /// Which generation of numbers is given out now.
    pub fn generation(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// The numbers of these items, in their order, and which generation of numbers it is: those of
    /// different generations have nothing to do with each other.
    pub fn number(&self, items: impl IntoIterator<Item = Item>) -> (u32, Vec<Numbered>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.bytes > TABLE_MAX_BYTES {
            *table = Table { generation: table.generation + 1, ..Table::default() };
        }
        let numbered = items.into_iter().map(|item| table.number(item)).collect();
        (table.generation, numbered)
    }
}

impl Table {
    fn number(&mut self, item: Item) -> Numbered {
        if let Some((known, &number)) = self.numbers.get_key_value(&item) {
            return (number, Arc::clone(known));
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.bytes += item.size();
        let item = Arc::new(item);
        self.numbers.insert(Arc::clone(&item), number);
        (number, item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;

    fn word(text: &str) -> Item {
        Item::Word(Bytes::from(text))
    }

    #[test]
    fn an_item_keeps_its_number() {
        let dictionary = Dictionary::default();
        let (_, first) = dictionary.number([word("-c"), word("a.c"), word("-c")]);
        let (generation, second) = dictionary.number([word("a.c"), word("b.c")]);
        let numbers = |numbered: &[Numbered]| numbered.iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!((numbers(&first), numbers(&second), generation), (vec![0, 1, 0], vec![1, 2], 0));
    }

    #[test]
    fn a_table_that_is_full_begins_anew() {
        let dictionary = Dictionary::default();
        let long = "x".repeat(TABLE_MAX_BYTES + 1);
        assert_eq!(dictionary.number([word(&long)]).0, 0);
        let (generation, numbered) = dictionary.number([word("b")]);
        assert_eq!((generation, numbered[0].0), (1, 0));
    }
}
