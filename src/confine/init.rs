//! Process 1 of an `exec` layer.
