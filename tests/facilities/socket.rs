use crate::{Function, Test};
pub(crate) const TESTS: &[Test] = &[];
pub(crate) const LAYERS: &[Function] = &[];
