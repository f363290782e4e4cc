//! The order of cells within columns, such that few links cross.

use super::{Cell, Piece};

/// Sweeps over the columns. The best order of all sweeps is kept, so more are never worse.
const SWEEPS: usize = 24;
/// A graph with more pieces than this is swept less: it is no picture for people any more.
const LARGE: usize = 20_000;

/// The cells of each column, from the top.
pub(super) fn order(cells: &[Cell], pieces: &[Piece]) -> Vec<Vec<usize>> {
    let count = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(0);
    let (mut into, mut out) = (vec![Vec::new(); cells.len()], vec![Vec::new(); cells.len()]);
    for piece in pieces {
        out[piece.left].push(piece.right);
        into[piece.right].push(piece.left);
    }
    let mut columns = first_order(cells, &into, &out, count);
    let mut best = columns.clone();
    let mut least = crossings(&columns, &out, cells.len());
    let sweeps = if pieces.len() > LARGE { 2 } else { SWEEPS };
    for sweep in 0..sweeps {
        if least == 0 {
            break;
        }
        let place = &mut places(&columns, cells.len());
        if sweep % 2 == 0 {
            (1..count).for_each(|at| sort(&mut columns[at], &into, place));
        } else {
            (0..count.saturating_sub(1)).rev().for_each(|at| sort(&mut columns[at], &out, place));
        }
        let now = crossings(&columns, &out, cells.len());
        if now < least {
            (best, least) = (columns.clone(), now);
        }
    }
    best
}

/// Walks along the links, so that what hangs together starts side by side.
fn first_order(
    cells: &[Cell],
    into: &[Vec<usize>],
    out: &[Vec<usize>],
    count: usize,
) -> Vec<Vec<usize>> {
    let mut columns = vec![Vec::new(); count];
    let mut seen = vec![false; cells.len()];
    let mut starts: Vec<usize> = (0..cells.len()).collect();
    starts.sort_by_key(|&at| (cells[at].column, at));
    for start in starts {
        let mut waiting = vec![start];
        while let Some(at) = waiting.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                columns[cells[at].column].push(at);
                waiting.extend(into[at].iter().rev().filter(|&&next| !seen[next]));
                waiting.extend(out[at].iter().rev().filter(|&&next| !seen[next]));
            }
        }
    }
    columns
}

fn places(columns: &[Vec<usize>], cells: usize) -> Vec<f64> {
    let mut places = vec![0.0; cells];
    for column in columns {
        number(column, &mut places);
    }
    places
}

fn number(column: &[usize], places: &mut [f64]) {
    let mut place = 0.0;
    for &cell in column {
        places[cell] = place;
        place += 1.0;
    }
}

/// Sorts a column by the mean place of each cell's neighbours; who has none stays.
fn sort(column: &mut [usize], joined: &[Vec<usize>], places: &mut [f64]) {
    let mean = |cell: usize| {
        let near = &joined[cell];
        let count = u32::try_from(near.len()).map_or(f64::MAX, f64::from);
        let sum: f64 = near.iter().map(|&other| places[other]).sum();
        if near.is_empty() { places[cell] } else { sum / count }
    };
    let mut keyed: Vec<(f64, usize)> = column.iter().map(|&cell| (mean(cell), cell)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (slot, (_, cell)) in column.iter_mut().zip(keyed) {
        *slot = cell;
    }
    number(column, places);
}

/// How many links cross, counted with a tree of sums (Barth, Mutzel and Jünger, 2004).
fn crossings(columns: &[Vec<usize>], out: &[Vec<usize>], cells: usize) -> u64 {
    let mut place = vec![0_usize; cells];
    for column in columns {
        for (at, &cell) in column.iter().enumerate() {
            place[cell] = at;
        }
    }
    let mut total = 0;
    for pair in columns.windows(2) {
        let mut sums = vec![0_u64; pair[1].len() + 1];
        let mut before = 0;
        for &cell in &pair[0] {
            let mut ends: Vec<usize> = out[cell].iter().map(|&end| place[end]).collect();
            ends.sort_unstable();
            for &end in &ends {
                // Links that came before and end further down cross this one.
                let mut at = end + 1;
                let mut above = 0;
                while at > 0 {
                    above += sums[at];
                    at &= at - 1;
                }
                total += before - above;
            }
            for &end in &ends {
                let mut at = end + 1;
                while at < sums.len() {
                    sums[at] += 1;
                    at += at & at.wrapping_neg();
                }
                before += 1;
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    fn graph(columns: &[usize], links: &[(usize, usize)]) -> (Vec<Cell>, Vec<Piece>) {
        let cell = |&column| Cell { column, size: Size::default(), solid: true };
        let piece = |&(left, right)| Piece { left, right, weight: 1.0 };
        (columns.iter().map(cell).collect(), links.iter().map(piece).collect())
    }

    #[test]
    fn crossings_are_counted() {
        let out = [vec![3], vec![2], vec![], vec![]];
        assert_eq!(crossings(&[vec![0, 1], vec![2, 3]], &out, 4), 1);
        assert_eq!(crossings(&[vec![1, 0], vec![2, 3]], &out, 4), 0);
        let full = [vec![3, 4, 5], vec![3, 4, 5], vec![3, 4, 5], vec![], vec![], vec![]];
        assert_eq!(crossings(&[vec![0, 1, 2], vec![3, 4, 5]], &full, 6), 9);
    }

    #[test]
    fn what_needs_no_crossing_has_none() {
        let (cells, pieces) =
            graph(&[0, 0, 0, 1, 1, 1, 2, 2], &[(0, 5), (1, 4), (2, 3), (3, 7), (5, 6), (4, 6)]);
        let columns = order(&cells, &pieces);
        let mut out = vec![Vec::new(); cells.len()];
        for piece in &pieces {
            out[piece.left].push(piece.right);
        }
        assert_eq!(crossings(&columns, &out, cells.len()), 0, "{columns:?}");
    }
}
