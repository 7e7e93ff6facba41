//! Draws resident memory over time as SVG, with a panel per server.
//!
//! Both panels share the scale of memory but have their own time scale. Bands show the scenarios, a
//! solid line the limit, and a dashed line the bound.

use std::fmt::Write as _;

use crate::memory::bound;
use crate::memory::recorder::Row;

const WIDTH: f64 = 1200.0;
const PANEL_HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;
const MIB: f64 = 1048576.0;
/// Approximate number of grid lines in a panel.
const GRID_LINES: f64 = 6.0;

/// Returns the graph of all rows.
pub fn svg(rows: &[Row]) -> String {
    let mut servers: Vec<&str> = Vec::new();
    for row in rows {
        if !servers.contains(&row.server.as_str()) {
            servers.push(&row.server);
        }
    }
    let most = rows
        .iter()
        .map(|row| row.rss_bytes.max(bound(row.limit_bytes)) as f64 / MIB)
        .fold(1.0, f64::max)
        * 1.05;
    let height = PANEL_HEIGHT * servers.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, server) in servers.iter().enumerate() {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.server == *server).collect();
        let panel = Panel {
            top: index as f64 * PANEL_HEIGHT,
            seconds: rows.last().map_or(1.0, |row| row.seconds).max(0.001),
            most,
        };
        panel.draw(&mut out, server, &rows);
    }
    out + "</svg>\n"
}

struct Panel {
    top: f64,
    seconds: f64,
    most: f64,
}

impl Panel {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, mib: f64) -> f64 {
        self.top + PANEL_HEIGHT - BOTTOM - mib / self.most * (PANEL_HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, out: &mut String, server: &str, rows: &[&Row]) {
        let title_y = self.top + 20.0;
        let server = escape(server);
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{title_y}\" font-size=\"15\">{server}: resident memory, MiB \
             (line: limit; broken line: 1.1 x limit + 24 MiB)</text>"
        );
        self.bands(out, rows);
        self.grid(out);
        let limit = |row: &Row| row.limit_bytes as f64 / MIB;
        let most = |row: &Row| bound(row.limit_bytes) as f64 / MIB;
        let rss = |row: &Row| row.rss_bytes as f64 / MIB;
        self.line(out, rows, limit, "stroke=\"#333\" stroke-width=\"1\"");
        let broken = "stroke=\"#c00\" stroke-width=\"1\" stroke-dasharray=\"6 4\"";
        self.line(out, rows, most, broken);
        self.line(out, rows, rss, "stroke=\"#06c\" stroke-width=\"1.5\"");
    }

    /// Draws the scenarios: a label each, and a background for every other.
    fn bands(&self, out: &mut String, rows: &[&Row]) {
        let mut start = 0.0;
        let (top, bottom) = (self.y(self.most), self.y(0.0));
        let scenes = rows.chunk_by(|a, b| a.scenario == b.scenario);
        for (index, scene) in scenes.enumerate() {
            let Some(last) = scene.last() else {
                continue;
            };
            let (left, right) = (self.x(start), self.x(last.seconds));
            let (width, height) = (right - left, bottom - top);
            let shade = ["#f2f2f2", "#ffffff"][index % 2];
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\" fill=\"{shade}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                (left + right) / 2.0,
                top - 5.0 - 12.0 * (index % 2) as f64,
                escape(&last.scenario),
            );
            start = last.seconds;
        }
    }

    fn grid(&self, out: &mut String) {
        let (left, right) = (self.x(0.0), self.x(self.seconds));
        for mib in marks(self.most) {
            let y = self.y(mib);
            let _ = writeln!(
                out,
                "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ccc\" stroke-width=\"0.5\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mib}</text>",
                left - 6.0,
                y + 4.0,
            );
        }
        let y = self.y(0.0) + 18.0;
        for second in marks(self.seconds) {
            let x = self.x(second);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{second} s</text>"
            );
        }
    }

    fn line(&self, out: &mut String, rows: &[&Row], mib: impl Fn(&Row) -> f64, style: &str) {
        let points: Vec<String> = rows
            .iter()
            .map(|row| format!("{:.1},{:.1}", self.x(row.seconds), self.y(mib(row))))
            .collect();
        let points = points.join(" ");
        let _ = writeln!(out, "<polyline points=\"{points}\" fill=\"none\" {style}/>");
    }
}

/// Returns round numbers from 0 to `most`.
fn marks(most: f64) -> Vec<f64> {
    let rough = most / GRID_LINES;
    let unit = 10f64.powf(rough.log10().floor());
    let wide = [1.0, 2.0, 5.0, 10.0].map(|times| times * unit);
    let step = wide.into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * unit);
    (0..=(most / step) as u32)
        .map(|index| f64::from(index) * step)
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::{marks, svg};
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
        let text = svg(&rows);
        assert_eq!(text.matches("<polyline").count(), 6);
        assert_eq!(text.matches("fill</text>").count(), 2);
        assert!(text.contains("a&lt;b</text>"));
        assert!(text.ends_with("</svg>\n"));
        assert!(!text.contains("NaN"), "{text}");
        assert!(!svg(&[]).contains("NaN"));
    }

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(marks(6.5), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(marks(330.0).last(), Some(&300.0));
    }
}
