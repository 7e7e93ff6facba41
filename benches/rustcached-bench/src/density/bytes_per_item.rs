//! Resident bytes per item, after filling and after the value sizes have changed.
//!
//! Fills a server with values of a fixed size. Then overwrites random keys with values of 0.5 to
//! 1.5 times that size, so the mean stays the same. Reads the resident memory at once, and again
//! when it has stopped falling: a server may compact its memory in the background. Divides by the
//! server's own item count, so that evictions show up as fewer items, not as a better density.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::batch_client::BatchClient;
use crate::client::Client;
use crate::density::shape::Shape;
use crate::failure::Failure;
use crate::process::{ServerProcess, resident_bytes};
use crate::random::Random;
use crate::report::{OutputOptions, Table};
use crate::servers::{ServersOptions, Side};

#[derive(Clone, Debug, Serialize)]
struct Density {
    shape: String,
    server: &'static str,
    items: u64,
    empty_bytes: u64,
    filled_bytes: u64,
    shifted_items: u64,
    shifted_bytes: u64,
    settled_bytes: u64,
    settled_after_s: f64,
}

/// The memory has settled if it has not fallen for this time.
const SETTLED: Duration = Duration::from_secs(2);
/// Longest wait for that.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const SETTLE_POLL: Duration = Duration::from_millis(100);

/// Measures all shapes on both servers and returns the text to print. Each shape gets fresh servers
/// and `items` items.
pub(super) fn measure_all(
    servers: &ServersOptions,
    memory_mib: u64,
    shapes: &[Shape],
    items: u32,
    output: &OutputOptions,
) -> Result<String, Failure> {
    let mut table = Table::new(&[
        "key+value",
        "server",
        "items",
        "RSS empty, MiB",
        "filled, MiB",
        "bytes/item",
        "shifted items",
        "shifted, MiB",
        "bytes/item",
        "settled, MiB",
        "bytes/item",
        "after s",
    ]);
    let mut found = Vec::new();
    for &shape in shapes {
        for side in Side::BOTH {
            match measure(servers, memory_mib, side, shape, items) {
                Ok(density) => {
                    let row = row(&density);
                    output.progress(&row.join("  "));
                    table.push(row);
                    found.push(density);
                }
                Err(failure) => {
                    let what = format!("{}: {failure}", side.name());
                    table.push_failed(vec![shape.to_string(), what]);
                }
            }
        }
    }
    let text = servers.describe() + &table.to_text();
    output.write(&text, &table, &found)?;
    Ok(text)
}

fn row(density: &Density) -> Vec<String> {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let each = |bytes: u64, items: u64| {
        let growth = bytes as f64 - density.empty_bytes as f64;
        format!("{:.1}", growth / items.max(1) as f64)
    };
    vec![
        density.shape.clone(),
        density.server.to_string(),
        density.items.to_string(),
        mib(density.empty_bytes),
        mib(density.filled_bytes),
        each(density.filled_bytes, density.items),
        density.shifted_items.to_string(),
        mib(density.shifted_bytes),
        each(density.shifted_bytes, density.shifted_items),
        mib(density.settled_bytes),
        each(density.settled_bytes, density.shifted_items),
        format!("{:.1}", density.settled_after_s),
    ]
}

fn measure(
    servers: &ServersOptions,
    memory_mib: u64,
    side: Side,
    shape: Shape,
    count: u32,
) -> Result<Density, Failure> {
    let server = servers.start(side, memory_mib)?;
    let size = shape.value_size;
    let client = Client::connect(&server.address, true)?;
    let mut batch_client = BatchClient::new(client, shape.key_length, size + size / 2);
    let empty_bytes = resident_bytes(server.pid())?;
    batch_client.set_all((0..count).map(|key| (key, size)))?;
    let items = batch_client.client().stat("curr_items")?;
    let (filled_bytes, _) = settled(&server)?;
    let mut random = Random::new(3);
    let spread = size as u64 + 1;
    let shifted = (0..count).map(|_| {
        let key = random.below(u64::from(count)) as u32;
        (key, size / 2 + random.below(spread) as usize)
    });
    batch_client.set_all(shifted)?;
    let shifted_bytes = resident_bytes(server.pid())?;
    let (settled_bytes, settled_after_s) = settled(&server)?;
    Ok(Density {
        shape: shape.to_string(),
        server: side.name(),
        items,
        empty_bytes,
        filled_bytes,
        shifted_items: batch_client.client().stat("curr_items")?,
        shifted_bytes,
        settled_bytes,
        settled_after_s,
    })
}

/// Waits until the resident memory of a server does not fall any more. Returns it, and the seconds
/// after which it was reached.
fn settled(server: &ServerProcess) -> Result<(u64, f64), Failure> {
    let begun = Instant::now();
    let (mut least, mut reached) = (resident_bytes(server.pid())?, begun);
    while reached.elapsed() < SETTLED && begun.elapsed() < SETTLE_MAX {
        std::thread::sleep(SETTLE_POLL);
        let bytes = resident_bytes(server.pid())?;
        if bytes < least {
            (least, reached) = (bytes, Instant::now());
        }
    }
    Ok((least, (reached - begun).as_secs_f64()))
}
