//! Who may ask for something: operators, their codes and their sessions. The interlock alone knows
//! them.

use std::collections::BTreeMap;
use std::hint::black_box;

use super::protocol::{Token, Welcome};

/// Wrong codes in a row after which a name is locked, and for how many milliseconds.
const TRIES: u32 = 5;
const LOCKED: u64 = 30_000;

/// Sessions at once. The one that was idle for the longest time makes room for the next.
const SESSIONS: usize = 16;

/// An idle session ends after so many milliseconds.
const IDLE: u64 = 600_000;

/// What is said to everybody who isn't let in, so that nobody learns which names there are.
const NO: &str = "there is no such name with such a code, or it is locked for half a minute";

struct Operator {
    code: String,
    may_set: bool,
    wrong: u32,
    locked_until: u64,
}

struct Session {
    name: String,
    /// That of its last request.
    number: u64,
    used: u64,
}

/// All operators, and those who are there.
pub(crate) struct Operators {
    all: BTreeMap<String, Operator>,
    sessions: Vec<(Token, Session)>,
}

impl Operators {
    /// Reads `NAME:ROLE:CODE`, a line each. A role is `operator` or `viewer`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.splitn(3, ':');
            let (Some(name), Some(role), Some(code)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(format!("operators, line {}: not NAME:ROLE:CODE", number + 1));
            };
            let may_set = match role {
                "operator" => true,
                "viewer" => false,
                _ => return Err(format!("operators, line {}: no such role", number + 1)),
            };
            let (code, wrong, locked_until) = (code.to_owned(), 0, 0);
            all.insert(name.to_owned(), Operator { code, may_set, wrong, locked_until });
        }
        Ok(Self { all, sessions: Vec::new() })
    }

    /// Lets somebody in, under the token `new`.
    pub(crate) fn log_in(
        &mut self,
        name: &str,
        code: &str,
        new: Token,
        last: [u16; 3],
        now: u64,
    ) -> Result<Welcome, &'static str> {
        let operator = self.all.get_mut(name).ok_or(NO)?;
        if now < operator.locked_until {
            return Err(NO);
        }
        if !is_same(operator.code.as_bytes(), code.as_bytes()) {
            operator.wrong += 1;
            if operator.wrong >= TRIES {
                operator.wrong = 0;
                operator.locked_until = now + LOCKED;
            }
            return Err(NO);
        }
        operator.wrong = 0;
        let may_set = operator.may_set;
        if self.sessions.len() == SESSIONS
            && let Some(idlest) = (0..SESSIONS).min_by_key(|&at| self.sessions[at].1.used)
        {
            self.sessions.swap_remove(idlest);
        }
        self.sessions.push((new, Session { name: name.to_owned(), number: 0, used: now }));
        Ok(Welcome { token: new, may_set, last })
    }

    /// Whose request number `number` this is. A number that was used already is nobody's: whoever
    /// recorded a request can't send it again.
    pub(crate) fn who(
        &mut self,
        token: &Token,
        number: u64,
        now: u64,
    ) -> Result<&str, &'static str> {
        self.sessions.retain(|(_, session)| now.saturating_sub(session.used) < IDLE);
        // Every token is looked at, and every byte of it.
        let mut found = None;
        for (at, (known, _)) in self.sessions.iter().enumerate() {
            if is_same(&known.0, &token.0) {
                found = Some(at);
            }
        }
        let session = found.map(|at| &mut self.sessions[at].1).ok_or("log in first")?;
        if number <= session.number {
            return Err("this request was made before");
        }
        session.number = number;
        session.used = now;
        Ok(&session.name)
    }

    /// Whether somebody may set anything.
    pub(crate) fn may_set(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|operator| operator.may_set)
    }
}

/// Compares all bytes, wherever they differ.
fn is_same(wanted: &[u8], said: &[u8]) -> bool {
    let differences = wanted.iter().zip(said).fold(0, |all, (a, b)| all | black_box(a ^ b));
    wanted.len() == said.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators() -> Operators {
        Operators::parse("# who\nann:operator:1:2\n\nvic:viewer:4711\n").unwrap()
    }

    fn log_in(all: &mut Operators, name: &str, code: &str, now: u64) -> Option<Token> {
        let new = Token([u8::try_from(all.sessions.len()).unwrap(); 16]);
        all.log_in(name, code, new, [0; 3], now).ok().map(|it| it.token)
    }

    #[test]
    fn a_code_opens_one_name() {
        let mut all = operators();
        let ann = log_in(&mut all, "ann", "1:2", 0).unwrap();
        assert_eq!(all.who(&ann, 1, 0), Ok("ann"));
        assert!(all.may_set("ann") && !all.may_set("vic") && !all.may_set("bob"));
        assert_eq!(log_in(&mut all, "ann", "4711", 0), None);
        assert_eq!(log_in(&mut all, "vic", "4711x", 0), None);
        assert_eq!(log_in(&mut all, "vic", "", 0), None);
        assert!(Operators::parse("ann:operator").is_err());
        assert!(Operators::parse("ann:god:1").is_err());
    }

    #[test]
    fn guessing_locks_a_name() {
        let mut all = operators();
        for _ in 0..TRIES {
            assert_eq!(log_in(&mut all, "ann", "no", 10), None);
        }
        assert_eq!(log_in(&mut all, "ann", "1:2", 10), None);
        assert!(log_in(&mut all, "vic", "4711", 10).is_some());
        assert!(log_in(&mut all, "ann", "1:2", 10 + LOCKED).is_some());
    }

    #[test]
    fn a_request_counts_once_and_a_session_ends() {
        let mut all = operators();
        let ann = log_in(&mut all, "ann", "1:2", 0).unwrap();
        assert!(all.who(&ann, 0, 0).is_err());
        assert!(all.who(&ann, 5, 0).is_ok());
        assert!(all.who(&ann, 5, 0).is_err());
        assert!(all.who(&ann, 4, 0).is_err());
        assert!(all.who(&Token([9; 16]), 6, 0).is_err());
        assert!(all.who(&ann, 6, IDLE - 1).is_ok());
        assert!(all.who(&ann, 7, 2 * IDLE).is_err());
    }

    #[test]
    fn sessions_are_few() {
        let mut all = operators();
        for at in 0..100 {
            let token = Token([at; 16]);
            all.log_in("ann", "1:2", token, [0; 3], u64::from(at)).unwrap();
        }
        assert_eq!(all.sessions.len(), SESSIONS);
        assert!(all.who(&Token([99; 16]), 1, 100).is_ok());
        assert!(all.who(&Token([0; 16]), 1, 100).is_err());
    }
}
