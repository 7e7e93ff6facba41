//! `density`: how much memory items of a shape take.
//!
//! Without `--full`, servers have memory enough for all items, and the resident bytes per item are
//! measured. With `--full`, servers are filled beyond their memory limit, and the items that they
//! keep are counted.

mod bytes_per_item;
mod items_kept;
mod shape;

use crate::failure::Failure;
use crate::report::OutputOptions;
use crate::servers::ServersOptions;

pub use self::shape::Shape;

const SHAPES: &str = "20+32,30+200";
const FULL_SHAPES: &str = "20+20,20+50,20+100,20+200,20+500,20+1000,20+2000,20+5000,20+10000,\
                           20+50000,20+100000,20+500000,20+1000000";
const MEMORY_MIB: u64 = 8192;
const FULL_MEMORY_MIB: u64 = 128;

/// Options of `density`.
#[derive(Clone, Debug, clap::Args)]
pub struct DensityOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Fill the servers with three times the memory limit, and count the items that they keep
    #[arg(long)]
    pub full: bool,
    /// Items of each shape, without --full
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5_000_000,
        conflicts_with = "full"
    )]
    pub items: u32,
    /// Shapes, each as KEY+VALUE in bytes [default: 20+32,30+200; with --full, keys of 20 bytes
    /// with 13 value sizes from 20 bytes to 1 MB]
    #[arg(
        long,
        value_name = "SHAPES",
        value_delimiter = ',',
        default_value = SHAPES,
        default_value_if("full", "true", FULL_SHAPES),
        hide_default_value = true
    )]
    pub shapes: Vec<Shape>,
    /// Memory limit of each server in MiB; without --full, it must be enough for all items
    /// [default: 8192; with --full, 128]
    #[arg(short = 'm', long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Measures both servers and returns the text to print.
pub fn density(options: &DensityOptions) -> Result<String, Failure> {
    let DensityOptions {
        servers,
        shapes,
        output,
        ..
    } = options;
    servers.pin()?;
    if options.full {
        let memory = options.memory.unwrap_or(FULL_MEMORY_MIB);
        items_kept::measure_all(servers, memory, shapes, output)
    } else {
        let memory = options.memory.unwrap_or(MEMORY_MIB);
        bytes_per_item::measure_all(servers, memory, shapes, options.items, output)
    }
}

#[cfg(test)]
mod tests {
    use super::DensityOptions;
    use clap::{Args, Command, FromArgMatches};

    fn parse(arguments: &[&str]) -> Result<DensityOptions, clap::Error> {
        let command = DensityOptions::augment_args(Command::new("density"));
        let words = ["density", "--ours=server"].iter().chain(arguments);
        DensityOptions::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn default_shapes_depend_on_the_measurement() {
        assert_eq!(parse(&[]).unwrap().shapes.len(), 2);
        assert_eq!(parse(&["--full"]).unwrap().shapes.len(), 13);
        let given = parse(&["--full", "--shapes=10+1,20+2,30+3"]).unwrap();
        assert_eq!(given.shapes.len(), 3);
        assert!(parse(&["--full", "--items=5"]).is_err());
    }
}
