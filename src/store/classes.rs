//! Size classes: which chunk sizes a page can be cut into. Pure arithmetic.
//!
//! Steps are 8 bytes up to 512, then every size that divides a page evenly,
//! so that no page ends in waste. Where the next class is more than a
//! sixteenth too large, an item is made of several chunks instead.

/// Bytes of a page; pages are aligned to their size.
pub(crate) const PAGE_BYTES: usize = 32 * 1024;
/// Bytes at the start of a page that describe it.
pub(crate) const PAGE_HEADER_BYTES: usize = 64;
/// Bytes of a page that chunks are cut from; also the largest chunk.
pub(crate) const PAGE_SPACE_BYTES: usize = PAGE_BYTES - PAGE_HEADER_BYTES;

const SMALLEST: usize = 32;
const STEP: usize = 8;
const LAST_STEPPED: usize = 512;
const STEPPED: usize = (LAST_STEPPED - SMALLEST) / STEP + 1;
/// Chunks per page in the first class beyond the stepped ones.
const MOST_PER_PAGE: usize = PAGE_SPACE_BYTES / (LAST_STEPPED + STEP);
/// Number of size classes.
pub(crate) const CLASSES: usize = STEPPED + MOST_PER_PAGE;

/// Pieces of a large item are not cut smaller than this, except the last.
const PIECE_MIN: usize = 1024;

const SIZES: [u32; CLASSES] = sizes();

const fn sizes() -> [u32; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        sizes[i] = if i < STEPPED {
            SMALLEST + i * STEP
        } else {
            PAGE_SPACE_BYTES / (MOST_PER_PAGE - (i - STEPPED)) / STEP * STEP
        } as u32;
        i += 1;
    }
    sizes
}

const _: () = assert!(SIZES[CLASSES - 1] as usize == PAGE_SPACE_BYTES);
const _: () = assert!(CLASSES <= u8::MAX as usize);

/// Bytes of a chunk of `class`.
pub(crate) const fn chunk_bytes(class: usize) -> usize {
    SIZES[class] as usize
}

/// Chunks in a page of `class`.
pub(crate) const fn per_page(class: usize) -> usize {
    PAGE_SPACE_BYTES / SIZES[class] as usize
}

/// The smallest class that holds `bytes`; `None` if a page does not.
pub(crate) const fn class_for(bytes: usize) -> Option<usize> {
    if bytes > PAGE_SPACE_BYTES {
        return None;
    }
    if bytes <= LAST_STEPPED {
        return Some(bytes.saturating_sub(SMALLEST).div_ceil(STEP));
    }
    let rounded = bytes.next_multiple_of(STEP);
    Some(STEPPED + MOST_PER_PAGE - PAGE_SPACE_BYTES / rounded)
}

/// The class for the next chunk of something that still needs `bytes`: one
/// that holds all of it with little waste, else the largest that fills up.
pub(crate) const fn class_for_next(bytes: usize) -> usize {
    let Some(class) = class_for(bytes) else {
        return CLASSES - 1;
    };
    let waste = chunk_bytes(class).saturating_sub(bytes);
    if waste <= bytes / 16 || bytes <= LAST_STEPPED || chunk_bytes(class - 1) < PIECE_MIN {
        return class;
    }
    class - 1
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
                pieces <= 4 + bytes / PAGE_SPACE_BYTES,
                "{bytes} in {pieces}"
            );
        }
    }
}
