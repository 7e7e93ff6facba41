//! The segments behind the head of a large item, and reading through them.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use crate::store::index::prefetch::prefetch;
use crate::store::item::refs::RefWord;

/// Bytes before the data of a segment.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 24;

#[repr(C)]
pub(in crate::store) struct Segment {
    pub(in crate::store) word: RefWord,
    pub(in crate::store) len: u32,
    /// Hash of the item's key, so that a page mover finds the item.
    pub(in crate::store) hash: u64,
    pub(in crate::store) next: *mut u8,
}

const _: () = assert!(size_of::<Segment>() == SEGMENT_HEADER_BYTES);

/// Iterator over the pieces of a value; see [`Item::pieces`](crate::store::Item::pieces).
#[derive(Clone)]
pub struct Pieces<'a> {
    piece: Option<(NonNull<u8>, usize)>,
    next: *mut u8,
    held: PhantomData<&'a ()>,
}

impl Pieces<'_> {
    /// Pieces that begin with `len` bytes at `first` and go on in `next`.
    pub(in crate::store) fn new(first: NonNull<u8>, len: usize, next: *mut u8) -> Self {
        prefetch(next);
        Self {
            piece: Some((first, len)),
            next,
            held: PhantomData,
        }
    }

    /// The same without a hold on the item: whoever has them sees to it that
    /// they are gone before it is.
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
                // SAFETY: a segment of an item held for 'a.
                unsafe {
                    self.next = (&raw const (*segment.as_ptr()).next).read();
                    prefetch(self.next);
                    let len = (&raw const (*segment.as_ptr()).len).read();
                    (segment.cast::<u8>().add(SEGMENT_HEADER_BYTES), len as usize)
                }
            }
        };
        // SAFETY: data of an item held for 'a, which does not change.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
    }
}
