//! Giving items a new expiry time: `touch`, and the touch in `gat`.

use crate::command::executor::Executor;
use crate::command::ops::expiry::set_expiry;
use crate::store::{Hashed, Item, Miss};
use crate::time::Expiry;

impl Executor<'_> {
    /// Sets a new expiry time on a key's item, calls `f` with it and counts the
    /// touch. Returns false on a miss.
    pub(in crate::command) fn touch(
        &mut self,
        key: &Hashed<'_>,
        expiry: Expiry,
        mut f: impl FnMut(Item<'_>),
    ) -> bool {
        let now = self.now;
        let touched = self.edit_fields(key, |entry| {
            let Some(item) = entry.item() else {
                return Ok(Err(entry.miss()));
            };
            set_expiry(entry, expiry)?;
            entry.bump(now);
            f(item);
            Ok(Ok(item.item_size()))
        });
        let found = touched.unwrap_or(Err(Miss::Absent));
        self.count_touch(key, expiry, found);
        found.is_ok()
    }
}
