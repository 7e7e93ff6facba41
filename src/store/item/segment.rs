//! Segments, the further chunks of a large item, and iteration over the pieces
//! of a value.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use crate::store::index::prefetch::prefetch;
use crate::store::item::refs::RefWord;

/// Bytes of a segment's header, which its data follows.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 24;

/// Header of a segment.
#[repr(C)]
pub(in crate::store) struct Segment {
    /// Reference word.
    pub(in crate::store) word: RefWord,
    /// Bytes of data in this segment.
    pub(in crate::store) len: u32,
    /// Hash of the item's key, by which the page mover finds the item.
    pub(in crate::store) hash: u64,
    /// The next segment, or null.
    pub(in crate::store) next: *mut u8,
}

const _: () = assert!(size_of::<Segment>() == SEGMENT_HEADER_BYTES);

/// Iterator over the pieces of a value, one per chunk; see
/// [`Item::pieces`](crate::store::Item::pieces).
#[derive(Clone)]
pub struct Pieces<'a> {
    piece: Option<(NonNull<u8>, usize)>,
    next: *mut u8,
    held: PhantomData<&'a ()>,
}

impl Pieces<'_> {
    /// Creates an iterator that begins with the `len` bytes at `first` and
    /// continues with the segment `next`, if it is not null.
    pub(in crate::store) fn new(first: NonNull<u8>, len: usize, next: *mut u8) -> Self {
        prefetch(next);
        Self {
            piece: Some((first, len)),
            next,
            held: PhantomData,
        }
    }

    /// Returns the same iterator without the lifetime of the item. The caller
    /// must drop it before it releases the item.
    pub(in crate::store) fn detached(self) -> Pieces<'static> {
        Pieces {
            piece: self.piece,
            next: self.next,
            held: PhantomData,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (start, len) = match self.piece.take() {
            Some(piece) => piece,
            None => {
                let segment = NonNull::new(self.next)?.cast::<Segment>();
                // SAFETY: a segment of an item held for `'a`.
                unsafe {
                    self.next = (&raw const (*segment.as_ptr()).next).read();
                    prefetch(self.next);
                    let len = (&raw const (*segment.as_ptr()).len).read();
                    (segment.cast::<u8>().add(SEGMENT_HEADER_BYTES), len as usize)
                }
            }
        };
        // SAFETY: data of an item held for `'a`, which does not change.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
    }
}
