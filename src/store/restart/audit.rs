//! Audit of a whole store, for tests and the fuzzer: every item lies within its
//! chunks, and every chunk is either free or part of one linked item.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::item::chain::segment_hash;
use crate::store::item::layout::{Item, word_of};
use crate::store::item::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::store::memory::chunk::{Chunk, NEXT_FREE_OFFSET, Page, Stock, page_of};
use crate::store::memory::classes::{PAGE_HEADER_BYTES, chunk_bytes, per_page};
use crate::store::state::{Local, Store};

/// The chunks that the audit has met, by the address of their page.
struct Chunks<'a> {
    stocks: BTreeMap<usize, (usize, &'a Stock)>,
    met: BTreeSet<usize>,
    /// Chunks met by page.
    counts: BTreeMap<usize, usize>,
}

impl Chunks<'_> {
    /// Records a chunk. Returns its bytes.
    fn meet(&mut self, chunk: Chunk) -> usize {
        let page = page_of(chunk).as_ptr().addr();
        let (class, stock) = self.stocks[&page];
        let offset = chunk.as_ptr().addr() - page - PAGE_HEADER_BYTES;
        let number = offset / chunk_bytes(class);
        assert_eq!(offset % chunk_bytes(class), 0, "no chunk begins here");
        assert!(number < usize::from(stock.bump), "never handed out");
        assert!(
            self.met.insert(chunk.as_ptr().addr()),
            "a chunk is used twice"
        );
        *self.counts.entry(page).or_default() += 1;
        chunk_bytes(class)
    }
}

impl Store {
    /// Checks the whole store: items, chunks, pages and counters. Flushes the
    /// thread's magazines first. No other thread may use the store. Returns the
    /// number of items.
    ///
    /// # Panics
    /// Something is wrong.
    pub fn audit(&self, local: &mut Local) -> u64 {
        assert!(self.wait_for_readers(local) && !self.has_retired(local));
        self.memory.flush(&mut local.magazines);
        let pages = self.memory.pool().used_pages();
        let header = |page: Chunk| {
            let page = page.cast::<Page>();
            // SAFETY: a page in use, whose header no thread changes now.
            let (class, stock) = unsafe {
                let header = page.as_ptr();
                ((&raw const (*header).class).read(), &(*header).stock)
            };
            (page.as_ptr().addr(), (usize::from(class), stock))
        };
        let mut chunks = Chunks {
            stocks: pages.iter().map(|used| header(used.page)).collect(),
            met: BTreeSet::new(),
            counts: BTreeMap::new(),
        };
        assert_eq!(chunks.stocks.len(), self.memory.pool().pages_in_use());
        let (mut items, mut bytes) = (0, 0);
        for number in 0..self.map.shard_count() {
            let shard = self.map.read_at(number);
            for slot in (0..shard.positions()).filter_map(|bucket| shard.slot(bucket)) {
                let item_bytes = chunks.meet(slot.chunk());
                let item = shard.item(slot);
                assert!(item.fits(item_bytes), "an item exceeds its chunk");
                let hash = self.map.hash(item.key());
                assert_eq!(self.map.shard_index(hash), number, "in another shard");
                self.audit_value(item, hash, &mut chunks);
                items += 1;
                bytes += item.bytes() as u64;
            }
        }
        for (page, (class, stock)) in &chunks.stocks {
            let used = chunks.counts.get(page).copied().unwrap_or(0);
            let free = usize::from(stock.free);
            assert_eq!(used + free, per_page(*class), "chunks are lost");
            audit_free_list(*class, stock, &chunks.met);
        }
        let sum = self.stats.snapshot();
        assert_eq!((sum.items, sum.item_bytes), (items, bytes), "miscounted");
        items
    }

    fn audit_value(&self, item: Item<'_>, hash: u64, chunks: &mut Chunks<'_>) {
        let word = item.word();
        assert!(word.is_linked() && word.is_sole(), "{word:?}");
        for chunk in item.segments() {
            let bytes = chunks.meet(chunk);
            // SAFETY: a segment of an item that no thread changes now.
            let (len, owner) = unsafe {
                let len = (&raw const (*chunk.cast::<Segment>().as_ptr()).len).read();
                (len as usize, segment_hash(chunk))
            };
            assert!(0 < len && len + SEGMENT_HEADER_BYTES <= bytes, "{len}");
            assert_eq!(owner, hash, "a segment of another item");
            // SAFETY: as above.
            let word = unsafe { word_of(chunk) };
            assert!(word.is_segment() && word.is_sole(), "{word:?}");
        }
        let value_len: usize = item.pieces().map(<[u8]>::len).sum();
        assert_eq!(value_len, item.value_len());
    }
}

/// Checks that the free list of a page has as many chunks as are free, and none
/// that is used.
fn audit_free_list(class: usize, stock: &Stock, used: &BTreeSet<usize>) {
    let beyond = per_page(class) - usize::from(stock.bump);
    let mut chunk = stock.free_head;
    for _ in beyond..usize::from(stock.free) {
        assert!(!chunk.is_null(), "the free list is too short");
        assert!(!used.contains(&chunk.addr()), "a free chunk is used");
        // SAFETY: a free chunk holds the address of the next one.
        chunk = unsafe { chunk.add(NEXT_FREE_OFFSET).cast::<*mut u8>().read() };
    }
    assert!(chunk.is_null(), "the free list is too long");
}
