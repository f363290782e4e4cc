//! Which column each box stands in, and which links are drawn backwards.

use super::Link;

/// The columns, and the links that lead to the left.
pub(super) struct Ranking {
    /// The column of each box, from 0.
    pub(super) ranks: Vec<usize>,
    /// For each link, whether it leads from right to left.
    pub(super) turned: Vec<bool>,
}

/// How often boxes are pulled towards those that they are joined to. Each round shortens links;
/// real graphs are still after two or three.
const ROUNDS: usize = 12;

pub(super) fn rank(boxes: usize, links: &[Link]) -> Ranking {
    let line = line_up(boxes, links);
    let turned: Vec<bool> = links.iter().map(|link| line[link.from] > line[link.to]).collect();
    let arcs: Vec<(usize, usize, u32)> = links
        .iter()
        .zip(&turned)
        .map(|(link, &turned)| {
            if turned {
                (link.to, link.from, link.weight)
            } else {
                (link.from, link.to, link.weight)
            }
        })
        .collect();
    let mut sequence: Vec<usize> = (0..boxes).collect();
    sequence.sort_by_key(|&at| line[at]);
    let (mut into, mut out) = (vec![Vec::new(); boxes], vec![Vec::new(); boxes]);
    for &(left, right, weight) in &arcs {
        out[left].push((right, weight));
        into[right].push((left, weight));
    }
    let mut ranks = vec![0; boxes];
    for &at in &sequence {
        ranks[at] = into[at].iter().map(|&(left, _)| ranks[left] + 1).max().unwrap_or(0);
    }
    for _ in 0..ROUNDS {
        let before = ranks.clone();
        for &at in sequence.iter().rev() {
            shorten(at, &into[at], &out[at], &mut ranks);
        }
        if ranks == before {
            break;
        }
    }
    let least = ranks.iter().copied().min().unwrap_or(0);
    for rank in &mut ranks {
        *rank -= least;
    }
    Ranking { ranks, turned }
}

/// Moves one box as far to the side that pulls harder as its links leave room.
fn shorten(at: usize, into: &[(usize, u32)], out: &[(usize, u32)], ranks: &mut [usize]) {
    let weigh = |links: &[(usize, u32)]| links.iter().map(|&(_, weight)| weight).sum::<u32>();
    let Some(most) = out.iter().map(|&(right, _)| ranks[right].saturating_sub(1)).min() else {
        return;
    };
    if weigh(out) > weigh(into) {
        ranks[at] = ranks[at].max(most);
    }
}

/// Puts the boxes in a line so that little leads back: sources first, sinks last, and of the rest
/// the one that gives most more than it takes (Eades, Lin and Smyth, 1993). Returns places.
fn line_up(boxes: usize, links: &[Link]) -> Vec<usize> {
    let (mut gives, mut takes) = (vec![0_i64; boxes], vec![0_i64; boxes]);
    let mut joined = vec![Vec::new(); boxes];
    for link in links {
        gives[link.from] += i64::from(link.weight);
        takes[link.to] += i64::from(link.weight);
        joined[link.from].push((link.to, i64::from(link.weight), true));
        joined[link.to].push((link.from, i64::from(link.weight), false));
    }
    let mut left: Vec<usize> = (0..boxes).collect();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    while !left.is_empty() {
        let found = left.iter().position(|&at| takes[at] == 0 && gives[at] > 0);
        let sink = left.iter().position(|&at| gives[at] == 0);
        let best =
            || (0..left.len()).max_by_key(|&n| (gives[left[n]] - takes[left[n]], left.len() - n));
        let (place, last) = match (found, sink) {
            (Some(source), _) => (source, false),
            (None, Some(sink)) => (sink, true),
            (None, None) => (best().unwrap_or(0), false),
        };
        let at = left.remove(place);
        for &(other, weight, gave) in &joined[at] {
            if gave {
                takes[other] -= weight;
            } else {
                gives[other] -= weight;
            }
        }
        if last { tail.push(at) } else { head.push(at) }
    }
    let mut line = vec![0; boxes];
    for (place, &at) in head.iter().chain(tail.iter().rev()).enumerate() {
        line[at] = place;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    fn link(from: usize, to: usize, weight: u32) -> Link {
        Link { from, to, weight, label: Size::default() }
    }

    #[test]
    fn links_lead_to_the_right() {
        let links = [link(0, 1, 1), link(1, 2, 1), link(0, 2, 1), link(3, 2, 1)];
        let ranking = rank(4, &links);
        assert_eq!((ranking.ranks, ranking.turned), (vec![0, 1, 2, 1], vec![false; 4]));
    }

    #[test]
    fn the_lightest_link_of_a_circle_is_turned() {
        let links = [link(0, 1, 4), link(1, 2, 4), link(2, 0, 1)];
        let ranking = rank(3, &links);
        assert_eq!((ranking.ranks, ranking.turned), (vec![0, 1, 2], vec![false, false, true]));
    }
}
