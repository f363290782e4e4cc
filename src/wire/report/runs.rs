//! The messages of a batch, as a record of it lists them: runs of messages of one form and method.
//!
//! ```text
//! a run, 12 bytes: form u8, zero u8, method u16, first call u32, messages u32
//! ```
//! A run's calls are numbered one after the other; messages that belong to no call have number 0.
//! What doesn't fit into [`MOST`] runs is counted in a last one without a form.

use super::Form;

/// The most runs that are listed.
pub const MOST: usize = 64;
/// Bytes of a run.
pub const BYTES: usize = 12;

/// Messages of one form and method that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What they are; [`Form::None`] if they were too various to list.
    pub form: Form,
    /// The method's number.
    pub method: u16,
    /// The first one's call, or 0.
    pub call: u32,
    /// How many there are.
    pub messages: u32,
}

/// Appends a run at the end of `out`.
pub fn encode(run: &Run, out: &mut Vec<u8>) {
    out.extend_from_slice(&[run.form as u8, 0]);
    out.extend_from_slice(&run.method.to_le_bytes());
    out.extend_from_slice(&run.call.to_le_bytes());
    out.extend_from_slice(&run.messages.to_le_bytes());
}

/// Reads a list of runs. What is malformed in it is left out: a layer wrote it.
pub fn decode(list: &[u8]) -> impl Iterator<Item = Run> {
    let runs = list.chunks_exact(BYTES).filter_map(|run| {
        let word = |at| Some(u32::from_le_bytes(*run.get(at..)?.first_chunk()?));
        Some(Run {
            form: Form::from_byte(run[0])?,
            method: u16::from_le_bytes([run[2], run[3]]),
            call: word(4)?,
            messages: word(8)?,
        })
    });
    runs.take(MOST + 1)
}

/// Counts a message in: in the last run if it continues that, otherwise in a new one.
pub fn count(runs: &mut Vec<Run>, form: Form, method: u16, call: u32) {
    let listed = runs.len();
    if let Some(last) = runs.last_mut()
        && (listed > MOST || continues(last, form, method, call))
    {
        last.messages = last.messages.saturating_add(1);
    } else if listed == MOST {
        runs.push(Run { form: Form::None, method: 0, call: 0, messages: 1 });
    } else {
        runs.push(Run { form, method, call, messages: 1 });
    }
}

fn continues(last: &Run, form: Form, method: u16, call: u32) -> bool {
    let next = if last.call == 0 { 0 } else { last.call.wrapping_add(last.messages) };
    (last.form, last.method, next) == (form, method, call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_they_were_counted() {
        let mut runs = Vec::new();
        for call in 5..9 {
            count(&mut runs, Form::Request, 1, call);
        }
        for _ in 0..3 {
            count(&mut runs, Form::Message, 2, 0);
        }
        let mut detail = Vec::new();
        for run in &runs {
            encode(run, &mut detail);
        }
        let expected = [(Form::Request, 1, 5, 4), (Form::Message, 2, 0, 3)];
        let expected =
            expected.map(|(form, method, call, messages)| Run { form, method, call, messages });
        assert_eq!(decode(&detail).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_too_various_is_counted_still() {
        let mut runs = Vec::new();
        for method in 0..200 {
            count(&mut runs, Form::Message, method, 0);
        }
        assert_eq!(runs.len(), MOST + 1);
        assert_eq!(runs.iter().map(|run| run.messages).sum::<u32>(), 200);
        assert_eq!(runs[MOST].form, Form::None);
    }
}
