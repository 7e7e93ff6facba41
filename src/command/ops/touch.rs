//! Giving items a new expiry time: `touch`, and the touch in `gat` and `mg`.

use crate::command::executor::{Executor, reply};
use crate::command::output::Output;
use crate::events::ItemSize;
use crate::store::{Hashed, Item, ItemSpec, Miss, Pin};
use crate::time::Expiry;

/// Outcome of touching an item.
enum Touched {
    Done(ItemSize),
    Missed(Miss),
    /// The item has no room for an expiry time.
    NoExpiryField(Option<Pin>),
}

impl Executor<'_> {
    pub(in crate::command) fn touch(
        &mut self,
        key: &[u8],
        exptime: i32,
        noreply: bool,
        out: &mut Output,
    ) {
        let key = self.store.hashed(key);
        let expiry = Expiry::from_protocol(exptime, self.now);
        let hit = self.show_touched(&key, expiry, |_| ());
        reply(out, noreply, if hit { "TOUCHED" } else { "NOT_FOUND" });
    }

    /// Sets a new expiry time on a key's item, calls `f` with it and counts the
    /// touch. Returns false on a miss.
    pub(in crate::command) fn show_touched(
        &mut self,
        key: &Hashed<'_>,
        expiry: Expiry,
        f: impl FnMut(Item<'_>),
    ) -> bool {
        let found = self.touch_item(key, expiry, f);
        self.count_touch(key, expiry, found);
        found.is_ok()
    }

    fn touch_item(
        &mut self,
        key: &Hashed<'_>,
        expiry: Expiry,
        mut f: impl FnMut(Item<'_>),
    ) -> Result<ItemSize, Miss> {
        loop {
            let now = self.now;
            let touched = self.store.edit(self.local, key, now, |entry| {
                let Some(item) = entry.item() else {
                    return Touched::Missed(entry.miss());
                };
                if !entry.set_expiry(expiry) {
                    return Touched::NoExpiryField(item.pin());
                }
                entry.bump(now);
                f(item);
                Touched::Done(item.item_size())
            });
            match touched {
                Touched::Done(figures) => return Ok(figures),
                Touched::Missed(miss) => return Err(miss),
                Touched::NoExpiryField(pin) => {
                    if !self.reserve_expiry_field(key, pin) {
                        return Err(Miss::Absent);
                    }
                }
            }
        }
    }

    /// Replaces an item by a copy with room for an expiry time, unless another
    /// thread changed it. The caller must try again.
    ///
    /// Returns false if memory is short. The item is then removed, because it
    /// must not outlive its new expiry time.
    pub(in crate::command) fn reserve_expiry_field(
        &mut self,
        key: &Hashed<'_>,
        pin: Option<Pin>,
    ) -> bool {
        let copy = pin.as_ref().and_then(|pin| {
            let item = pin.item();
            let spec = ItemSpec {
                flags: item.flags(),
                expiry: item.expiry(),
                key_binary: item.is_key_binary(),
                with_expiry_field: true,
                ..ItemSpec::new(key.key, item.value_len())
            };
            self.new_filled(key, &spec, item.pieces()).ok()
        });
        let made = copy.is_some();
        let mut copy = copy;
        self.store.edit(self.local, key, self.now, |entry| {
            let Some(item) = entry.item() else { return };
            if pin.as_ref().is_some_and(|pin| !item.is_same(pin)) {
                return;
            }
            match copy.take() {
                Some(copy) => entry.put_copy(copy),
                None => entry.remove(),
            }
        });
        if let Some(copy) = copy {
            self.store.discard(self.local, copy);
        }
        if let Some(pin) = pin {
            self.store.release(self.local, pin);
        }
        made
    }
}
