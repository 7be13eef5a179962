//! The way of the slides as boxes: how many came, how many went at each step and why, how many stand in each part.

use anyhow::Result;
use plotters::prelude::*;

use super::charts::{FONT, GRID, INK, inline, plain};

/// A step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the slides are from here on: `with tissue and tiles`.
    pub title: String,
    /// How many are left.
    pub left: usize,
    /// Why some of the step before went, and how many.
    pub gone: Vec<(String, usize)>,
}

const WIDTH: i32 = 480;
const LEFT: (i32, i32) = (6, 206);
const RIGHT: (i32, i32) = (230, 474);
const LINE: i32 = 18;
/// Letters of a line of the right boxes.
const LETTERS: usize = 34;

/// Steps from top to bottom; `parts` stand below the last one.
///
/// # Errors
/// None in practice.
pub fn flow(steps: &[Step], parts: &[(String, usize)], alt: &str) -> Result<String> {
    let high = |step: &Step| (48.max(16 + LINE * lines(step) as i32)) + 22;
    let height = steps.iter().map(high).sum::<i32>() + if parts.is_empty() { 0 } else { 62 };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height.max(20) as u32)).into_drawing_area();
        let write = |text: &str, at: (i32, i32), size: i32| {
            area.draw(&Text::new(text.to_owned(), at, (FONT, size).with_color(INK).into_text_style(&area))).map_err(plain)
        };
        let frame = |from: (i32, i32), to: (i32, i32)| area.draw(&Rectangle::new([from, to], GRID.stroke_width(2))).map_err(plain);
        let line = |from: (i32, i32), to: (i32, i32)| area.draw(&PathElement::new(vec![from, to], GRID.stroke_width(2))).map_err(plain);
        let middle = (LEFT.0 + LEFT.1) / 2;
        let mut top = 6;
        for (index, step) in steps.iter().enumerate() {
            frame((LEFT.0, top), (LEFT.1, top + 44))?;
            write(&step.left.to_string(), (LEFT.0 + 12, top + 7), 16)?;
            write(&step.title, (LEFT.0 + 12, top + 25), 13)?;
            if !step.gone.is_empty() {
                frame((RIGHT.0, top), (RIGHT.1, top + 10 + LINE * lines(step) as i32))?;
                line((LEFT.1, top + 16), (RIGHT.0, top + 16))?;
                let mut y = top + 7;
                for (reason, count) in &step.gone {
                    for (number, text) in wrapped(&format!("{count} {reason}")).iter().enumerate() {
                        write(text, (RIGHT.0 + 10 + if number == 0 { 0 } else { 12 }, y), 13)?;
                        y += LINE;
                    }
                }
            }
            let next = top + high(step);
            if index + 1 < steps.len() || !parts.is_empty() {
                line((middle, top + 44), (middle, next))?;
            }
            top = next;
        }
        let count = parts.len().max(1) as i32;
        let wide = (RIGHT.1 - LEFT.0 - 10 * (count - 1)) / count;
        for (index, (title, left)) in parts.iter().enumerate() {
            let from = LEFT.0 + index as i32 * (wide + 10);
            frame((from, top), (from + wide, top + 44))?;
            write(&left.to_string(), (from + 12, top + 7), 16)?;
            write(title, (from + 12, top + 25), 13)?;
        }
        area.present().map_err(plain)?;
    }
    Ok(inline(&svg, alt))
}

fn lines(step: &Step) -> usize {
    step.gone.iter().map(|(reason, count)| wrapped(&format!("{count} {reason}")).len()).sum()
}

/// Lines of at most [`LETTERS`] letters, broken between words; two of them, what is more is cut.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > LETTERS {
            lines.push(word.to_owned());
        } else {
            lines[last] = format!("{} {word}", lines[last]).trim_start().to_owned();
        }
    }
    if lines.len() > 2 {
        lines.truncate(2);
        lines[1].push_str(" …");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_a_box() {
        let steps = [
            Step { title: "slides given".into(), left: 50, gone: Vec::new() },
            Step { title: "tiled".into(), left: 47, gone: vec![("without tissue".into(), 2), ("unreadable".into(), 1)] },
        ];
        let svg = flow(&steps, &[("train".into(), 30), ("test".into(), 17)], "from 50 to 47").unwrap();
        for wanted in ["\n50\n", "\n47\n", "2 without tissue", "1 unreadable", "\n30\n", "\n17\n"] {
            assert!(svg.contains(wanted), "{wanted:?} is not in {svg}");
        }
    }

    #[test]
    fn long_reasons_have_two_lines() {
        let found = wrapped("3 no tissue: none of the squares has as much of it as was asked for, nor half as much, nor any of it at all");
        assert!(found.len() == 2 && found[1].ends_with('…') && found[0].len() <= LETTERS, "{found:?}");
    }
}
