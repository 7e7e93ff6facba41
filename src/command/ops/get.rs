//! Retrievals that leave the item unchanged.

use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::events::ItemSize;
use crate::store::{Access, Hashed, Item, Miss};

impl Executor<'_> {
    /// Appends what `write` makes of a key's item, and counts the retrieval. A
    /// miss appends nothing.
    #[inline]
    pub(in crate::command) fn get(
        &mut self,
        key: &Hashed<'_>,
        out: &mut Output,
        mut write: impl FnMut(Item<'_>, &mut Output),
    ) -> Result<ItemSize, Miss> {
        let found = out.read_item(self.store, self.local, key, self.now, |item, out| {
            write(item, out);
            (Access::Counted, item.item_size())
        });
        self.count_get(key, found);
        found
    }
}
