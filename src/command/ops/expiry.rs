//! Edits that may give an item an expiry time. An item that never expires is
//! made without room for one, and is replaced by a copy that has room.

use crate::command::executor::Executor;
use crate::store::{Entry, Hashed, Item, ItemSpec, NoMemory, Pin};
use crate::time::Expiry;

/// Error: the item has no room for an expiry time. Holds the item, unless it
/// could not be pinned.
pub(in crate::command) struct NoExpiryField(Option<Pin>);

impl NoExpiryField {
    /// Reports that `item` must be replaced before it can expire.
    pub(in crate::command) fn of(item: Option<Item<'_>>) -> Self {
        Self(item.and_then(|item| item.pin()))
    }
}

/// Sets the expiry time of an entry's item.
///
/// # Errors
/// The item has no room for it.
pub(in crate::command) fn set_expiry(
    entry: &Entry<'_>,
    expiry: Expiry,
) -> Result<(), NoExpiryField> {
    match entry.set_expiry(expiry) {
        true => Ok(()),
        false => Err(NoExpiryField::of(entry.item())),
    }
}

impl Executor<'_> {
    /// Edits a key's item like [`Store::edit`](crate::store::Store::edit). If
    /// the item has no room for an expiry time, replaces it by a copy that has
    /// and calls `f` again.
    ///
    /// # Errors
    /// Memory is short. The item is removed, because it must not outlive its
    /// new expiry time.
    #[inline]
    pub(in crate::command) fn edit_expiry<T>(
        &mut self,
        key: &Hashed<'_>,
        mut f: impl FnMut(&mut Entry<'_>) -> Result<T, NoExpiryField>,
    ) -> Result<T, NoMemory> {
        loop {
            match self.store.edit(self.local, key, self.now, &mut f) {
                Ok(done) => return Ok(done),
                Err(NoExpiryField(pin)) => self.reserve_expiry_field(key, pin)?,
            }
        }
    }

    /// Replaces an item by a copy with room for an expiry time, unless another
    /// thread changed it.
    #[cold]
    fn reserve_expiry_field(&mut self, key: &Hashed<'_>, pin: Option<Pin>) -> Result<(), NoMemory> {
        let made = match &pin {
            Some(pin) => {
                let item = pin.item();
                let spec = ItemSpec {
                    flags: item.flags(),
                    expiry: item.expiry(),
                    key_binary: item.is_key_binary(),
                    with_expiry_field: true,
                    ..ItemSpec::new(key.key, item.value_len())
                };
                self.new_filled(key, &spec, item.pieces())
            }
            None => Err(NoMemory),
        };
        let (mut copy, outcome) = match made {
            Ok(copy) => (Some(copy), Ok(())),
            Err(NoMemory) => (None, Err(NoMemory)),
        };
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
        outcome
    }
}
