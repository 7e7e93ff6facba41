//! Size classes: the chunk sizes that a page can be cut into. Pure arithmetic.
//!
//! There are few enough classes that their half-used pages take little of a
//! small memory, and that tools that know the ids 1 to 63 can show them all.
//! They are close enough that an item wastes a few percent. Above 1 KiB, a page
//! is cut into 16, 8, 4, 2 or 1 chunks (and one class of 31). An item that fits
//! none of these classes well is chained: large chunks first, and a fitting one
//! last.

use crate::limits::CLASSES_MAX;

/// Bytes of a page. Pages are aligned to their size.
pub(crate) const PAGE_BYTES: usize = 32 * 1024;
/// Bytes of the header at the start of a page.
pub(crate) const PAGE_HEADER_BYTES: usize = 64;
/// Bytes of a page that chunks are cut from. Also the size of the largest
/// chunk.
pub const PAGE_SPACE_BYTES: usize = PAGE_BYTES - PAGE_HEADER_BYTES;

/// Address and size of every chunk are multiples of this.
const STEP: usize = 8;
/// Bytes of the smallest chunk.
const SMALLEST: usize = 32;
/// Chunk sizes up to this are 8 bytes apart.
const FINE_TO: usize = 256;
/// Chunk sizes up to this are 16 bytes apart.
const MEDIUM_TO: usize = 512;
const FINE: usize = (FINE_TO - SMALLEST) / STEP + 1;
const MEDIUM: usize = (MEDIUM_TO - FINE_TO) / (2 * STEP);
/// Chunks per page of the larger classes.
const PER_PAGE: [usize; 18] = [
    60, 57, 54, 51, 48, 46, 43, 41, 39, 37, 35, 33, 31, 16, 8, 4, 2, 1,
];

/// Number of size classes.
pub(crate) const CLASSES: usize = FINE + MEDIUM + PER_PAGE.len();

/// Minimum size of the chunks of a chained item, except the last.
pub(in crate::store) const PIECE_MIN: usize = 1024;

/// Bytes of a chunk, by class.
const SIZES: [u32; CLASSES] = sizes();
/// The smallest class that holds a size, by size in units of [`STEP`].
const CLASS_OF_STEPS: [u8; PAGE_SPACE_BYTES / STEP + 1] = classes_of_steps();

const fn sizes() -> [u32; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        sizes[i] = if i < FINE {
            SMALLEST + i * STEP
        } else if i < FINE + MEDIUM {
            FINE_TO + (i - FINE + 1) * 2 * STEP
        } else {
            PAGE_SPACE_BYTES / PER_PAGE[i - FINE - MEDIUM] / STEP * STEP
        } as u32;
        i += 1;
    }
    sizes
}

const fn classes_of_steps() -> [u8; PAGE_SPACE_BYTES / STEP + 1] {
    let mut classes = [0; PAGE_SPACE_BYTES / STEP + 1];
    let mut class = 0;
    let mut steps = 0;
    while steps < classes.len() {
        if SIZES[class] as usize / STEP < steps {
            class += 1;
        }
        classes[steps] = class as u8;
        steps += 1;
    }
    classes
}

const _: () = assert!(SIZES[CLASSES - 1] as usize == PAGE_SPACE_BYTES);
const _: () = assert!(CLASSES == CLASSES_MAX);

/// Returns the bytes of a chunk of `class`.
pub(crate) const fn chunk_bytes(class: usize) -> usize {
    SIZES[class] as usize
}

/// Returns the number of chunks in a page of `class`.
pub(crate) const fn per_page(class: usize) -> usize {
    PAGE_SPACE_BYTES / SIZES[class] as usize
}

/// Returns the smallest class whose chunks hold `bytes`, or `None` if a page
/// cannot.
pub(crate) const fn class_for(bytes: usize) -> Option<usize> {
    if bytes > PAGE_SPACE_BYTES {
        return None;
    }
    Some(CLASS_OF_STEPS[bytes.div_ceil(STEP)] as usize)
}

/// Returns the class for the next chunk of an item that still needs `bytes`.
/// The chunk holds all of them with little waste; else it is the largest chunk
/// that they fill.
pub(crate) const fn class_for_next(bytes: usize) -> usize {
    let Some(class) = class_for(bytes) else {
        return CLASSES - 1;
    };
    let waste = chunk_bytes(class) - bytes;
    if waste <= bytes / 16 || bytes <= PIECE_MIN || chunk_bytes(class - 1) < PIECE_MIN {
        return class;
    }
    class - 1
}

/// Returns the class for the head of an item: of `bytes` bytes if it lies in
/// one chunk, else with `chained_bytes`, which include the header of a chained
/// item.
pub(crate) const fn class_for_item(bytes: usize, chained_bytes: usize) -> usize {
    if bytes <= PIECE_MIN {
        return CLASS_OF_STEPS[bytes.div_ceil(STEP)] as usize;
    }
    let class = class_for_next(bytes);
    if chunk_bytes(class) < bytes {
        return class_for_next(chained_bytes);
    }
    class
}

#[cfg(test)]
mod tests {
    use super::{CLASSES, PAGE_SPACE_BYTES, chunk_bytes, class_for, class_for_next, per_page};

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=PAGE_SPACE_BYTES {
            let class = class_for(bytes).unwrap();
            assert!(chunk_bytes(class) >= bytes, "{bytes}");
            assert!(class == 0 || chunk_bytes(class - 1) < bytes, "{bytes}");
        }
        assert_eq!(class_for(PAGE_SPACE_BYTES + 1), None);
    }

    #[test]
    fn classes_ascend_and_fill_their_pages() {
        for class in 1..CLASSES {
            assert!(chunk_bytes(class) > chunk_bytes(class - 1), "{class}");
        }
        for class in 0..CLASSES {
            let waste = PAGE_SPACE_BYTES - per_page(class) * chunk_bytes(class);
            assert!(waste <= PAGE_SPACE_BYTES / 60, "{class} wastes {waste}");
        }
    }

    #[test]
    fn pieces_waste_little() {
        const SEGMENT_HEADER: usize = 24;
        for bytes in (64..200_000).step_by(7) {
            let (mut left, mut taken, mut pieces) = (bytes, 0, 0);
            loop {
                let size = chunk_bytes(class_for_next(left));
                taken += size;
                pieces += 1;
                if size >= left {
                    break;
                }
                left = left - size + SEGMENT_HEADER;
            }
            assert!(taken - bytes <= bytes / 15 + 8, "{bytes} takes {taken}");
            assert!(
                pieces <= 7 + bytes / PAGE_SPACE_BYTES,
                "{bytes} in {pieces}"
            );
        }
    }
}
