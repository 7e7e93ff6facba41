//! Results and their output as text, CSV and JSON.
//!
//! Contains the [`Summary`] of a load, and the tables that all subcommands print. Formats numbers,
//! never measures.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::collector::Counts;
use super::failure::Failure;
use super::latency::Latency;

/// Results of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the load.
    pub load: String,
    /// Address of the server, or the name of its side in a comparison.
    pub server: String,
    /// Duration of the measured phase.
    pub seconds: f64,
    /// Operations: keys looked up, stored or refused.
    pub operations: u64,
    /// Operations per second.
    pub operations_per_second: f64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Sets stored.
    pub stored: u64,
    /// Requests refused or answered by an error.
    pub refused: u64,
    /// Hits with a value that does not belong to the key.
    pub wrong_values: u64,
    /// Connections that were closed or received malformed replies.
    pub lost_connections: u64,
    /// Description of the first error, refusal or wrong value.
    pub first_error: Option<String>,
    /// Latency in microseconds. With a rate, it begins when a batch was due.
    pub latency_us: Latency,
    /// The server's CPU time per operation in nanoseconds, if its process is known.
    pub server_cpu_ns: Option<f64>,
    /// The server's CPU usage in cores: 1 is a core that is always busy.
    pub server_busy: Option<f64>,
    /// The generator's CPU usage in cores.
    pub generator_busy: f64,
}

impl Summary {
    /// Creates a summary from the counts of the workers. The caller adds the CPU figures.
    pub fn of(load: &str, server: &str, seconds: f64, counts: Counts, ns: &Histogram<u64>) -> Self {
        Summary {
            load: load.to_string(),
            server: server.to_string(),
            seconds,
            operations: counts.operations,
            operations_per_second: counts.operations as f64 / seconds.max(1e-9),
            hits: counts.hits,
            misses: counts.misses,
            stored: counts.stored,
            refused: counts.refused,
            wrong_values: counts.wrong_values,
            lost_connections: counts.lost_connections,
            first_error: counts.first_error,
            latency_us: Latency::of(ns),
            server_cpu_ns: None,
            server_busy: None,
            generator_busy: 0.0,
        }
    }

    /// Returns the reason for which the results are invalid, if they are.
    pub fn error(&self) -> Option<String> {
        let text = self
            .first_error
            .as_deref()
            .unwrap_or("no operation was answered");
        let bad = self.refused + self.wrong_values + self.lost_connections;
        (bad > 0 || self.operations == 0).then(|| text.to_string())
    }
}

/// A table for text and CSV.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Column names.
    pub head: Vec<String>,
    /// Rows of cells, as many cells as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates an empty table.
    pub fn new(head: &[&str]) -> Self {
        Table {
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with its first columns only, and fills the others with dashes.
    pub fn push_failed(&mut self, mut row: Vec<String>) {
        row.resize(self.head.len(), "-".to_string());
        self.push(row);
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Returns aligned columns: the first flush left, the others flush right.
    pub fn to_text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let mut row = String::new();
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    let _ = write!(row, "{cell:<width$}");
                } else {
                    let _ = write!(row, "  {cell:>width$}");
                }
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }

    /// Returns comma-separated values with a header line.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::WriterBuilder::new()
            .flexible(true)
            .from_writer(Vec::new());
        for line in std::iter::once(&self.head).chain(&self.rows) {
            writer.write_record(line).expect("a vector takes all bytes");
        }
        let bytes = writer.into_inner().expect("a vector takes all bytes");
        String::from_utf8(bytes).expect("the cells are text")
    }
}

/// Destinations of the results besides standard output.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutputOptions {
    /// Write the results as comma-separated values to FILE
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// Write the results as JSON to FILE
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write the printed text to FILE too
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub text: Option<PathBuf>,
    /// Do not show progress on standard error
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

impl OutputOptions {
    /// Writes the requested files. The front end prints the text.
    pub fn write<T: Serialize>(&self, text: &str, table: &Table, data: &T) -> Result<(), Failure> {
        let save = |path: &Option<PathBuf>, content: &dyn Fn() -> String| match path {
            None => Ok(()),
            Some(path) => {
                let writing = Failure::io(format!("writing {}", path.display()));
                fs::write(path, content()).map_err(writing)
            }
        };
        save(&self.text, &|| text.to_string())?;
        save(&self.csv, &|| table.to_csv())?;
        save(&self.json, &|| {
            serde_json::to_string_pretty(data).expect("figures have string keys only") + "\n"
        })
    }

    /// Prints a progress line to standard error, unless `quiet` is set.
    pub fn progress(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// Returns the median, 0 for no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, median};

    #[test]
    fn tables_line_up_and_csv_is_quoted_where_needed() {
        let mut table = Table::new(&["load", "n"]);
        table.push(vec!["get, \"deep\"".into(), "1".into()]);
        table.push(vec!["set".into(), "1000".into()]);
        assert_eq!(
            table.to_text(),
            "load            n\nget, \"deep\"     1\nset          1000\n"
        );
        assert_eq!(
            table.to_csv(),
            "load,n\n\"get, \"\"deep\"\"\",1\nset,1000\n"
        );
    }

    #[test]
    fn medians_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
