//! Which items a volunteer knows by their numbers.

use std::sync::Arc;

use crate::broker::hermetic::dictionary::Numbered;
use crate::common::inputs::Item;
use crate::common::protocol::io::push_message;
use crate::common::protocol::link::ToVolunteer;

/// One message defines about so much, so that it stays far below the limit of a frame.
const MESSAGE_BYTES: usize = 1 << 20;

/// What was defined on one link.
#[derive(Debug, Default)]
pub struct Known {
    generation: u32,
    items: Vec<Option<Arc<Item>>>,
}

impl Known {
    /// Makes sure that the volunteer knows these items: appends to `outbox` what it must be told.
    /// False when they are of a generation that is over; true also says whether it had to forget.
    pub fn define(&mut self, generation: u32, items: &[Numbered], outbox: &mut Vec<u8>) -> Defined {
        if generation < self.generation {
            return Defined::Over;
        }
        let forgot = generation > self.generation;
        if forgot {
            *self = Known { generation, items: Vec::new() };
            push_message(outbox, &ToVolunteer::Forget);
        }
        let (mut new, mut bytes) = (Vec::new(), 0);
        for (number, item) in items {
            let at = *number as usize;
            if self.items.len() <= at {
                self.items.resize(at + 1, None);
            }
            if self.items[at].is_some() {
                continue;
            }
            self.items[at] = Some(Arc::clone(item));
            bytes += item.size();
            new.push((*number, Item::clone(item)));
            if bytes > MESSAGE_BYTES {
                push_message(outbox, &ToVolunteer::Define { items: std::mem::take(&mut new) });
                bytes = 0;
            }
        }
        if !new.is_empty() {
            push_message(outbox, &ToVolunteer::Define { items: new });
        }
        if forgot { Defined::Anew } else { Defined::Known }
    }

    /// The item of that number, if it was defined.
    pub fn get(&self, number: u32) -> Option<&Arc<Item>> {
        self.items.get(number as usize)?.as_ref()
    }
}

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defined {
    /// The items are known now.
    Known,
    /// So, and all that was known before is forgotten.
    Anew,
    /// Their numbers mean something else by now.
    Over,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;

    fn items(words: &[&str]) -> Vec<Numbered> {
        let item = |(number, word): (usize, &&str)| (number as u32, Arc::new(Item::Word(Bytes::from(*word))));
        words.iter().enumerate().map(item).collect()
    }

    #[test]
    fn an_item_is_told_once() {
        let (mut known, mut outbox) = (Known::default(), Vec::new());
        assert_eq!(known.define(0, &items(&["a", "b"]), &mut outbox), Defined::Known);
        let told = outbox.len();
        assert_eq!(known.define(0, &items(&["a", "b"]), &mut outbox), Defined::Known);
        assert_eq!(outbox.len(), told);
        assert!(known.get(1).is_some() && known.get(2).is_none());
    }

    #[test]
    fn a_new_generation_begins_anew_and_an_old_one_is_over() {
        let (mut known, mut outbox) = (Known::default(), Vec::new());
        known.define(0, &items(&["a", "b"]), &mut outbox);
        assert_eq!(known.define(2, &items(&["c"]), &mut outbox), Defined::Anew);
        assert!(known.get(1).is_none());
        assert_eq!(known.define(1, &items(&["a"]), &mut outbox), Defined::Over);
    }

    #[test]
    fn a_long_definition_is_told_in_pieces() {
        let (mut known, mut outbox) = (Known::default(), Vec::new());
        let long = "x".repeat(MESSAGE_BYTES / 2 + 1);
        known.define(0, &items(&[&long, &format!("{long}y"), "z"]), &mut outbox);
        let mut frames = 0;
        let mut rest = &outbox[..];
        while let Some((head, tail)) = rest.split_first_chunk() {
            let header = crate::common::protocol::link::FrameHeader::decode(head).expect("a frame");
            rest = &tail[header.length as usize..];
            frames += 1;
        }
        assert_eq!(frames, 2);
    }
}
