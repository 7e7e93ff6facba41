//! `density`: resident bytes per item, after filling and after the value sizes have changed.
//!
//! Fills a server with values of a fixed size. Then overwrites random keys with values of 0.5 to
//! 1.5 times that size, so the mean stays the same. Divides by the server's own item count, so that
//! evictions show up as fewer items, not as a better density.

use serde::Serialize;

use super::client::Client;
use super::content::{KeyNames, Values};
use super::failure::Failure;
use super::process::resident_bytes;
use super::random::Random;
use super::replies::{Answers, Outcome};
use super::report::{OutputOptions, Table};
use super::versus::{Side, VersusOptions};
use super::wire::{Expected, Kind, push_set};

/// Bytes of sets per exchange.
const BATCH: usize = 64 * 1024;

/// Options of `density`.
#[derive(Clone, Debug, clap::Args)]
pub struct DensityOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Items of each shape
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub items: u32,
    /// Shapes: KEY+VALUE in bytes
    #[arg(
        long,
        value_name = "SHAPES",
        value_delimiter = ',',
        default_value = "20+32,30+200"
    )]
    pub shapes: Vec<String>,
    /// Memory limit of each server in MiB; must be enough for all items
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Density {
    shape: String,
    server: &'static str,
    items: u64,
    empty_bytes: u64,
    filled_bytes: u64,
    shifted_items: u64,
    shifted_bytes: u64,
}

/// Measures both servers and returns the text to print.
pub fn density(options: &DensityOptions) -> Result<String, Failure> {
    options.versus.pin()?;
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
    ]);
    let mut found = Vec::new();
    for shape in &options.shapes {
        let (key_length, size) = parse_shape(shape)?;
        for side in Side::BOTH {
            match measure(options, side, key_length, size) {
                Ok(mut density) => {
                    density.shape.clone_from(shape);
                    table.push(row(&density));
                    options
                        .output
                        .progress(&table.rows[table.rows.len() - 1].join("  "));
                    found.push(density);
                }
                Err(failure) => {
                    let what = format!("{}: {failure}", side.name());
                    table.push_failed(vec![shape.clone(), what]);
                }
            }
        }
    }
    let text = options.versus.describe() + &table.to_text();
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn parse_shape(shape: &str) -> Result<(usize, usize), Failure> {
    let parts = shape.split_once('+');
    let parts = parts.and_then(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)));
    let fits = parts.filter(|&(key, _): &(usize, usize)| (10..=250).contains(&key));
    fits.ok_or_else(|| Failure::Usage(format!("not KEY+VALUE, keys of 10 to 250: {shape:?}")))
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
    ]
}

fn measure(
    options: &DensityOptions,
    side: Side,
    key_length: usize,
    size: usize,
) -> Result<Density, Failure> {
    let server = options.versus.start(side, options.memory)?;
    let mut client = server.client()?;
    let empty_bytes = resident_bytes(server.pid())?;
    let mut filler = Filler::new(key_length, size + size / 2);
    filler.set_all(&mut client, (0..options.items).map(|key| (key, size)))?;
    let (items, filled_bytes) = (client.stat("curr_items")?, resident_bytes(server.pid())?);
    let mut random = Random::new(3);
    let (count, spread) = (u64::from(options.items), size as u64 + 1);
    let shifted = (0..options.items).map(|_| {
        let key = random.below(count) as u32;
        (key, size / 2 + random.below(spread) as usize)
    });
    filler.set_all(&mut client, shifted)?;
    Ok(Density {
        shape: String::new(),
        server: side.name(),
        items,
        empty_bytes,
        filled_bytes,
        shifted_items: client.stat("curr_items")?,
        shifted_bytes: resident_bytes(server.pid())?,
    })
}

/// Sets many keys over a connection. `stall` uses only its encoding of requests.
#[derive(Debug)]
pub struct Filler {
    names: KeyNames,
    values: Values,
    key_length: usize,
    name: Vec<u8>,
}

impl Filler {
    /// Creates a filler for keys of `key_length` bytes and values of up to `largest` bytes.
    pub fn new(key_length: usize, largest: usize) -> Self {
        Filler {
            names: KeyNames::new(""),
            values: Values::new(largest),
            key_length,
            name: Vec::new(),
        }
    }

    /// Appends a `set` request with the value of `key` in `size` bytes.
    pub fn push_set(&mut self, out: &mut Vec<u8>, key: u32, size: usize) {
        self.name.clear();
        self.names.push(&mut self.name, key, self.key_length);
        push_set(out, &self.name, 0, size, |out| {
            self.values.push(out, key, size)
        });
    }

    /// Sets all the keys, in batches. Each comes with the size of its value in bytes.
    pub fn set_all(
        &mut self,
        client: &mut Client,
        items: impl Iterator<Item = (u32, usize)>,
    ) -> Result<(), Failure> {
        let (mut request, mut expected) = (Vec::new(), Vec::new());
        let mut refusals = Refusals::default();
        for (key, size) in items {
            self.push_set(&mut request, key, size);
            expected.push(Expected::one(Kind::Stored, key));
            if request.len() >= BATCH {
                client.exchange(&request, &expected, &mut refusals)?;
                request.clear();
                expected.clear();
            }
        }
        client.exchange(&request, &expected, &mut refusals)?;
        refusals.0.map_or(Ok(()), |text| Err(Failure::Server(text)))
    }
}

#[derive(Default)]
struct Refusals(Option<String>);

impl Answers for Refusals {
    fn answer(&mut self, _index: usize, outcome: Outcome<'_>) {
        if let Outcome::Refused(line) = outcome {
            let text = || format!("a set was refused: {}", line.escape_ascii());
            self.0.get_or_insert_with(text);
        }
    }

    fn value(&mut self, _expected: &Expected, _key: Option<&[u8]>, _value: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::{Filler, parse_shape};

    #[test]
    fn shapes_are_two_numbers() {
        assert_eq!(parse_shape("20+32").unwrap(), (20, 32));
        assert!(parse_shape("20").is_err());
        assert!(parse_shape("9+32").is_err());
        assert!(parse_shape("300+32").is_err());
    }

    #[test]
    fn sets_have_the_shape() {
        let mut out = Vec::new();
        Filler::new(20, 32).push_set(&mut out, 7, 32);
        assert!(out.starts_with(b"set 00000000000000000007 0 0 32\r\n"));
        assert_eq!(out.len(), "set  0 0 32\r\n\r\n".len() + 20 + 32);
    }
}
