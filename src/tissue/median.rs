//! The median of each pixel's surroundings: takes dust and single nuclei off and, unlike a mean, leaves borders where they are.
//!
//! Huang, Yang, Tang, A fast two-dimensional median filtering algorithm, IEEE Trans. ASSP 1979.

/// The median over a square of `2 · radius + 1` pixels around each, cut off at the picture's border; of an even number the upper one.
///
/// `values`: row by row, `width` in each. Time: `4 · radius` steps a pixel.
pub(super) fn median(values: &[u8], width: usize, radius: usize) -> Vec<u8> {
    if radius == 0 || values.is_empty() {
        return values.to_vec();
    }
    let height = values.len() / width;
    let mut medians = Vec::with_capacity(values.len());
    for y in 0..height {
        let rows = y.saturating_sub(radius)..(y + radius + 1).min(height);
        let column = |x: usize| rows.clone().map(move |row| values[row * width + x]);
        let mut window = Window::default();
        (0..radius.min(width)).flat_map(column).for_each(|value| window.add(value));
        for x in 0..width {
            if x + radius < width {
                column(x + radius).for_each(|value| window.add(value));
            }
            if let Some(left) = x.checked_sub(radius + 1) {
                column(left).for_each(|value| window.remove(value));
            }
            medians.push(window.median());
        }
    }
    medians
}

/// Counts of the values in a window, and how many of them lie below the last median.
struct Window {
    counts: [u32; 256],
    all: u32,
    last: usize,
    below: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { counts: [0; 256], all: 0, last: 0, below: 0 }
    }
}

impl Window {
    fn add(&mut self, value: u8) {
        self.counts[usize::from(value)] += 1;
        self.all += 1;
        self.below += u32::from(usize::from(value) < self.last);
    }

    fn remove(&mut self, value: u8) {
        self.counts[usize::from(value)] -= 1;
        self.all -= 1;
        self.below -= u32::from(usize::from(value) < self.last);
    }

    /// The value with half of the window below it: the last one, moved up or down.
    fn median(&mut self) -> u8 {
        let half = self.all / 2;
        while self.below > half {
            self.last -= 1;
            self.below -= self.counts[self.last];
        }
        while self.below + self.counts[self.last] <= half {
            self.below += self.counts[self.last];
            self.last += 1;
        }
        self.last as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;
    use rand::Rng;

    #[test]
    fn the_middle_of_the_sorted_window() {
        let mut random = seed::stream(0, "median");
        for _ in 0..30 {
            let (width, height, radius) = (random.random_range(1..20), random.random_range(1..20), random.random_range(0..5_usize));
            let values: Vec<u8> = (0..width * height).map(|_| random.random()).collect();
            let medians = median(&values, width, radius);
            for y in 0..height {
                for x in 0..width {
                    let rows = y.saturating_sub(radius)..(y + radius + 1).min(height);
                    let columns = x.saturating_sub(radius)..(x + radius + 1).min(width);
                    let mut window: Vec<u8> = rows
                        .flat_map(|row| columns.clone().map(move |column| (row, column)))
                        .map(|(row, column)| values[row * width + column])
                        .collect();
                    window.sort_unstable();
                    assert_eq!(medians[y * width + x], window[window.len() / 2]);
                }
            }
        }
    }
}
