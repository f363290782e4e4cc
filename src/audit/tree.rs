//! The Merkle tree over record hashes: RFC 6962, section 2.1, with BLAKE2s and with domain
//! separation by personalisation (see [`hash`]).

use super::hash::{self, Hash};

/// The roots of the full subtrees that a growing tree is made of, the largest first: all that is
/// needed to append, and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// A frontier from its parts, if there are as many roots as a tree of `size` leaves has.
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The subtrees' roots, the largest subtree first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = hash::node(&left, &node);
            }
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return hash::empty() };
        roots.fold(*last, |right, left| hash::node(left, &right))
    }

    /// What this frontier knows of the subtree over leaves `from..to`: itself without what is
    /// left of `from` and right of `to`. An aligned subtree that holds this frontier's end begins
    /// where one of its roots does, so what remains is a frontier again.
    fn part(&self, from: u64, to: u64) -> Self {
        let mut part = Self::default();
        let mut start = 0;
        for (bit, root) in (0..64).rev().filter(|bit| self.size >> bit & 1 == 1).zip(&self.roots) {
            let end = start + (1_u64 << bit);
            if start >= from && end <= to {
                part.roots.push(*root);
                part.size += end - start;
            }
            start = end;
        }
        part
    }
}

/// The ranges of leaves whose subtree roots prove leaf `index` in a tree of `size` leaves, from
/// the leaf upwards (RFC 6962, 2.1.1). Empty also when `index` is not in the tree.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while index < to && to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges of leaves whose subtree roots prove that the tree of `old` leaves is the beginning
/// of the tree of `new` leaves (RFC 6962, 2.1.2).
pub fn consistency_ranges(old: u64, new: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    if old == 0 || old >= new {
        return ranges;
    }
    let (mut from, mut to) = (0, new);
    let mut whole = true;
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
            whole = false;
        }
    }
    if !whole {
        ranges.push((from, to));
    }
    ranges.reverse();
    ranges
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Collects the roots of the subtrees over some ranges while all leaves go by in order.
#[derive(Debug)]
pub struct Collector {
    wanted: Vec<(u64, u64, Frontier)>,
}

impl Collector {
    /// For `ranges` of leaves; those before the end of the frontier `before` are known by it alone.
    pub fn new(before: &Frontier, ranges: &[(u64, u64)]) -> Self {
        let wanted = ranges.iter().map(|&(from, to)| (from, to, before.part(from, to))).collect();
        Self { wanted }
    }

    /// The next leaf, number `index`, not before the frontier's end.
    pub fn leaf(&mut self, index: u64, leaf: Hash) {
        for (from, to, part) in &mut self.wanted {
            if (*from..*to).contains(&index) {
                part.push(leaf);
            }
        }
    }

    /// The roots, in the order in which the ranges were given. `None` if leaves are missing.
    pub fn finish(self) -> Option<Vec<Hash>> {
        self.wanted
            .into_iter()
            .map(|(from, to, part)| (part.size() == to - from).then(|| part.root()))
            .collect()
    }
}

/// Whether `proof` shows that `leaf` is number `index` of a tree of `size` leaves with that root
/// (RFC 9162, 2.1.3.2, which is RFC 6962's tree).
pub fn includes(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    let ranges = inclusion_ranges(index, size);
    if index >= size || ranges.len() != proof.len() {
        return false;
    }
    let top = ranges.iter().zip(proof).fold(*leaf, |below, (&(from, _), sibling)| {
        if from > index { hash::node(&below, sibling) } else { hash::node(sibling, &below) }
    });
    top == *root
}

/// Whether `proof` shows that the tree of `old` leaves is the beginning of the tree of `new` ones.
pub fn extends(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ranges = consistency_ranges(old.0, new.0);
    if old.0 > new.0 || ranges.len() != proof.len() {
        return false;
    }
    if old.0 == new.0 || old.0 == 0 {
        return old.0 == 0 && *old.1 == hash::empty() || old.1 == new.1;
    }
    let mut steps = ranges.iter().zip(proof).peekable();
    // If the old tree is itself a subtree of the new one, its root is not repeated in the proof.
    let whole = ranges[0].0 == old.0;
    let (mut before, mut after) = (*old.1, *old.1);
    if !whole && let Some((_, first)) = steps.next() {
        (before, after) = (*first, *first);
    }
    for (&(from, _), sibling) in steps {
        if from >= old.0 {
            after = hash::node(&after, sibling);
        } else {
            before = hash::node(sibling, &before);
            after = hash::node(sibling, &after);
        }
    }
    before == *old.1 && after == *new.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| hash::leaf(&i.to_le_bytes())).collect()
    }

    /// The definition of RFC 6962, word for word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash::empty(),
            [one] => *one,
            more => {
                let k = usize::try_from(split(more.len() as u64)).unwrap();
                hash::node(&definition(&more[..k]), &definition(&more[k..]))
            }
        }
    }

    fn frontier(leaves: &[Hash]) -> Frontier {
        let mut tree = Frontier::default();
        for leaf in leaves {
            tree.push(*leaf);
        }
        tree
    }

    fn prove(leaves: &[Hash], dropped: u64, ranges: &[(u64, u64)]) -> Vec<Hash> {
        let known = usize::try_from(dropped).unwrap();
        let mut collector = Collector::new(&frontier(&leaves[..known]), ranges);
        for (leaf, index) in leaves[known..].iter().zip(dropped..) {
            collector.leaf(index, *leaf);
        }
        collector.finish().unwrap()
    }

    #[test]
    fn roots_are_as_defined_and_proofs_hold_even_after_leaves_are_dropped() {
        let all = leaves(40);
        for size in 0..=40_u64 {
            let some = &all[..usize::try_from(size).unwrap()];
            let root = frontier(some).root();
            assert_eq!(root, definition(some));
            for index in 0..size {
                for dropped in [0, index / 2, index] {
                    let proof = prove(some, dropped, &inclusion_ranges(index, size));
                    let leaf = some[usize::try_from(index).unwrap()];
                    assert!(includes(index, size, &leaf, &proof, &root));
                    assert!(!includes(index, size, &hash::empty(), &proof, &root));
                    assert!(size == 1 || !includes((index + 1) % size, size, &leaf, &proof, &root));
                }
            }
            for old in 0..=size {
                let before = frontier(&all[..usize::try_from(old).unwrap()]).root();
                for dropped in [0, old / 2, old] {
                    // What a half-dropped proof needs may be gone; a whole one never.
                    let ranges = consistency_ranges(old, size);
                    let proof = prove(some, if dropped == old { old } else { 0 }, &ranges);
                    assert!(extends((old, &before), (size, &root), &proof), "{old} {size}");
                    assert!(!extends((old, &[1; 32]), (size, &root), &proof));
                }
            }
        }
    }
}
