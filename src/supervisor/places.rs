//! The table of places.
//!
//! It notes of each whether it may have changed, so that after each turn of the loop only those are looked
//! at, however many there are. Whoever can change a place has it noted: there is no other way to one.

use std::collections::BTreeSet;
use std::ops::{Deref, Index, IndexMut};

use super::Place;

/// Every place, in the order in which they came. None is ever taken out.
#[derive(Default)]
pub(super) struct Places {
    all: Vec<Place>,
    /// Those of each layer.
    of_layer: Vec<Vec<usize>>,
    touched: BTreeSet<usize>,
}

impl Places {
    /// Adds one, and gives its number.
    pub(super) fn push(&mut self, place: Place) -> usize {
        let (layer, number) = (place.seat.layer, self.all.len());
        if self.of_layer.len() <= layer {
            self.of_layer.resize_with(layer + 1, Vec::new);
        }
        self.of_layer[layer].push(number);
        self.touched.insert(number);
        self.all.push(place);
        number
    }

    /// The places of a layer, former ones among them.
    pub(super) fn of(&self, layer: usize) -> &[usize] {
        self.of_layer.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Those places themselves.
    pub(super) fn each_of(&self, layer: usize) -> impl Iterator<Item = &Place> {
        self.of(layer).iter().map(|&place| &self.all[place])
    }

    /// Has one looked at.
    pub(super) fn touch(&mut self, place: usize) {
        self.touched.insert(place);
    }

    /// Has all of them looked at: something has changed that they have in common.
    pub(super) fn touch_all(&mut self) {
        self.touched.extend(0..self.all.len());
    }

    /// Those that may have changed since they were taken last.
    pub(super) fn touched(&self) -> &BTreeSet<usize> {
        &self.touched
    }

    /// Takes those.
    pub(super) fn take_touched(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.touched)
    }
}

impl FromIterator<Place> for Places {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut all = Self::default();
        for place in places {
            all.push(place);
        }
        all
    }
}

impl Deref for Places {
    type Target = [Place];

    fn deref(&self) -> &[Place] {
        &self.all
    }
}

impl Index<usize> for Places {
    type Output = Place;

    fn index(&self, place: usize) -> &Place {
        &self.all[place]
    }
}

impl IndexMut<usize> for Places {
    fn index_mut(&mut self, place: usize) -> &mut Place {
        self.touched.insert(place);
        &mut self.all[place]
    }
}
