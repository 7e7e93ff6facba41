//! Layout of an item: one chunk of page memory with header, optional fields,
//! key and value. If the value does not fit one chunk, the item is
//! chained: its data continues in further chunks, the segments (`segment.rs`).
//!
//! ```text
//! 0   reference word  u32    4  second of the last access, key length  u24, u8
//! 8   bits, generation, birth   u8, u8, u48
//! 16  [next segment  u64, 24 bytes in head  u32, 28 value length  u32] if CHAINED
//! ..  [expiry  u32] if HAS_EXPIRY   [client flags  u32] if HAS_FLAGS
//! ..  [value length  u16] unless CHAINED
//! ..  [number of tags, HAS_BIRTH  u8, tags  u24 each, 0 to 7 unused,
//!     CAS value  u64 and birth  u64 if HAS_BIRTH] if HAS_EXTENSION
//! ..  key, value
//! ```
//!
//! The birth is the item's place in the order of invalidations: a number that the
//! store gave. It is also the CAS value, unless a client gave another. An item
//! with such a CAS value, or with a birth of more than 48 bits, has both in its
//! extension; then the birth in the header is unused.
//!
//! Bits, generation and birth share one atomic, so that no reader sees a part of
//! a birth. No bytes are accessed by atomics of different sizes.
//!
//! Rules of access: key, value and lengths do not change while another
//! reference than the map's exists. The generation does not change once the
//! item is linked. CAS value, birth, expiry time and all bits except `FETCHED`
//! change under the shard's write lock. `FETCHED` and the access time change while
//! a reader holds its read lock or is inside an epoch. Therefore, these fields are
//! atomics. A value that may be read without a lock does not change at all.

use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::slice;

use crate::limits::{ClassId, KEY_MAX_BYTES};
use crate::store::item::access_stamp::AccessStamp;
pub use crate::store::item::fields::ItemSpec;
pub(in crate::store) use crate::store::item::fields::{CHAIN_BYTES, CHAIN_OFFSET};
use crate::store::item::fields::{
    CHAIN_END, CHAINED, HAS_BIRTH, HAS_EXPIRY, HAS_EXTENSION, HAS_FLAGS, birth_offset,
    extension_offset, fields_offset, flags_offset, key_offset, value_len_offset,
};
pub(crate) use crate::store::item::fields::{FETCHED, KEY_BINARY, STALE, TOKEN_SENT};
use crate::store::item::refs::RefWord;
use crate::store::item::segment::Pieces;
use crate::store::item::tags::Tags;
use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{PAGE_SPACE_BYTES, class_for_item};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::{Expiry, Now};

/// The fixed part of an item's header. All of it is atomics.
#[repr(C)]
struct Header {
    word: RefWord,
    access: AccessStamp,
    /// Header bits in the low 8 bits, then generation and birth: see
    /// [`GENERATION_SHIFT`] and [`BIRTH_SHIFT`].
    state: AtomicU64,
}

/// Place of the generation's 8 bits in [`Header::state`].
const GENERATION_SHIFT: u32 = 8;
/// Place of the birth in [`Header::state`].
const BIRTH_SHIFT: u32 = 16;
/// Largest birth that a header holds.
pub(in crate::store) const BIRTH_MAX: u64 = u64::MAX >> BIRTH_SHIFT;

const _: () = assert!(size_of::<Header>() == CHAIN_OFFSET);
const _: () = assert!(KEY_MAX_BYTES <= u8::MAX as usize);
const _: () = assert!(PAGE_SPACE_BYTES <= u16::MAX as usize);

/// Header fields of a chained item.
#[repr(C)]
struct Chain {
    next: *mut u8,
    /// Bytes of the value in the head chunk.
    head_len: u32,
    /// Bytes of the whole value.
    value_len: AtomicU32,
}

const _: () = assert!(CHAIN_OFFSET + size_of::<Chain>() == CHAIN_END);
const _: () = assert!(CHAIN_OFFSET.is_multiple_of(align_of::<Chain>()));

/// A view of an item that is locked in the map or pinned.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The item's head chunk.
    pub(in crate::store) chunk: Chunk,
    /// The header bits when the view was made. Only for bits that do not
    /// change: those that announce fields, and `KEY_BINARY`.
    pub(super) layout: u8,
    held: PhantomData<&'a ()>,
}

/// Writes the header and the key of a new item into `chunk`. Returns the
/// address of its value, and how many bytes of it fit there. The item is chained
/// if not all of them do.
///
/// # Safety
/// `chunk` is a free chunk of `chunk_bytes` bytes, private to the caller, and
/// the header and key fit.
pub(crate) unsafe fn write_head(
    chunk: Chunk,
    chunk_bytes: usize,
    spec: &ItemSpec<'_>,
    second: u32,
) -> (NonNull<u8>, usize) {
    let mut bits = spec.bits();
    if spec.bytes() > chunk_bytes {
        bits |= CHAINED;
    }
    let extension = spec.extension();
    let key_offset = key_offset(bits, extension);
    let offset = key_offset + spec.key.len();
    let head_len = spec.value_len.min(chunk_bytes - offset);
    // SAFETY: all offsets lie inside the chunk, and the fields are aligned there.
    // No other thread reads or writes it except its reference word, which is
    // written atomically.
    unsafe {
        let header = chunk.cast::<Header>().as_ptr();
        (&raw mut (*header).access).write(AccessStamp::new(spec.key.len() as u8, second));
        (&raw mut (*header).state).write(AtomicU64::new(bits.into()));
        if bits & CHAINED != 0 {
            chunk.add(CHAIN_OFFSET).cast::<Chain>().write(Chain {
                next: null_mut(),
                head_len: head_len as u32,
                value_len: AtomicU32::new(spec.value_len as u32),
            });
        } else {
            let field = chunk.add(value_len_offset(bits)).cast::<u16>();
            field.write(spec.value_len as u16);
        }
        if bits & HAS_EXPIRY != 0 {
            let field = chunk.add(fields_offset(bits)).cast::<AtomicU32>();
            field.write(AtomicU32::new(spec.expiry.0));
        }
        if bits & HAS_FLAGS != 0 {
            chunk
                .add(flags_offset(bits))
                .cast::<u32>()
                .write(spec.flags);
        }
        if extension != 0 {
            let start = chunk.add(extension_offset(bits));
            start.write(extension);
            let tags = spec.tags.map_or(&[][..], Tags::bytes);
            let place = start.add(1);
            place.copy_from_nonoverlapping(NonNull::from(tags).cast(), tags.len());
            if extension & HAS_BIRTH != 0 {
                let field = chunk.add(birth_offset(bits, extension));
                let field = field.cast::<[AtomicU64; 2]>();
                field.write([AtomicU64::new(0), AtomicU64::new(0)]);
            }
        }
        let key = chunk.add(key_offset);
        key.copy_from_nonoverlapping(NonNull::from(spec.key).cast(), spec.key.len());
        (*header).word.init_item();
        (chunk.add(offset), head_len)
    }
}

/// Copies the header of an item except its reference word, word by word: readers
/// without the lock may record an access meanwhile, which is then lost.
///
/// # Safety
/// `from` is the head of an item that the caller holds, and `to` a free chunk.
pub(super) unsafe fn copy_header(from: Chunk, to: Chunk) {
    // SAFETY: all words of a header are atomics.
    let (from, to): (&Header, &Header) = unsafe { (from.cast().as_ref(), to.cast().as_ref()) };
    to.access.copy_from(&from.access);
    let state = from.state.load(Ordering::Relaxed);
    to.state.store(state, Ordering::Relaxed);
}

/// Returns the reference word at the start of a chunk.
///
/// # Safety
/// `chunk` is the start of a chunk of page memory.
pub(crate) unsafe fn word_of<'a>(chunk: Chunk) -> &'a RefWord {
    // SAFETY: every chunk starts with its reference word, which is only
    // accessed atomically; pages are never unmapped.
    unsafe { chunk.cast::<RefWord>().as_ref() }
}

impl<'a> Item<'a> {
    /// Creates a view of the item in `chunk`.
    ///
    /// # Safety
    /// For all of `'a`, the caller holds the lock of the item's shard while the
    /// item is linked, or a reference to the item.
    #[inline]
    pub(crate) unsafe fn at(chunk: Chunk) -> Self {
        // SAFETY: the caller holds the item, and its header is atomics.
        let header: &Header = unsafe { chunk.cast().as_ref() };
        Self {
            chunk,
            layout: header.state.load(Ordering::Relaxed) as u8,
            held: PhantomData,
        }
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: the item is held for `'a`, and its header is atomics.
        unsafe { self.chunk.cast().as_ref() }
    }

    /// Returns bits, generation and birth, which are one word: while it is the
    /// same, none of them has changed. `FETCHED` is left out.
    #[inline]
    pub(in crate::store) fn state(self) -> u64 {
        self.header().state.load(Ordering::Relaxed) & !u64::from(FETCHED)
    }

    /// Returns whether the item lies in one chunk and has no extension: apart
    /// from its value, only single words of it change in place.
    #[inline]
    pub(in crate::store) fn is_plain(self) -> bool {
        self.layout & (CHAINED | HAS_EXTENSION) == 0
    }

    /// Returns whether the lengths of an item that was read from a file fit its
    /// chunk of `chunk_bytes` bytes.
    pub(in crate::store) fn fits(self, chunk_bytes: usize) -> bool {
        let key_len = self.key_len();
        let has_extension = self.layout & HAS_EXTENSION != 0;
        // The first byte of the extension must lie in the chunk before it is
        // read.
        if key_len == 0
            || key_len > KEY_MAX_BYTES
            || extension_offset(self.layout) >= chunk_bytes
            || has_extension && !self.has_valid_extension()
        {
            return false;
        }
        let Some(room) = chunk_bytes.checked_sub(self.key_offset() + key_len) else {
            return false;
        };
        match self.chain() {
            None => self.value_len() <= room,
            Some(chain) => chain.head_len as usize <= room.min(self.value_len()),
        }
    }

    /// Returns the item's head chunk.
    pub(crate) fn chunk(self) -> Chunk {
        self.chunk
    }

    /// Returns the item's reference word.
    pub(crate) fn word(self) -> &'a RefWord {
        &self.header().word
    }

    /// Returns the key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        let offset = self.key_offset();
        // SAFETY: the key lies inside the chunk and does not change.
        unsafe {
            let start = self.chunk.add(offset).as_ptr();
            slice::from_raw_parts(start, self.key_len())
        }
    }

    #[inline]
    fn key_len(self) -> usize {
        usize::from(self.header().access.key_len())
    }

    #[inline]
    fn key_offset(self) -> usize {
        self.key_offset_with(self.layout)
    }

    /// Returns the offset that the key has with other header bits for the same
    /// optional fields.
    #[inline]
    fn key_offset_with(self, bits: u8) -> usize {
        if bits & HAS_EXTENSION == 0 {
            return extension_offset(bits);
        }
        self.key_offset_behind_extension(bits)
    }

    #[cold]
    fn key_offset_behind_extension(self, bits: u8) -> usize {
        key_offset(bits, self.extension())
    }

    #[inline]
    fn data_offset(self) -> usize {
        self.key_offset() + self.key_len()
    }

    /// Returns the bytes of the value.
    #[inline]
    pub fn value_len(self) -> usize {
        match self.chain() {
            None => self.short_len(),
            Some(chain) => chain.value_len.load(Ordering::Relaxed) as usize,
        }
    }

    /// Returns the value length of an item that is not chained.
    #[inline]
    fn short_len(self) -> usize {
        // SAFETY: the field exists, is aligned, and does not change. It lies
        // behind the fixed header.
        let len = unsafe {
            let field = self.chunk.add(value_len_offset(self.layout));
            field.cast::<u16>().read()
        };
        len.into()
    }

    /// Sets the value length of a chained item.
    pub(in crate::store) fn set_chained_len(self, len: usize) {
        let chain = self.chain().expect("the item is chained");
        chain.value_len.store(len as u32, Ordering::Relaxed);
    }

    #[inline]
    fn chain(self) -> Option<&'a Chain> {
        (self.layout & CHAINED != 0).then(|| {
            // SAFETY: a chained item has these fields behind its header. The
            // length is an atomic; the others only change while no other thread
            // has the item.
            unsafe { self.chunk.add(CHAIN_OFFSET).cast::<Chain>().as_ref() }
        })
    }

    /// Returns the bytes of the value in the head chunk of a chained item.
    pub(in crate::store) fn head_len(self) -> usize {
        self.chain().map_or(0, |chain| chain.head_len as usize)
    }

    /// Returns the birth in the header.
    #[inline]
    pub(super) fn header_birth(self) -> u64 {
        self.header().state.load(Ordering::Relaxed) >> BIRTH_SHIFT
    }

    /// Sets the birth in the header, which holds no more than [`BIRTH_MAX`]. The
    /// caller holds the shard's write lock or the only reference.
    pub(super) fn set_header_birth(self, birth: u64) {
        debug_assert!(birth <= BIRTH_MAX);
        let below = (1 << BIRTH_SHIFT) - 1;
        self.change_state(|state| state & below | birth << BIRTH_SHIFT);
    }

    /// Changes the state as a caller may who holds the shard's write lock or the
    /// only reference. Not one atomic step: the write lock keeps out the readers
    /// that set `FETCHED`.
    fn change_state(self, change: impl FnOnce(u64) -> u64) {
        let state = &self.header().state;
        state.store(change(state.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Returns the opaque client flags.
    #[inline]
    pub fn flags(self) -> u32 {
        if self.layout & HAS_FLAGS == 0 {
            return 0;
        }
        // SAFETY: the field exists and does not change. All fields before it
        // have lengths that are multiples of 4, so it is aligned.
        unsafe {
            self.chunk
                .add(flags_offset(self.layout))
                .cast::<u32>()
                .read()
        }
    }

    /// Returns the expiry time.
    #[inline]
    pub fn expiry(self) -> Expiry {
        self.expiry_field()
            .map_or(Expiry::NEVER, |field| Expiry(field.load(Ordering::Relaxed)))
    }

    fn expiry_field(self) -> Option<&'a AtomicU32> {
        // SAFETY: the field exists, is aligned to 4, and is an atomic.
        (self.layout & HAS_EXPIRY != 0).then(|| unsafe {
            self.chunk
                .add(fields_offset(self.layout))
                .cast::<AtomicU32>()
                .as_ref()
        })
    }

    /// Returns the seconds from the last access until `now`, modulo 194 days.
    pub fn age(self, now: Now) -> u32 {
        self.header().access.age(now)
    }

    /// Returns the second of the last access, computed from the age at `now`.
    pub fn accessed(self, now: Now) -> u32 {
        now.second().saturating_sub(self.age(now))
    }

    /// Returns the low 8 bits of the item's generation.
    pub(crate) fn generation(self) -> u8 {
        (self.header().state.load(Ordering::Relaxed) >> GENERATION_SHIFT) as u8
    }

    /// Sets the generation. Only for an item that is not linked yet.
    pub(crate) fn set_generation(self, generation: u8) {
        let others = !(0xFF << GENERATION_SHIFT);
        self.change_state(|state| state & others | u64::from(generation) << GENERATION_SHIFT);
    }

    /// Returns whether the item has segments.
    pub(in crate::store) fn is_chained(self) -> bool {
        self.layout & CHAINED != 0
    }

    #[inline]
    fn bits(self) -> u8 {
        self.header().state.load(Ordering::Relaxed) as u8
    }

    /// Returns whether the item was fetched since it was stored.
    pub fn is_fetched(self) -> bool {
        self.bits() & FETCHED != 0
    }

    /// Returns whether the item is marked stale.
    pub fn is_stale(self) -> bool {
        self.bits() & STALE != 0
    }

    /// Returns whether a client has won the token to recache the item.
    pub fn is_token_sent(self) -> bool {
        self.bits() & TOKEN_SENT != 0
    }

    /// Returns whether the key was sent in base64.
    pub fn is_key_binary(self) -> bool {
        self.layout & KEY_BINARY != 0
    }

    /// Records an access in `second`. Writes only if something changes, so that
    /// the cache lines of a hot item stay shared.
    #[inline]
    pub(crate) fn record_access(self, second: u32) {
        let header = self.header();
        header.access.set_second(second);
        let fetched = u64::from(FETCHED);
        if header.state.load(Ordering::Relaxed) & fetched == 0 {
            header.state.fetch_or(fetched, Ordering::Relaxed);
        }
    }

    /// Sets the bits and the access time of an item that was changed in place
    /// to those of an item stored in `second`.
    pub(crate) fn renew(self, second: u32) {
        self.set_bits(0, FETCHED | TOKEN_SENT);
        self.header().access.set_second(second);
    }

    /// Sets and clears header bits. The caller holds the shard's write lock or
    /// the only reference.
    pub(crate) fn set_bits(self, set: u8, clear: u8) {
        let (set, clear) = (u64::from(set), u64::from(clear));
        self.change_state(|state| (state | set) & !clear);
    }

    /// Takes over the access time and the bits `FETCHED`, `STALE` and
    /// `TOKEN_SENT` of another item of the same key.
    pub(crate) fn copy_state_from(self, other: Self) {
        let happened = other.bits() & (FETCHED | STALE | TOKEN_SENT);
        self.set_bits(happened, 0);
        self.header()
            .access
            .set_second(other.header().access.load());
    }

    /// Returns whether the item has an expiry field.
    pub fn has_expiry_field(self) -> bool {
        self.expiry_field().is_some()
    }

    /// Sets the expiry time. Returns false if the item has no field for it and
    /// `expiry` is not [`Expiry::NEVER`].
    #[must_use]
    pub(crate) fn set_expiry(self, expiry: Expiry) -> bool {
        match self.expiry_field() {
            Some(field) => field.store(expiry.0, Ordering::Relaxed),
            None => return expiry == Expiry::NEVER,
        }
        true
    }

    /// Returns the bytes of header, key and value, without segment headers and
    /// slack.
    pub fn bytes(self) -> usize {
        self.data_offset() + self.value_len()
    }

    /// Returns the size class of the item's size, in which it is counted. Its
    /// chunk may be of a larger class that had one free.
    #[inline]
    pub fn class(self) -> ClassId {
        let bits = self.layout & !CHAINED;
        let (short, chained) = (
            self.key_offset_with(bits),
            self.key_offset_with(bits | CHAINED),
        );
        let bytes = self.key_len() + self.value_len();
        ClassId::from_index(class_for_item(short + bytes, chained + bytes))
    }

    /// Returns the value, in one piece per chunk.
    #[inline]
    pub fn pieces(self) -> Pieces<'a> {
        let offset = self.data_offset();
        let (head_len, next) = match self.chain() {
            None => (self.short_len(), null_mut()),
            Some(chain) => (chain.head_len as usize, chain.next),
        };
        // SAFETY: the value's place lies inside the chunk.
        let first = unsafe { self.chunk.add(offset) };
        Pieces::new(first, head_len, next)
    }

    /// Returns the value if it lies in one chunk.
    pub fn contiguous_value(self) -> Option<&'a [u8]> {
        let piece = self.pieces().next()?;
        (piece.len() == self.value_len()).then_some(piece)
    }

    /// Overwrites the value in place with up to as many bytes from `value`.
    ///
    /// # Safety
    /// The caller holds the shard's write lock, the map's reference is the only
    /// one, and the value lies in one piece.
    pub(crate) unsafe fn overwrite(self, value: impl Iterator<Item = u8>) {
        let offset = self.data_offset();
        for (index, byte) in value.take(self.value_len()).enumerate() {
            // SAFETY: inside the value; no other thread reads it now.
            unsafe { self.chunk.add(offset + index).write(byte) };
        }
    }
}
