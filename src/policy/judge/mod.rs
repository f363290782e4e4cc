//! Questions about a plan: who may do what, who reaches what through whom, what changed.
//!
//! Reading order: [`act`] and [`facts`](mod@facts) say what each layer may do by itself; [`flow`] says who
//! moves whom; [`reach`](mod@reach) joins the two to ways.
//!
//! What this does not do: read a policy's text, or print. Every answer names the rule it comes from
//! by its path in the policy, such as `file.key.grant.keeper`; whoever shows it looks the line up.

pub mod act;
pub mod calls;
pub mod can;
pub mod diff;
pub mod explain;
pub mod facts;
pub mod flow;
pub mod reach;
pub mod score;
pub mod settings;

mod names;
mod recorded;

pub use act::Act;
pub use can::{Answer, can};
pub use diff::{Diff, diff};
pub use explain::{Account, explain};
pub use facts::{Bound, Fact, Facts, facts};
pub use reach::{Step, Ways, reach};
pub use score::{Exposure, exposure};
