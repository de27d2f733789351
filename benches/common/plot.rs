//! Plots as SVG, readable on light and dark pages.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #333 } .small { font-size: 11px }
.ours { fill: #2a7de1 } .other { fill: #9aa5b1 } .grid { stroke: #8884 } .line { fill: none; stroke: #2a7de1; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } }
</style>";

/// One value of a bar chart.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Drawn in another colour.
    pub(crate) is_ours: bool,
}

/// One line of a plot with a scale of its own.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Bars on a logarithmic scale.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 400.0;
    const STEP: f64 = 24.0;
    let values = || bars.iter().map(|bar| bar.value.log10());
    let low = values().fold(0.0, f64::min).floor();
    let high = values().fold(low + 1.0, f64::max).ceil();
    let at = |value: f64| LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 70.0);
    let height = 60.0 + STEP * count(bars.len());
    let mut drawing = begin(title, height);
    let mut power = low;
    while power <= high {
        let x = at(power);
        let _ = write!(
            drawing,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"32\" y2=\"{:.0}\"/>\n\
             <text class=\"small\" x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\n",
            height - 24.0,
            height - 8.0,
            10f64.powf(power)
        );
        power += 1.0;
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = 36.0 + STEP * count(index);
        let class = if bar.is_ours { "ours" } else { "other" };
        let end = at(bar.value.log10());
        let _ = write!(
            drawing,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"16\"/>\n\
             <text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{}</text>\n",
            LEFT - 8.0,
            y + 13.0,
            escape(&bar.name),
            (end - LEFT).max(1.0),
            end + 5.0,
            y + 13.0,
            super::report::shown(bar.value)
        );
    }
    drawing + "</svg>\n"
}

/// Lines below one another that share their x, each from zero up to its most.
pub(crate) fn lines(title: &str, x_name: &str, all: &[Series]) -> String {
    const LEFT: f64 = 60.0;
    const STEP: f64 = 110.0;
    const TALL: f64 = 70.0;
    let height = 60.0 + STEP * count(all.len());
    let mut drawing = begin(title, height);
    for (index, series) in all.iter().enumerate() {
        let bottom = 36.0 + STEP * count(index) + 22.0 + TALL;
        let points = || series.points.iter();
        let most = points().fold(0.0, |most: f64, point| most.max(point.1));
        let right = points().fold(1.0, |right: f64, point| right.max(point.0));
        let scaled = points().map(|(x, y)| {
            let x = LEFT + x / right * (WIDTH - LEFT - 20.0);
            format!("{x:.1},{:.1}", bottom - y / most.max(1e-9) * TALL)
        });
        let path: Vec<_> = scaled.collect();
        let _ = write!(
            drawing,
            "<text x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n\
             <text class=\"small\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n\
             <line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{bottom:.0}\" y2=\"{bottom:.0}\"/>\n\
             <polyline class=\"line\" points=\"{}\"/>\n\
             <text class=\"small\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{right:.0} {}</text>\n",
            bottom - TALL - 8.0,
            escape(&series.name),
            LEFT - 6.0,
            bottom - TALL + 10.0,
            super::report::shown(most),
            WIDTH - 20.0,
            path.join(" "),
            WIDTH - 20.0,
            bottom + 14.0,
            escape(x_name),
        );
    }
    drawing + "</svg>\n"
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">\n{STYLE}\n\
         <text x=\"12\" y=\"20\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[allow(clippy::cast_precision_loss, reason = "a handful")]
fn count(number: usize) -> f64 {
    number as f64
}
