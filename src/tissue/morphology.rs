//! Binary pictures: closing of gaps, growth, removal of specks. Squares as structuring elements, radii in pixels.

/// A binary picture, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binary {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) cells: Vec<bool>,
}

impl Binary {
    /// True within `radius` of a true pixel.
    pub(super) fn dilate(&self, radius: usize) -> Self {
        self.spread(radius, true)
    }

    /// Fills gaps up to twice `radius` wide. Beyond the picture there is nothing: its border closes no gap.
    pub(super) fn close(&self, radius: usize) -> Self {
        let (width, height) = (self.width + 2 * radius, self.height + 2 * radius);
        let mut padded = Self { width, height, cells: vec![false; width * height] };
        for (y, row) in self.cells.chunks(self.width.max(1)).enumerate() {
            let start = (y + radius) * width + radius;
            padded.cells[start..start + self.width].copy_from_slice(row);
        }
        let closed = padded.spread(radius, true).spread(radius, false);
        let rows = closed.cells.chunks(width.max(1)).skip(radius).take(self.height);
        Self { cells: rows.flat_map(|row| &row[radius..radius + self.width]).copied().collect(), ..*self }
    }

    /// Drops 8-connected regions of fewer than `smallest` pixels.
    pub(super) fn without_specks(self, smallest: usize) -> Self {
        self.without_regions(true, |region| region.len() < smallest)
    }

    /// Fills 8-connected gaps of fewer than `smallest` pixels that do not reach the picture's border.
    pub(super) fn without_holes(self, smallest: usize) -> Self {
        let (width, height) = (self.width, self.height);
        let at_border =
            |cell: &usize| cell.is_multiple_of(width) || cell % width == width - 1 || cell / width == 0 || cell / width == height - 1;
        self.without_regions(false, |region| region.len() < smallest && !region.iter().any(at_border))
    }

    /// Turns the 8-connected regions of `value` that are not wanted into its opposite.
    fn without_regions(mut self, value: bool, unwanted: impl Fn(&[usize]) -> bool) -> Self {
        let mut visited = vec![false; self.cells.len()];
        let mut region = Vec::new();
        for start in 0..self.cells.len() {
            if visited[start] || self.cells[start] != value {
                continue;
            }
            region.clear();
            region.push(start);
            visited[start] = true;
            let mut next = 0;
            while next < region.len() {
                let (x, y) = (region[next] % self.width, region[next] / self.width);
                next += 1;
                for row in y.saturating_sub(1)..=(y + 1).min(self.height - 1) {
                    for column in x.saturating_sub(1)..=(x + 1).min(self.width - 1) {
                        let neighbour = row * self.width + column;
                        if self.cells[neighbour] == value && !visited[neighbour] {
                            visited[neighbour] = true;
                            region.push(neighbour);
                        }
                    }
                }
            }
            if unwanted(&region) {
                region.iter().for_each(|&cell| self.cells[cell] = !value);
            }
        }
        self
    }

    /// `value` wherever it occurs within `radius`, rows first, then columns.
    fn spread(&self, radius: usize, value: bool) -> Self {
        let mut rows = self.clone();
        for y in 0..self.height {
            spread_line(&self.cells, &mut rows.cells, y * self.width, 1, self.width, radius, value);
        }
        let mut both = rows.clone();
        for x in 0..self.width {
            spread_line(&rows.cells, &mut both.cells, x, self.width, self.height, radius, value);
        }
        both
    }
}

/// One line of `length` cells, `stride` apart: a running distance to the last `value`, once each way.
fn spread_line(source: &[bool], target: &mut [bool], start: usize, stride: usize, length: usize, radius: usize, value: bool) {
    let mut since = usize::MAX;
    for i in 0..length {
        let cell = start + i * stride;
        since = if source[cell] == value { 0 } else { since.saturating_add(1) };
        target[cell] = if since <= radius { value } else { source[cell] };
    }
    since = usize::MAX;
    for i in (0..length).rev() {
        let cell = start + i * stride;
        since = if source[cell] == value { 0 } else { since.saturating_add(1) };
        if since <= radius {
            target[cell] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Binary {
        Binary { width: text.len(), height: 1, cells: text.chars().map(|c| c == '#').collect() }
    }

    #[test]
    fn closing_fills_gaps() {
        assert_eq!(line("..#..#....#..").close(1), line("..####....#.."));
        assert_eq!(line(".#...#").close(1), line(".#...#"), "not at the border");
        assert_eq!(line("...#...").dilate(2), line(".#####."));
        assert_eq!(line("...").close(5), line("..."));
    }

    #[test]
    fn holes_are_filled_and_bays_are_not() {
        let picture = |rows: [&str; 5]| Binary { width: 5, height: 5, cells: rows.concat().chars().map(|c| c == '#').collect() };
        let ring = picture(["#####", "#...#", "#...#", "#####", "..###"]);
        assert_eq!(ring.clone().without_holes(6), ring, "6 pixels are enough for a hole");
        assert_eq!(ring.without_holes(7), picture(["#####", "#####", "#####", "#####", "..###"]));
    }

    #[test]
    fn specks_go() {
        assert_eq!(line("#.###.##").without_specks(3), line("..###..."));
    }
}
