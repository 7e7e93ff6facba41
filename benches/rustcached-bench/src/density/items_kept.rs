//! `keep`: the number of items of a size that two servers keep in the same memory.
//!
//! Fills a fresh server with three times as many items as would fit without overhead. Reads its
//! item count and gets a sample of all keys. The hits confirm the count, and the values are
//! verified.

use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::player::{KEY_LENGTH, Player};
use super::random::Random;
use super::report::{OutputOptions, Table};
use super::versus::{Side, VersusOptions};

const MIB: u64 = 1 << 20;
/// Factor by which the values sent exceed the memory limit.
const FILLS: u64 = 3;
/// Number of keys in the sample.
const SAMPLE: u64 = 20_000;

/// Options of `keep`.
#[derive(Clone, Debug, clap::Args)]
pub struct KeepOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Memory limit of each server in MiB
    #[arg(short = 'm', long, value_name = "MIB", default_value_t = 128)]
    pub memory: u64,
    /// Value sizes in bytes (keys have 20 bytes)
    #[arg(
        long,
        value_name = "SIZES",
        value_delimiter = ',',
        default_value = "20,50,100,200,500,1000,2000,5000,10000,50000,100000,500000,1000000"
    )]
    pub sizes: Vec<usize>,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Kept {
    value_size: usize,
    server: &'static str,
    sets: u64,
    refused: u64,
    items: u64,
    /// Number of items estimated from the hits in the sample.
    estimate: f64,
    wrong_values: u64,
}

/// Measures both servers and returns the text to print.
pub fn keep(options: &KeepOptions) -> Result<String, Failure> {
    options.versus.pin()?;
    let mut table = Table::new(&[
        "value size",
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
    for &size in &options.sizes {
        let count = sets_for(options.memory, size);
        let mut row = vec![size.to_string(), count.to_string()];
        let mut items = [0; 2];
        for side in Side::BOTH {
            match measure(options, side, size, count) {
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
        options.output.progress(&row.join("  "));
        table.push(row);
    }
    let text = format!(
        "{}-m {}, keys of {KEY_LENGTH} bytes, fresh servers for each size\n{}",
        options.versus.describe(),
        options.memory,
        table.to_text()
    );
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn sets_for(memory_mib: u64, size: usize) -> u64 {
    FILLS * memory_mib * MIB / (size + KEY_LENGTH) as u64
}

fn cells(kept: &Kept) -> [String; 4] {
    [
        kept.items.to_string(),
        format!("{:.0}", kept.estimate),
        kept.refused.to_string(),
        kept.wrong_values.to_string(),
    ]
}

fn measure(options: &KeepOptions, side: Side, size: usize, count: u64) -> Result<Kept, Failure> {
    let server = options.versus.start(side, options.memory)?;
    let mut player = Player::new(Client::connect(&server.address, true)?, size);
    for key in 0..count {
        player.set(key as u32, size, 0)?;
    }
    player.finish()?;
    let set = player.take_tally();
    let items = player.client().stat("curr_items")?;
    let mut random = Random::new(5);
    for key in sample(count, &mut random) {
        player.get(key)?;
    }
    player.finish()?;
    let read = player.take_tally();
    let looked = (read.hits + read.misses).max(1);
    Ok(Kept {
        value_size: size,
        server: side.name(),
        sets: set.sets,
        refused: set.refused(),
        items,
        estimate: read.hits as f64 / looked as f64 * count as f64,
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
        assert_eq!(sets_for(1, 1004), 3 * 1024);
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
