//! Draws resident memory over time as SVG, with a panel per server.
//!
//! The panels share the scale of memory but have their own time scale. Bands show the scenarios, a
//! solid line the limit, and a dashed line the bound.

use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, IntoTextStyle, RGBColor, WHITE};

use crate::failure::Failure;
use crate::memory::bound::bound;
use crate::memory::recorder::Row;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 320;
/// Space below the top of a panel for the names of the scenarios, as a share of its height.
const LABELS: f64 = 0.15;
const MIB: f64 = 1048576.0;
const SHADE: RGBColor = RGBColor(0xf2, 0xf2, 0xf2);
const GRID: RGBColor = RGBColor(0xcc, 0xcc, 0xcc);
const LIMIT: RGBColor = RGBColor(0x33, 0x33, 0x33);
const BOUND: RGBColor = RGBColor(0xcc, 0x00, 0x00);
const RESIDENT: RGBColor = RGBColor(0x00, 0x66, 0xcc);

/// An area that is drawn as SVG into a string.
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Returns the graph of all rows.
pub fn svg(rows: &[Row]) -> Result<String, Failure> {
    let mut servers: Vec<&str> = rows.iter().map(|row| row.server.as_str()).collect();
    servers.dedup();
    let mut text = String::new();
    draw(&mut text, &servers, rows)
        .map_err(|error| Failure::io("drawing the graph")(std::io::Error::other(error)))?;
    Ok(text)
}

fn draw(text: &mut String, servers: &[&str], rows: &[Row]) -> Drawn {
    let size = (WIDTH, PANEL_HEIGHT * servers.len().max(1) as u32);
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    root.fill(&WHITE)?;
    let peaks = rows
        .iter()
        .map(|row| row.rss_bytes.max(bound(row.limit_bytes)));
    let top = peaks.max().unwrap_or(0) as f64 / MIB / (1.0 - LABELS);
    let panels = root.split_evenly((servers.len().max(1), 1));
    for (server, panel) in servers.iter().zip(&panels) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.server == *server).collect();
        draw_panel(panel, server, &rows, top)?;
    }
    root.present()
}

fn draw_panel(panel: &Area<'_>, server: &str, rows: &[&Row], top: f64) -> Drawn {
    let title =
        format!("{server}: resident memory, MiB (line: limit; dashed line: 1.1 x limit + 24 MiB)");
    let seconds = rows.last().map_or(1.0, |row| row.seconds).max(0.001);
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(55)
        .build_cartesian_2d(0.0..seconds, 0.0..top.max(1.0))?;
    let names = ("sans-serif", 12).into_font().into_text_style(panel);
    let names = names.pos(Pos::new(HPos::Center, VPos::Top));
    let (mut bands, mut labels, mut start) = (Vec::new(), Vec::new(), 0.0);
    let scenarios = rows.chunk_by(|a, b| a.scenario == b.scenario);
    for (index, scenario) in scenarios.enumerate() {
        let last = scenario[scenario.len() - 1];
        let shade = [SHADE, WHITE][index % 2].filled();
        bands.push(Rectangle::new([(start, 0.0), (last.seconds, top)], shade));
        // The names of neighbours are at different heights, so that they do not overlap.
        let height = top * (1.0 - LABELS / 2.0 * (index % 2) as f64);
        let middle = ((start + last.seconds) / 2.0, height);
        labels.push(Text::new(last.scenario.clone(), middle, names.clone()));
        start = last.seconds;
    }
    chart.draw_series(bands)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE.mix(0.0))
        .x_label_formatter(&|seconds| format!("{seconds} s"))
        .y_label_formatter(&|mib| mib.to_string())
        .draw()?;
    chart.draw_series(labels)?;
    let line = |mib: fn(&Row) -> f64| {
        let points = rows.iter().map(move |row| (row.seconds, mib(row)));
        points.collect::<Vec<_>>()
    };
    let limit = line(|row| row.limit_bytes as f64 / MIB);
    let most = line(|row| bound(row.limit_bytes) as f64 / MIB);
    let resident = line(|row| row.rss_bytes as f64 / MIB);
    chart.draw_series(LineSeries::new(limit, LIMIT))?;
    chart.draw_series(DashedLineSeries::new(most, 6, 4, BOUND.into()))?;
    chart.draw_series(LineSeries::new(resident, RESIDENT.stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::memory::recorder::Row;

    fn row(server: &str, scenario: &str, seconds: f64) -> Row {
        Row {
            server: server.to_string(),
            scenario: scenario.to_string(),
            phase: String::new(),
            seconds,
            rss_bytes: 100 << 20,
            limit_bytes: 64 << 20,
            items: 0,
            sets: 0,
            refused: 0,
            bad_answers: String::new(),
        }
    }

    #[test]
    fn each_server_has_a_panel_and_each_scenario_a_band() {
        let rows = [
            row("theirs", "fill", 1.0),
            row("theirs", "fill", 2.0),
            row("ours", "fill", 1.0),
            row("ours", "a<b", 2.0),
        ];
        let text = svg(&rows).unwrap();
        for (color, lines) in [("#333333", 2), ("#0066CC", 2)] {
            let drawn = text.lines().filter(|line| line.starts_with("<polyline"));
            let drawn = drawn.filter(|line| line.contains(color)).count();
            assert_eq!(drawn, lines, "{color} in {text}");
        }
        assert!(text.contains("#CC0000"), "{text}");
        let names = |name: &str| text.lines().filter(|line| *line == name).count();
        assert_eq!((names("fill"), names("a&lt;b")), (2, 1), "{text}");
        assert!(text.ends_with("</svg>\n"), "{text}");
    }

    #[test]
    fn a_graph_without_rows_is_empty() {
        assert!(svg(&[]).unwrap().ends_with("</svg>\n"));
    }
}
