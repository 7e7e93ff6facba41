//! The number of items of a shape that servers keep at their memory limit.
//!
//! Fills a fresh server with three times as many items as would fit without overhead. Reads its
//! item count and gets a sample of all keys. The hits confirm the count, and the values are
//! verified.

use serde::Serialize;

use crate::batch_client::BatchClient;
use crate::client::Client;
use crate::density::shape::Shape;
use crate::failure::Failure;
use crate::random::Random;
use crate::report::{OutputOptions, Table};
use crate::servers::{ServersOptions, Side};

const MIB: u64 = 1 << 20;
/// Factor by which the items sent exceed the memory limit.
const FILLS: u64 = 3;
/// Number of keys in the sample.
const SAMPLE: u64 = 20_000;

#[derive(Clone, Debug, Serialize)]
struct ItemsKept {
    shape: String,
    server: &'static str,
    sets: u64,
    refused: u64,
    items: u64,
    /// Number of items estimated from the hits in the sample.
    estimate: f64,
    wrong_values: u64,
}

/// Measures all shapes on both servers and returns the text to print. Each shape gets fresh
/// servers.
pub(super) fn measure_all(
    servers: &ServersOptions,
    memory_mib: u64,
    shapes: &[Shape],
    output: &OutputOptions,
) -> Result<String, Failure> {
    let mut table = Table::new(&[
        "key+value",
        "sets",
        "theirs: items",
        "by sample",
        "refused",
        "wrong",
        "ours: items",
        "by sample",
        "refused",
        "wrong",
        "ours/theirs",
    ]);
    let mut found = Vec::new();
    for &shape in shapes {
        let count = sets_for(memory_mib, shape);
        let mut row = vec![shape.to_string(), count.to_string()];
        let mut items = [0; 2];
        for side in Side::BOTH {
            match measure(servers, memory_mib, side, shape, count) {
                Ok(kept) => {
                    items[side.index()] = kept.items;
                    row.extend(cells(&kept));
                    found.push(kept);
                }
                Err(failure) => {
                    row.push(failure.to_string());
                    row.extend(["-", "-", "-"].map(ToString::to_string));
                }
            }
        }
        let [theirs, ours] = items;
        row.push(format!("{:.3}", ours as f64 / theirs.max(1) as f64));
        output.progress(&row.join("  "));
        table.push(row);
    }
    let text = format!(
        "{}-m {memory_mib}, fresh servers for each shape\n{}",
        servers.describe(),
        table.to_text()
    );
    output.write(&text, &table, &found)?;
    Ok(text)
}

fn sets_for(memory_mib: u64, shape: Shape) -> u64 {
    FILLS * memory_mib * MIB / (shape.key_length + shape.value_size) as u64
}

fn cells(kept: &ItemsKept) -> [String; 4] {
    [
        kept.items.to_string(),
        format!("{:.0}", kept.estimate),
        kept.refused.to_string(),
        kept.wrong_values.to_string(),
    ]
}

fn measure(
    servers: &ServersOptions,
    memory_mib: u64,
    side: Side,
    shape: Shape,
    count: u64,
) -> Result<ItemsKept, Failure> {
    let server = servers.start(side, memory_mib)?;
    let client = Client::connect(&server.address, true)?;
    let mut batch_client = BatchClient::new(client, shape.key_length, shape.value_size);
    for key in 0..count {
        batch_client.set(key as u32, shape.value_size, 0)?;
    }
    batch_client.flush()?;
    let set = batch_client.take_counts();
    let items = batch_client.client().stat("curr_items")?;
    let mut random = Random::new(5);
    for key in sample(count, &mut random) {
        batch_client.get(key)?;
    }
    batch_client.flush()?;
    let read = batch_client.take_counts();
    let looked_up = (read.hits + read.misses).max(1);
    Ok(ItemsKept {
        shape: shape.to_string(),
        server: side.name(),
        sets: set.sets,
        refused: set.refused(),
        items,
        estimate: read.hits as f64 / looked_up as f64 * count as f64,
        wrong_values: read.wrong_values,
    })
}

/// Returns all keys if they are few, otherwise a random sample.
fn sample(count: u64, random: &mut Random) -> Vec<u32> {
    if count <= SAMPLE {
        return (0..count as u32).collect();
    }
    (0..SAMPLE).map(|_| random.below(count) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::{SAMPLE, sample, sets_for};
    use crate::random::Random;

    #[test]
    fn three_times_what_fits_is_sent() {
        let shape = "20+1004".parse().unwrap();
        assert_eq!(sets_for(1, shape), 3 * 1024);
    }

    #[test]
    fn few_keys_are_all_read() {
        let mut random = Random::new(1);
        assert_eq!(sample(3, &mut random), [0, 1, 2]);
        let some = sample(10 * SAMPLE, &mut random);
        assert_eq!(some.len() as u64, SAMPLE);
        assert!(some.iter().any(|&key| u64::from(key) > 9 * SAMPLE));
    }
}
