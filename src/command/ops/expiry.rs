//! Edits that may give an item an expiry time or a CAS value of the client's. An
//! item that never expires, or has a CAS value of the store's, is made without
//! room for that, and is replaced by a copy that has room.

use crate::command::executor::Executor;
use crate::store::{Entry, Hashed, Item, ItemSpec, NoMemory, Pin};
use crate::time::Expiry;

/// Error: the item has no room for a field.
pub(in crate::command) struct NoField {
    /// The item, unless it could not be pinned.
    pin: Option<Pin>,
    /// The field is the birth, not the expiry time.
    is_birth: bool,
}

impl NoField {
    /// Reports that `item` must be replaced before it can expire.
    pub(in crate::command) fn expiry(item: Option<Item<'_>>) -> Self {
        Self {
            pin: item.and_then(Item::pin),
            is_birth: false,
        }
    }

    /// Reports that `item` must be replaced before a client gives its CAS value.
    pub(in crate::command) fn birth(item: Item<'_>) -> Self {
        Self {
            pin: item.pin(),
            is_birth: true,
        }
    }
}

/// Sets the expiry time of an entry's item.
///
/// # Errors
/// The item has no room for it.
pub(in crate::command) fn set_expiry(entry: &Entry<'_>, expiry: Expiry) -> Result<(), NoField> {
    match entry.set_expiry(expiry) {
        true => Ok(()),
        false => Err(NoField::expiry(entry.item())),
    }
}

impl Executor<'_> {
    /// Edits a key's item like [`Store::edit`](crate::store::Store::edit). If
    /// the item has no room for a field, replaces it by a copy that has and calls
    /// `f` again.
    ///
    /// # Errors
    /// Memory is short. The item is removed, because it must not outlive its
    /// new expiry time or keep an old CAS value.
    #[inline]
    pub(in crate::command) fn edit_fields<T>(
        &mut self,
        key: &Hashed<'_>,
        mut f: impl FnMut(&mut Entry<'_>) -> Result<T, NoField>,
    ) -> Result<T, NoMemory> {
        loop {
            match self.store.edit(self.local, key, self.now, &mut f) {
                Ok(done) => return Ok(done),
                Err(missing) => self.reserve_field(key, missing)?,
            }
        }
    }

    /// Replaces an item by a copy with room for the field, unless another thread
    /// changed it.
    #[cold]
    fn reserve_field(&mut self, key: &Hashed<'_>, missing: NoField) -> Result<(), NoMemory> {
        let NoField { pin, is_birth } = missing;
        let made = match &pin {
            Some(pin) => {
                let item = pin.item();
                let tags = item.tags();
                let spec = ItemSpec {
                    tags: Some(&tags),
                    with_birth_field: is_birth || item.has_birth_field(),
                    flags: item.flags(),
                    expiry: item.expiry(),
                    key_binary: item.is_key_binary(),
                    with_expiry_field: !is_birth || item.has_expiry_field(),
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
