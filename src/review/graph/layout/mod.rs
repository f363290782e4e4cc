//! A layered layout: boxes in columns from left to right, links between them with room for labels.
//!
//! The method is Sugiyama's: links are turned so that none leads back ([`rank`]), every box gets a
//! column, links are cut into pieces that join neighbouring columns (their labels get columns of
//! their own, between the boxes), the order within columns is sought that crosses few links
//! ([`order`]), and boxes are moved up and down until links run straight ([`place`]).
//!
//! Pure arithmetic; the same graph always gets the same picture.

mod order;
mod place;
mod rank;

use place::Span;

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A place, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A link to be drawn from one box to another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Index of the box where it begins.
    pub(super) from: usize,
    /// Index of the box where it ends; another one.
    pub(super) to: usize,
    /// How much it matters that it leads to the right and runs straight, from 1.
    pub(super) weight: u32,
    /// Room for its label.
    pub(super) label: Size,
}

/// A link on its way: it enters and leaves each stop level, and swings between them.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Its level pieces, at least two: where each begins, and the x where it ends. The first
    /// begins at one box and the last ends at the other one.
    pub(super) stops: Vec<(Point, f64)>,
    /// The middle of its label.
    pub(super) label: Point,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// What the picture needs.
    pub(super) size: Size,
    /// The middle of each box.
    pub(super) places: Vec<Point>,
    /// The way of each link.
    pub(super) routes: Vec<Route>,
}

/// Something in a column: a box, a label, or a link that passes through.
#[derive(Clone, Copy, Debug)]
struct Cell {
    column: usize,
    size: Size,
    /// Whether it is one of the boxes.
    solid: bool,
}

/// A piece of a link between cells of neighbouring columns, left one first.
#[derive(Clone, Copy, Debug)]
struct Piece {
    left: usize,
    right: usize,
    weight: f64,
}

/// Lays out boxes and links. Links to boxes that don't exist, or of a box to itself, are not drawn.
pub(super) fn layout(boxes: &[Size], links: &[Link]) -> Layout {
    let usable = |link: &&Link| link.from != link.to && link.from.max(link.to) < boxes.len();
    let drawn: Vec<Link> = links.iter().filter(usable).copied().collect();
    let ranking = rank::rank(boxes.len(), &drawn);
    let mut cells: Vec<Cell> = boxes
        .iter()
        .zip(&ranking.ranks)
        .map(|(&size, rank)| Cell { column: 2 * rank, size, solid: true })
        .collect();
    let mut pieces = Vec::new();
    let mut chains = Vec::new();
    for (link, &turned) in drawn.iter().zip(&ranking.turned) {
        let (left, right) = if turned { (link.to, link.from) } else { (link.from, link.to) };
        let chain = chain(left, right, link, &mut cells);
        for pair in chain.windows(2) {
            pieces.push(Piece { left: pair[0], right: pair[1], weight: f64::from(link.weight) });
        }
        chains.push(chain);
    }
    let columns = order::order(&cells, &pieces);
    let ys = place::rows(&cells, &pieces, &columns);
    let spans = place::columns(&cells, &pieces, &columns, &ys);
    let width = spans.last().map_or(0.0, |span| span.right);
    let height =
        cells.iter().zip(&ys).map(|(cell, y)| y + cell.size.height / 2.0).fold(0.0, f64::max);
    let ports = place::ports(&cells, &pieces, &ys);
    let mut routes = Vec::new();
    let mut piece = 0;
    for (chain, &turned) in chains.iter().zip(&ranking.turned) {
        let first = piece;
        piece += chain.len() - 1;
        routes.push(route(
            chain,
            &cells,
            &spans,
            &ys,
            (ports[first].0, ports[piece - 1].1),
            turned,
        ));
    }
    let place = |(cell, &y): (&Cell, &f64)| Point { x: spans[cell.column].middle(), y };
    let places = cells.iter().zip(&ys).take(boxes.len()).map(place).collect();
    Layout { size: Size { width, height }, places, routes }
}

/// The cells that a link passes, ends included; new ones are added.
fn chain(left: usize, right: usize, link: &Link, cells: &mut Vec<Cell>) -> Vec<usize> {
    let (first, last) = (cells[left].column, cells[right].column);
    // Labels stand in odd columns, as near to the middle as there is one.
    let label = first + 1 + ((last - first - 2) / 4) * 2;
    let mut chain = vec![left];
    for column in first + 1..last {
        let size = if column == label { link.label } else { Size { width: 0.0, height: 6.0 } };
        cells.push(Cell { column, size, solid: false });
        chain.push(cells.len() - 1);
    }
    chain.push(right);
    chain
}

fn route(
    chain: &[usize],
    cells: &[Cell],
    spans: &[Span],
    ys: &[f64],
    ports: (f64, f64),
    turned: bool,
) -> Route {
    let (left, right) = (chain[0], chain[chain.len() - 1]);
    let half = |cell: usize| cells[cell].size.width / 2.0;
    let span = |cell: usize| spans[cells[cell].column];
    let start = Point { x: span(left).middle() + half(left), y: ports.0 };
    let end = Point { x: span(right).middle() - half(right), y: ports.1 };
    // Links are level as far as a column reaches, and swing only between columns: so they never
    // run beneath a box or a label that isn't theirs.
    let between = &chain[1..chain.len() - 1];
    let mut stops = vec![(start, span(left).right)];
    stops.extend(
        between.iter().map(|&cell| (Point { x: span(cell).left, y: ys[cell] }, span(cell).right)),
    );
    stops.push((Point { x: span(right).left, y: end.y }, end.x));
    let widest = between.iter().max_by(|&&a, &&b| half(a).total_cmp(&half(b)));
    let label = widest.map_or(start, |&cell| Point { x: span(cell).middle(), y: ys[cell] });
    if turned {
        stops.reverse();
        for (point, leaves) in &mut stops {
            std::mem::swap(&mut point.x, leaves);
        }
    }
    Route { stops, label }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are always the same.
    fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        }
    }

    #[test]
    fn boxes_and_labels_never_overlap() {
        for seed in 0..60 {
            let mut next = numbers(seed);
            let count = 2 + next(30);
            let mut size = |most: usize| Size {
                width: f64::from(u32::try_from(20 + next(most)).unwrap()),
                height: f64::from(u32::try_from(10 + next(most)).unwrap()),
            };
            let boxes: Vec<_> = (0..count).map(|_| size(150)).collect();
            let labels: Vec<_> = (0..count * 2).map(|_| size(100)).collect();
            let links: Vec<_> = labels
                .into_iter()
                .map(|label| Link { from: next(count), to: next(count), weight: 1, label })
                .collect();
            let layout = layout(&boxes, &links);
            let drawn = links.iter().filter(|link| link.from != link.to);
            let mut areas: Vec<_> = boxes.iter().copied().zip(layout.places).collect();
            areas.extend(drawn.zip(layout.routes).map(|(link, route)| (link.label, route.label)));
            for (at, (size, place)) in areas.iter().enumerate() {
                assert!(place.x - size.width / 2.0 > -0.01 && place.y - size.height / 2.0 > -0.01);
                assert!(place.x + size.width / 2.0 < layout.size.width + 0.01);
                assert!(place.y + size.height / 2.0 < layout.size.height + 0.01);
                for (other, there) in &areas[at + 1..] {
                    let beside =
                        (place.x - there.x).abs() >= f64::midpoint(size.width, other.width);
                    let above =
                        (place.y - there.y).abs() >= f64::midpoint(size.height, other.height);
                    assert!(
                        beside || above,
                        "{seed}: {size:?} at {place:?}, {other:?} at {there:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_laid_out_as_nothing() {
        let empty = layout(&[], &[Link { from: 0, to: 1, weight: 1, label: Size::default() }]);
        assert!(empty.places.is_empty() && empty.routes.is_empty());
    }
}
