//! Ways: who may do what, and who reaches what through whom.
//!
//! Reading order: [`act`] and [`facts`](mod@facts) say what each layer may do by itself; [`flow`] says who
//! moves whom; [`reach`](mod@reach) joins the two to ways. By them the checker keeps `[[never]]`, and
//! `review` answers what people ask.
//!
//! Every fact names the rule that it comes from by its path in the policy, such as
//! `file.key.grant.keeper`; whoever shows it looks the line up.

pub mod act;
pub mod facts;
pub mod flow;
pub mod reach;

pub(crate) mod names;

pub use act::Act;
pub use facts::{Bound, Fact, Facts, facts};
pub use reach::{Step, Ways, reach};
