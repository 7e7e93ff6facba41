//! The miss ratio curve: the hit ratio and the byte hit ratio that other sizes
//! of memory would give, from 1/4 to 8 times the memory limit ([`FACTORS`]).
//!
//! Miniature simulation (Waldspurger, Saemundsson, Ahmad and Park, "Cache
//! Modeling and Optimization using Miniature Simulations", USENIX ATC 2017): the
//! requests for a few keys, chosen by their hash, are replayed in memories that
//! are scaled down like the keys. For each size there is a miniature memory. It
//! has the eviction policy and the ghosts of the store, a hand that passes over
//! its items in random order, expiry, and a model of what page memory and index
//! take.
//!
//! # Flow
//!
//! ```text
//!  worker:  hash below the threshold? → ring    (Sampler)
//!  upkeep:  rings, in order → keys and miniature memories → windows of counts
//!           → curve, once a second              (Predictor)
//! ```
//!
//! A worker calls [`Sampler::record`] for each request: a load and a comparison if
//! the key is not sampled. Otherwise, the request is numbered and goes into the
//! worker's ring. The consumer merges the rings by these numbers, since a
//! get and the set that follows it may come from two workers. A request that
//! finds its ring full is dropped and counted.
//!
//! # What clients do in another memory
//!
//! The requests are those of clients that saw the hits and misses of the real
//! store. In another memory they would have seen others, and a client sets what
//! it has missed. Each case of a retrieval:
//!
//! | store | memory | in the memory |
//! |---|---|---|
//! | hit | hit | a hit |
//! | hit | miss | a miss. The client would set the item, but no set follows. It is stored at once: with the size of the item that was found, and the TTL that the last set of the key gave, or else what is left of the found item's TTL |
//! | miss | miss | a miss. The set that follows stores the item |
//! | miss | hit | a hit. The set that follows would not be: it is ignored, and the item keeps its expiry time |
//!
//! A set follows a miss if it is the first one for its key, within 8 to 16
//! seconds. Any other set is an update: all memories store it. A client that
//! does not set what it missed changes nothing: the key stays absent. A deletion
//! removes the item from all memories, also if the store did not have it.
//! A touch renews the item where there is one; it is not counted as a retrieval.
//!
//! All memories hold an item at the same size, the last one seen. Expiry times
//! differ between them.
//!
//! # Bounds
//!
//! At most [`MRC_KEYS_MAX`](crate::limits::MRC_KEYS_MAX) keys are held in any of
//! the memories, and the curve takes at most
//! [`MRC_BYTES_MAX`](crate::limits::MRC_BYTES_MAX) bytes, rings included. At the
//! start, every key is sampled. Where one more key, or the ghosts, would exceed a
//! bound, the threshold is lowered by an eighth and the keys above it are
//! forgotten in all memories (fixed-size SHARDS: Waldspurger, Park, Garthwaite
//! and Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015). The same
//! happens above [`MRC_SAMPLES_PER_SECOND`](crate::limits::MRC_SAMPLES_PER_SECOND)
//! sampled requests per second, which bounds the processor time. If there were
//! few keys and samples for 5 minutes, the threshold is doubled. The next 5
//! minutes then do not count, because the items of the new keys are unknown.
//!
//! # Corrections
//!
//! - A sampled request counts as often as the inverse of the sampling rate at its
//!   time. Otherwise, requests from before a lowering would outweigh later ones.
//! - A few popular keys make many requests, and it is chance whether they are
//!   sampled. Hit ratios therefore refer to all retrievals of the store, as in
//!   SHARDS-adj.
//! - The misses are scaled by the store's own misses: all of them, divided by
//!   those of sampled keys.
//! - Bytes of all hits are the number of all hits by size class, times the mean
//!   size of the sampled ones.
//!
//! # Time
//!
//! Retrievals are counted in windows of 5 minutes. The curve is the sum of the
//! last 12, so it is about the last 55 to 60 minutes. A change of the memory limit
//! empties them. The contents of the memories carry on.
//!
//! # Limits
//!
//! - The curve begins with empty memories, like the store. In the first hour, the
//!   first request for each key is a miss at all sizes.
//! - Items of keys that clients stop requesting after a miss in another memory
//!   are not foreseen, nor that they would send more or fewer requests.
//! - An item counts as at most 1/8 of a memory that is scaled down.
//! - Pinned items and the draining of pages by force are not simulated.

mod curve;
mod footprint;
mod keys;
mod miniature;
mod predictor;
pub(in crate::store) mod sampling;
mod simulation;
mod sizes;
mod windows;

#[cfg(test)]
mod tests;

pub use crate::store::mrc::curve::{Curve, Prediction};
pub use crate::store::mrc::predictor::Predictor;
pub use crate::store::mrc::sampling::{Observed, Sampler, Sampling};
pub use crate::store::mrc::sizes::{FACTORS, SIZES};
