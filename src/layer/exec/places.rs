//! Listening sockets that a program finds as descriptors: where, and what its environment says of
//! them (`sd_listen_fds(3)`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::Pid;

use super::handed::take;
use crate::ident::Name;
use crate::policy::plan::{ListenPlan, Pass};

/// The sockets by number.
#[derive(Debug)]
pub(super) struct Places {
    found: Vec<(RawFd, OwnedFd)>,
    /// Those from 3 on that the environment tells of, in order.
    told: Vec<Name>,
}

/// What the environment says of sockets.
const FDS: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
const PID: &str = "LISTEN_PID";

impl Places {
    /// Takes the sockets of `plans` that a program finds as descriptors, as a service manager passes
    /// them: they block.
    pub fn new(
        plans: &[ListenPlan],
        sockets: &mut BTreeMap<Name, OwnedFd>,
    ) -> Result<Self, String> {
        let mut places = Self { found: Vec::new(), told: Vec::new() };
        let mut next = Pass::FIRST_FD;
        for plan in plans {
            let number = match plan.pass {
                Pass::Fd(number) => number,
                Pass::ListenFds => {
                    places.told.push(plan.name.clone());
                    next += 1;
                    next - 1
                }
                Pass::Name | Pass::Bind | Pass::Inetd => continue,
            };
            let socket = take(sockets, &plan.name)?;
            rustix::io::ioctl_fionbio(&socket, false)
                .map_err(|error| format!("listen.{}: {error}", plan.name))?;
            places.found.push((number.into(), socket));
        }
        if !places.told.is_empty() && rustix::process::getpid() != Pid::INIT {
            let rule = "`LISTEN_PID` can only be told beforehand in a pid namespace";
            return Err(format!("{rule}: pass the sockets by `fd`, or demand `namespace.pid`"));
        }
        Ok(places)
    }

    /// The program's environment.
    pub fn environment(&self, stated: &BTreeMap<String, String>) -> Vec<String> {
        let mut variables = stated.clone();
        if !self.told.is_empty() {
            let names: Vec<_> = self.told.iter().map(Name::as_str).collect();
            let said = [
                (FDS, self.told.len().to_string()),
                (NAMES, names.join(":")),
                (PID, PROGRAM.to_string()),
            ];
            variables.extend(said.map(|(name, value)| (name.to_owned(), value)));
        }
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// As the spawn takes them.
    pub fn borrowed(&self) -> Vec<(RawFd, BorrowedFd<'_>)> {
        self.found.iter().map(|(number, socket)| (*number, socket.as_fd())).collect()
    }

    /// Makes sure that the program is who its environment says.
    pub fn told_right(&self, program: Pid) -> Result<(), String> {
        if self.told.is_empty() || program.as_raw_nonzero().get() == PROGRAM {
            return Ok(());
        }
        Err(format!("the program is process {program}, and its {PID} says {PROGRAM}"))
    }
}

/// The program of an init that has started nothing before it.
const PROGRAM: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::ListenAddress;

    fn plan(name: &str, pass: Pass) -> ListenPlan {
        let address = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        ListenPlan {
            name: Name::new(name).unwrap(),
            address,
            pass,
            rate: None,
            per_source: None,
            max: None,
        }
    }

    #[test]
    fn a_socket_that_did_not_come_is_told() {
        let plans = [plan("door", Pass::Fd(9))];
        let error = Places::new(&plans, &mut BTreeMap::new()).unwrap_err();
        assert_eq!(error, "listen.door: it didn't come");
        let none = Places::new(&[plan("door", Pass::Bind)], &mut BTreeMap::new()).unwrap();
        assert!(none.found.is_empty());
    }

    #[test]
    fn the_environment_tells_of_sockets_only_where_some_are_told() {
        let stated = BTreeMap::from([("LISTEN_FDS".to_owned(), "9".to_owned())]);
        let none = Places { found: Vec::new(), told: Vec::new() };
        assert_eq!(none.environment(&stated), ["LISTEN_FDS=9"]);
        let names = ["admin", "http"].map(|name| Name::new(name).unwrap());
        let told = Places { found: Vec::new(), told: names.to_vec() };
        let says = ["LISTEN_FDNAMES=admin:http", "LISTEN_FDS=2", "LISTEN_PID=2"];
        assert_eq!(told.environment(&stated), says);
    }
}
