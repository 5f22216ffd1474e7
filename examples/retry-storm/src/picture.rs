//! The load over time as a picture: one strip a run, all to the same scale.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{PathElement, Polygon, Rectangle, Text},
    style::{Color, IntoFont, RGBColor, TRANSPARENT, TextStyle, WHITE},
};

use crate::{
    service::{OUTAGE, STEP},
    simulation::{LENGTH, Run},
};

const SIZE: (u32, u32) = (960, 860);
const FOOT: u32 = 24;
/// Steps that are shown as one.
const STEPS: u32 = 2;

const INK: RGBColor = RGBColor(40, 44, 52);
const OUTAGE_SHADE: RGBColor = RGBColor(252, 226, 222);
const CAPACITY_LINE: RGBColor = RGBColor(60, 60, 60);
const LOAD: RGBColor = RGBColor(31, 119, 180);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the picture to `path`.
pub(crate) fn draw(runs: &[Run], path: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    // A background of its own, so that it can be read on dark pages too.
    root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let (strips, foot) = root.split_vertically(SIZE.1 - FOOT);
    let most = runs.iter().flat_map(per_second).map(|(_, load)| load);
    let top = most.fold(0.0, f64::max) * 1.05;
    for (strip, run) in strips.split_evenly((runs.len(), 1)).iter().zip(runs) {
        draw_strip(strip, run, top).map_err(|error| anyhow!("{error}"))?;
    }
    let style = TextStyle::from(("sans-serif", 14).into_font()).color(&INK);
    let legend = "seconds   (red: the service refuses everything; dashed: what it can answer)";
    foot.draw(&Text::new(legend, (60, 2), style))
        .map_err(|error| anyhow!("{error}"))?;
    root.present()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Time in seconds, and requests a second around it.
fn per_second(run: &Run) -> impl Iterator<Item = (f64, f64)> {
    let wide = (STEP * STEPS).as_secs_f64();
    let shown = run.load.chunks(STEPS as usize);
    (0_u32..).zip(shown).map(move |(number, steps)| {
        let sum: u32 = steps.iter().sum();
        (f64::from(number) * wide, f64::from(sum) / wide)
    })
}

fn draw_strip<'a>(
    strip: &Area<'a>,
    run: &Run,
    top: f64,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let end = LENGTH.as_secs_f64();
    let caption = TextStyle::from(("sans-serif", 17).into_font()).color(&INK);
    let small = TextStyle::from(("sans-serif", 12).into_font()).color(&INK);
    let title = format!("{}: {}", run.means.name, run.told());
    let mut chart = ChartBuilder::on(strip)
        .margin(6)
        .margin_right(20)
        .caption(title, caption)
        .x_label_area_size(18)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let (from, length) = (OUTAGE.0.as_secs_f64(), OUTAGE.1.as_secs_f64());
    chart.draw_series([Rectangle::new(
        [(from, 0.0), (from + length, top)],
        OUTAGE_SHADE.filled(),
    )])?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK)
        .label_style(small)
        .x_labels(13)
        .y_labels(4)
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_label_formatter(&|load| format!("{load:.0}/s"))
        .draw()?;
    let load: Vec<_> = per_second(run).collect();
    let last = load.last().map_or(0.0, |(second, _)| *second);
    let ground = [(last, 0.0), (0.0, 0.0)];
    let outline: Vec<_> = load.iter().copied().chain(ground).collect();
    chart.draw_series([Polygon::new(outline, LOAD.mix(0.35).filled())])?;
    chart.draw_series([PathElement::new(load, LOAD.stroke_width(1))])?;
    let capacity = f64::from(run.capacity);
    // Dashes by hand: the length of one, and of the gap after it.
    let dashes = (0..60).map(|dash| {
        let x = f64::from(dash);
        PathElement::new(
            vec![(x, capacity), (x + 0.6, capacity)],
            CAPACITY_LINE.stroke_width(1),
        )
    });
    chart.draw_series(dashes)?;
    Ok(())
}
