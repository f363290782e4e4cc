//! Where cells stand: heights within columns, columns beside each other, and where links meet
//! boxes.

use super::{Cell, Piece};

/// Sweeps that draw links straight.
const SWEEPS: usize = 40;
/// Room between two boxes of a column, and between anything else.
const GAP: (f64, f64) = (26.0, 12.0);
/// Room between two columns: at least, and at most where links climb steeply.
const AISLE: (f64, f64) = (30.0, 96.0);
/// The largest distance between two links that meet a box.
const PORT: f64 = 18.0;

/// The y of each cell's middle.
pub(super) fn rows(cells: &[Cell], pieces: &[Piece], columns: &[Vec<usize>]) -> Vec<f64> {
    let mut joined = vec![(Vec::new(), Vec::new()); cells.len()];
    for piece in pieces {
        // A link that passes through should do so straight; at boxes there is some play.
        let solid = [piece.left, piece.right].iter().filter(|&&end| cells[end].solid).count();
        let weight = piece.weight * [8.0, 3.0, 1.0][solid];
        joined[piece.left].1.push((piece.right, weight));
        joined[piece.right].0.push((piece.left, weight));
    }
    let mut ys = vec![0.0; cells.len()];
    for column in columns {
        let wanted = vec![(0.0, 1.0); column.len()];
        place_column(column, &wanted, cells, &mut ys);
    }
    for sweep in 0..SWEEPS {
        let side = |cell: usize, near: &[(usize, f64)], ys: &[f64]| {
            let weight: f64 = near.iter().map(|(_, weight)| weight).sum();
            let sum: f64 = near.iter().map(|(other, weight)| ys[*other] * weight).sum();
            if near.is_empty() { (ys[cell], 0.1) } else { (sum / weight, weight) }
        };
        let both = sweep * 2 >= SWEEPS;
        let rightwards = sweep % 2 == 0;
        for at in 0..columns.len() {
            let column = &columns[if rightwards { at } else { columns.len() - 1 - at }];
            let wanted: Vec<(f64, f64)> = column
                .iter()
                .map(|&cell| {
                    let (left, right) = &joined[cell];
                    if both {
                        let all: Vec<_> = left.iter().chain(right).copied().collect();
                        side(cell, &all, &ys)
                    } else {
                        side(cell, if rightwards { left } else { right }, &ys)
                    }
                })
                .collect();
            place_column(column, &wanted, cells, &mut ys);
        }
    }
    let top = cells.iter().zip(&ys).map(|(cell, y)| y - cell.size.height / 2.0);
    let top = top.fold(f64::INFINITY, f64::min);
    ys.iter().map(|y| y - top).collect()
}

/// Puts a column's cells as near to the wanted places as their order and sizes allow: the exact
/// least weighted squares, by pooling neighbours that push against each other.
fn place_column(column: &[usize], wanted: &[(f64, f64)], cells: &[Cell], ys: &mut [f64]) {
    let mut offsets = Vec::with_capacity(column.len());
    let mut offset = 0.0;
    for (at, &cell) in column.iter().enumerate() {
        if let Some(&above) = at.checked_sub(1).and_then(|above| column.get(above)) {
            let gap = if cells[above].solid && cells[cell].solid { GAP.0 } else { GAP.1 };
            offset += f64::midpoint(cells[above].size.height, cells[cell].size.height) + gap;
        }
        offsets.push(offset);
    }
    // Pools of cells that touch: mean place, weight, how many.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for ((place, weight), offset) in wanted.iter().zip(&offsets) {
        let mut pool = (place - offset, *weight, 1);
        while let Some(&(mean, weight, count)) = pools.last().filter(|last| last.0 >= pool.0) {
            pools.pop();
            let sum = weight + pool.1;
            pool = ((mean * weight + pool.0 * pool.1) / sum, sum, count + pool.2);
        }
        pools.push(pool);
    }
    let means = pools.iter().flat_map(|&(mean, _, count)| std::iter::repeat_n(mean, count));
    for ((&cell, offset), mean) in column.iter().zip(&offsets).zip(means) {
        ys[cell] = mean + offset;
    }
}

/// From where to where a column reaches, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Span {
    pub(super) fn middle(self) -> f64 {
        f64::midpoint(self.left, self.right)
    }
}

/// The columns from the left. Where links climb, they stand apart.
pub(super) fn columns(
    cells: &[Cell],
    pieces: &[Piece],
    columns: &[Vec<usize>],
    ys: &[f64],
) -> Vec<Span> {
    let mut climb = vec![0.0_f64; columns.len()];
    for piece in pieces {
        let steep = (ys[piece.left] - ys[piece.right]).abs();
        let at = cells[piece.right].column;
        climb[at] = climb[at].max(steep);
    }
    let mut spans = Vec::with_capacity(columns.len());
    let mut left = 0.0;
    for (at, column) in columns.iter().enumerate() {
        let width = column.iter().map(|&cell| cells[cell].size.width).fold(0.0, f64::max);
        if at > 0 {
            left += (AISLE.0 + climb[at] * 0.14).min(AISLE.1);
        }
        spans.push(Span { left, right: left + width });
        left += width;
    }
    spans
}

/// For each piece, the y where it leaves its left cell and where it meets its right one. Those of
/// a box are spread along its side in the order in which they come from.
pub(super) fn ports(cells: &[Cell], pieces: &[Piece], ys: &[f64]) -> Vec<(f64, f64)> {
    let mut ports: Vec<(f64, f64)> = pieces.iter().map(|p| (ys[p.left], ys[p.right])).collect();
    let (mut leaving, mut coming) = (vec![Vec::new(); cells.len()], vec![Vec::new(); cells.len()]);
    for (at, piece) in pieces.iter().enumerate() {
        leaving[piece.left].push(at);
        coming[piece.right].push(at);
    }
    for (cell, &Cell { size, solid, .. }) in cells.iter().enumerate() {
        if !solid {
            continue;
        }
        let spread = |links: &mut Vec<usize>, far: &dyn Fn(usize) -> f64| {
            links.sort_by(|&a, &b| far(a).total_cmp(&far(b)));
            let count = u32::try_from(links.len()).map_or(1.0, f64::from);
            let step = (size.height * 0.8 / count).min(PORT);
            let mut y = ys[cell] - step * (count - 1.0) / 2.0;
            let mut found = Vec::new();
            for &link in links.iter() {
                found.push((link, y));
                y += step;
            }
            found
        };
        for (link, y) in spread(&mut leaving[cell], &|link| ys[pieces[link].right]) {
            ports[link].0 = y;
        }
        for (link, y) in spread(&mut coming[cell], &|link| ys[pieces[link].left]) {
            ports[link].1 = y;
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    #[test]
    fn nothing_overlaps_and_free_cells_get_their_wish() {
        let size = Size { width: 10.0, height: 20.0 };
        let cells = [Cell { column: 0, size, solid: true }; 3];
        let mut ys = [0.0; 3];
        place_column(&[0, 1, 2], &[(0.0, 1.0), (0.0, 1.0), (500.0, 1.0)], &cells, &mut ys);
        assert!(ys.iter().zip([-23.0, 23.0, 500.0]).all(|(y, at)| (y - at).abs() < 1e-9), "{ys:?}");
    }
}
