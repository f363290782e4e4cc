//! What a policy is checked with, besides its own text.

/// What a policy is checked with, besides its own text.
#[derive(Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// Reads a file that a policy includes. Its argument is a path, relative to what
    /// `source_name` is relative to. `None`: including anything is a mistake.
    pub load: Option<&'a Load<'a>>,
    /// Values for variables that the policy declares in `[vars]`, instead of its own.
    pub vars: &'a [(String, String)],
    /// The name and the bytes of a ceiling: what any layer may have at most.
    pub ceiling: Option<(&'a str, &'a [u8])>,
}

/// Reads a file, or says why not.
pub type Load<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;
