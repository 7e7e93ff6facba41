//! Layout of an item: one chunk of page memory with header, optional fields,
//! key and value. If the value does not fit one chunk, the item is
//! chained: its data continues in further chunks, the segments (`segment.rs`).
//!
//! ```text
//! 0   reference word  u32    4  value length  u16, unless CHAINED
//! 6   key length      u8     7  bits          u8
//! 8   CAS value       u64   16  generation, second of the last access  u8, u24
//! 20  [4 unused, 24 next segment  u64, 32 bytes in head  u32,
//!     36 value length  u32] if CHAINED
//! ..  [expiry  u32] if HAS_EXPIRY   [client flags  u32] if HAS_FLAGS
//! ..  [number of tags, HAS_BIRTH  u8, tags  u24 each, 0 to 3 unused,
//!     birth  u64 if HAS_BIRTH] if HAS_EXTENSION
//! ..  key, value
//! ```
//!
//! The birth is the item's place in the order of invalidations. Without a field
//! of its own, it is the CAS value.
//!
//! Rules of access: key, value and lengths do not change while another
//! reference than the map's exists. The generation does not change once the
//! item is linked. CAS value, birth, expiry time and all bits except `FETCHED`
//! change under the shard's write lock. `FETCHED` and the access time change under its
//! read lock. Therefore, these fields are atomics.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};
use std::slice;

use crate::limits::{ClassId, KEY_MAX_BYTES};
use crate::store::item::access_stamp::AccessStamp;
pub use crate::store::item::fields::ItemSpec;
pub(in crate::store) use crate::store::item::fields::{CHAIN_BYTES, CHAIN_OFFSET};
use crate::store::item::fields::{
    CHAIN_END, CHAINED, HAS_BIRTH, HAS_EXPIRY, HAS_EXTENSION, HAS_FLAGS, HEADER_BYTES,
    birth_offset, extension_bytes, extension_offset, fields_offset, flags_offset,
};
pub(crate) use crate::store::item::fields::{FETCHED, KEY_BINARY, STALE, TOKEN_SENT};
use crate::store::item::refs::RefWord;
use crate::store::item::segment::Pieces;
use crate::store::item::tags::Tags;
use crate::store::memory::chunk::Chunk;
use crate::store::memory::classes::{PAGE_SPACE_BYTES, class_for_item};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::time::{Expiry, Now};

/// The fixed part of an item's header: 20 bytes, aligned to 4. With the
/// alignment of 8 its size would be 24, and a reference to it would cover bytes
/// of key and value behind it.
#[repr(C)]
struct Header {
    word: RefWord,
    /// Bytes of the value; unused if the item is chained.
    value_len: u16,
    key_len: u8,
    bits: AtomicU8,
    cas: CasCell,
    access: AccessStamp,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(offset_of!(Header, cas).is_multiple_of(align_of::<AtomicU64>()));
const _: () = assert!(PAGE_SPACE_BYTES <= u16::MAX as usize);

/// The CAS value: an [`AtomicU64`] without its alignment. The alignment of
/// chunks makes up for it.
#[repr(transparent)]
struct CasCell(UnsafeCell<[u32; 2]>);

/// Header fields of a chained item.
#[repr(C)]
struct Chain {
    next: *mut u8,
    /// Bytes of the value in the head chunk.
    head_len: u32,
    /// Bytes of the whole value.
    value_len: AtomicU32,
}

const _: () = assert!(CHAIN_OFFSET >= HEADER_BYTES);
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
    let key_offset = extension_offset(bits) + extension_bytes(extension);
    let offset = key_offset + spec.key.len();
    let head_len = spec.value_len.min(chunk_bytes - offset);
    // SAFETY: all offsets lie inside the chunk. No other thread reads or writes
    // it except its reference word, which is written atomically.
    unsafe {
        let header = chunk.cast::<Header>().as_ptr();
        // Truncated and unused in a chained item.
        (&raw mut (*header).value_len).write(spec.value_len as u16);
        (&raw mut (*header).key_len).write(spec.key.len() as u8);
        (&raw mut (*header).bits).write(AtomicU8::new(bits));
        let cas = &raw mut (*header).cas;
        cas.cast::<AtomicU64>().write(AtomicU64::new(0));
        (&raw mut (*header).access).write(AccessStamp::new(0, second));
        if bits & CHAINED != 0 {
            chunk.add(CHAIN_OFFSET).cast::<Chain>().write(Chain {
                next: null_mut(),
                head_len: head_len as u32,
                value_len: AtomicU32::new(spec.value_len as u32),
            });
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
                let birth = start.add(birth_offset(extension)).cast::<[AtomicU32; 2]>();
                birth.write([AtomicU32::new(0), AtomicU32::new(0)]);
            }
        }
        let key = chunk.add(key_offset);
        key.copy_from_nonoverlapping(NonNull::from(spec.key).cast(), spec.key.len());
        (*header).word.init_item();
        (chunk.add(offset), head_len)
    }
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
        // SAFETY: the caller holds the item, and the bits are an atomic.
        let header: &Header = unsafe { chunk.cast().as_ref() };
        Self {
            chunk,
            layout: header.bits.load(Ordering::Relaxed),
            held: PhantomData,
        }
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: the item is held for `'a`; its plain fields do not change,
        // the others are atomics.
        unsafe { self.chunk.cast().as_ref() }
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
        usize::from(self.header().key_len)
    }

    #[inline]
    fn key_offset(self) -> usize {
        let offset = extension_offset(self.layout);
        if self.layout & HAS_EXTENSION == 0 {
            return offset;
        }
        offset + self.extension_bytes()
    }

    /// Returns the bytes of the extension, which the item must have.
    #[cold]
    fn extension_bytes(self) -> usize {
        extension_bytes(self.extension())
    }

    #[inline]
    fn data_offset(self) -> usize {
        self.key_offset() + self.key_len()
    }

    /// Returns the bytes of the value.
    #[inline]
    pub fn value_len(self) -> usize {
        match self.chain() {
            None => usize::from(self.header().value_len),
            Some(chain) => chain.value_len.load(Ordering::Relaxed) as usize,
        }
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

    /// Returns the CAS value.
    pub fn cas(self) -> u64 {
        self.cas_cell().load(Ordering::Relaxed)
    }

    fn cas_cell(self) -> &'a AtomicU64 {
        let place = self.header().cas.0.get().cast::<AtomicU64>();
        // SAFETY: chunks are aligned to 8, and so is the field in them; its
        // bytes are accessed in this way only.
        unsafe { &*place }
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
        self.header().access.generation()
    }

    /// Sets the generation. Only for an item that is not linked yet.
    pub(crate) fn set_generation(self, generation: u8) {
        self.header().access.set_generation(generation);
    }

    /// Returns whether the item has segments.
    pub(in crate::store) fn is_chained(self) -> bool {
        self.layout & CHAINED != 0
    }

    #[inline]
    fn bits(self) -> u8 {
        self.header().bits.load(Ordering::Relaxed)
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
        if header.bits.load(Ordering::Relaxed) & FETCHED == 0 {
            header.bits.fetch_or(FETCHED, Ordering::Relaxed);
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
        let bits = &self.header().bits;
        // Not one atomic step: the write lock keeps out the readers that set
        // FETCHED.
        bits.store((self.bits() | set) & !clear, Ordering::Relaxed);
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

    /// Sets the CAS value.
    pub(crate) fn set_cas(self, cas: u64) {
        self.cas_cell().store(cas, Ordering::Relaxed);
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
        let chain = fields_offset(self.layout) - HEADER_BYTES;
        let bytes = self.bytes() - chain;
        ClassId::from_index(class_for_item(bytes, bytes + CHAIN_BYTES))
    }

    /// Returns the value, in one piece per chunk.
    #[inline]
    pub fn pieces(self) -> Pieces<'a> {
        let offset = self.data_offset();
        let (head_len, next) = match self.chain() {
            None => (usize::from(self.header().value_len), null_mut()),
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
