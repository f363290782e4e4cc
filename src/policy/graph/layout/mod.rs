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
    /// Where it leaves the first box.
    pub(super) start: Point,
    /// What it passes in between: where it enters, and the x where it leaves.
    pub(super) stops: Vec<(Point, f64)>,
    /// Where it meets the last box.
    pub(super) end: Point,
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
    let (xs, width) = place::columns(&cells, &pieces, &columns, &ys);
    let height =
        cells.iter().zip(&ys).map(|(cell, y)| y + cell.size.height / 2.0).fold(0.0, f64::max);
    let ports = place::ports(&cells, &pieces, &ys);
    let mut routes = Vec::new();
    let mut piece = 0;
    for (chain, &turned) in chains.iter().zip(&ranking.turned) {
        let first = piece;
        piece += chain.len() - 1;
        routes.push(route(chain, &cells, &xs, &ys, (ports[first].0, ports[piece - 1].1), turned));
    }
    let places = xs.iter().zip(&ys).take(boxes.len()).map(|(&x, &y)| Point { x, y }).collect();
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
    xs: &[f64],
    ys: &[f64],
    ports: (f64, f64),
    turned: bool,
) -> Route {
    let (left, right) = (chain[0], chain[chain.len() - 1]);
    let half = |cell: usize| cells[cell].size.width / 2.0;
    let mut start = Point { x: xs[left] + half(left), y: ports.0 };
    let mut end = Point { x: xs[right] - half(right), y: ports.1 };
    let between = &chain[1..chain.len() - 1];
    let mut stops: Vec<(Point, f64)> = between
        .iter()
        .map(|&cell| (Point { x: xs[cell] - half(cell), y: ys[cell] }, xs[cell] + half(cell)))
        .collect();
    let widest = between.iter().max_by(|&&a, &&b| half(a).total_cmp(&half(b)));
    let label = widest.map_or(start, |&cell| Point { x: xs[cell], y: ys[cell] });
    if turned {
        std::mem::swap(&mut start, &mut end);
        stops.reverse();
        for (point, leaves) in &mut stops {
            std::mem::swap(&mut point.x, leaves);
        }
    }
    Route { start, stops, end, label }
}
