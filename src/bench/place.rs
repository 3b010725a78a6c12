//! Where a port of a bench is: its name, and the network namespace that it is in.
//!
//! `eth0` is one of this process's namespace, `blue:eth0` of the one that `ip netns` knows as blue, `1234:eth0` of that of
//! process 1234. A colon cannot be in an interface's name, so nothing is ambiguous.

use crate::port::link::Link;
use crate::port::netns::Netns;
use std::fmt;

/// A port and its namespace.
#[derive(Debug)]
pub struct Place {
    /// The namespace; `None` is that of the calling thread.
    pub netns: Option<Netns>,
    /// The interface.
    pub name: String,
    /// As it was written, for messages.
    shown: String,
}

impl Place {
    /// An interface of a namespace that is held already.
    pub fn new(netns: Netns, name: &str) -> Self {
        Self {
            netns: Some(netns),
            name: name.to_owned(),
            shown: name.to_owned(),
        }
    }

    /// Reads `PORT`, `NAME:PORT` or `PID:PORT`.
    ///
    /// # Errors
    /// There is no such namespace.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (netns, name) = match text.split_once(':') {
            None => (None, text),
            Some((of, name)) => {
                let netns = Netns::named(of).map_err(|error| {
                    format!("{text}: there is no network namespace {of} ({error}): `ip netns` lists those with a name, and a \
                             number is a process")
                })?;
                (Some(netns), name)
            }
        };
        Ok(Self {
            netns,
            name: name.to_owned(),
            shown: text.to_owned(),
        })
    }

    /// Another holder of the same.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> Result<Self, String> {
        let netns = self.netns.as_ref().map(Netns::share).transpose();
        Ok(Self {
            netns: netns.map_err(|error| format!("{self}: {error}: raise the limit of open files (ulimit -n)"))?,
            name: self.name.clone(),
            shown: self.shown.clone(),
        })
    }

    /// Moves the calling thread to where the port is.
    ///
    /// # Errors
    /// It may not go there.
    pub fn join(&self) -> Result<(), String> {
        let joined = self.netns.as_ref().map_or(Ok(()), Netns::join);
        joined.map_err(|error| {
            format!("{self}: entering its network namespace: {error}; run as root, or with CAP_SYS_ADMIN")
        })
    }

    /// Whether both are one port.
    ///
    /// # Errors
    /// There is no such port.
    pub fn is(&self, other: &Place) -> Result<bool, String> {
        let id = |place: &Place| {
            let netns = place.netns.as_ref().map_or_else(Netns::current, Netns::share);
            let id = netns.and_then(|netns| netns.id());
            Ok::<_, String>((id.map_err(|error| format!("{place}: {error}"))?, place.link()?.ifindex))
        };
        Ok(id(self)? == id(other)?)
    }

    /// What is known about the port, from any thread.
    ///
    /// # Errors
    /// There is no such port.
    pub fn link(&self) -> Result<Link, String> {
        let query = || Link::query(&self.name).map_err(|error| format!("{self}: {error}"));
        match &self.netns {
            None => query(),
            Some(netns) => netns.run(query).map_err(|error| format!("{self}: {error}"))?,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Refuses a link over which nothing goes.
///
/// # Errors
/// It is down, or has no carrier; and the remedy.
pub fn check_up(link: &Link, shown: &str) -> Result<(), String> {
    let name = &link.name;
    if !link.up {
        return Err(format!("{shown} is down: `ip link set {name} up`"));
    }
    if !link.running {
        return Err(format!(
            "{shown} has no carrier: plug in its cable, or set its peer up; `ip link show {name}`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_of_a_namespace() {
        let here = Place::parse("lo").unwrap();
        assert!(here.netns.is_none() && here.to_string() == "lo");
        assert!(here.link().unwrap().ifindex > 0);
        let own = Place::parse(&format!("{}:lo", std::process::id())).unwrap();
        assert_eq!(own.is(&here), Ok(true), "one port by two names");
        assert!(own.netns.is_some() && own.name == "lo" && own.share().is_ok());
        let missing = Place::parse("no-such-namespace:eth0").unwrap_err();
        assert!(
            missing.contains("there is no network namespace no-such-namespace"),
            "{missing}"
        );
        let port = Place::parse("nosuchif0").unwrap().link().unwrap_err();
        assert!(port.contains("there is no interface nosuchif0"), "{port}");
    }
}
