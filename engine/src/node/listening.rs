//! Why a port cannot be listened at, and what to do about it, by the error of the kernel.

use crate::error::{Error, ErrorKind};
use std::{io, net::IpAddr};

/// A process, or the whole machine, has as many open files as it may.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
/// The machine has no addresses of this family.
const EAFNOSUPPORT: i32 = 97;
/// A user without privileges may not take a port below this one.
const FREE_PORTS: u16 = 1024;

/// A port of this node, and what its settings are called.
#[derive(Clone, Copy, Debug)]
pub struct ListeningPort<'a> {
    /// For whom it is: "clients".
    pub whom: &'a str,
    /// Host and port.
    pub address: &'a str,
    /// The setting of the port.
    pub port_setting: &'a str,
    /// The setting of the host.
    pub host_setting: &'a str,
}

/// The error for a port that could not be listened at.
pub fn cannot_listen(error: &io::Error, port: ListeningPort<'_>) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("cannot listen for {}: {error}", port.whom),
        port.address,
        "the node does not start; nothing was changed",
        advice(error, port),
    )
}

fn advice(error: &io::Error, port: ListeningPort<'_>) -> String {
    let ListeningPort { address, port_setting, host_setting, .. } = port;
    let (host, number) = address.rsplit_once(':').unwrap_or((address, ""));
    let is_name = host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::AddrInUse, _) => {
            format!(
                "stop the program that has the port (`ss -ltnp` names it), or choose another {port_setting}"
            )
        }
        (io::ErrorKind::AddrNotAvailable, _) => format!(
            "this machine does not have the address (`ip address` lists those that it has): set \
             {host_setting} to one that it has, or to 0.0.0.0 for all of them"
        ),
        (io::ErrorKind::PermissionDenied, _)
            if number.parse::<u16>().is_ok_and(|number| number < FREE_PORTS) =>
        {
            format!(
                "ports below {FREE_PORTS} need a privilege: choose {FREE_PORTS} or more as \
                 {port_setting}, or give the program the capability CAP_NET_BIND_SERVICE"
            )
        }
        (io::ErrorKind::PermissionDenied, _) => format!(
            "a rule of this machine (SELinux, AppArmor, seccomp) forbids the port: allow it, or choose \
             another {port_setting}"
        ),
        (_, Some(EAFNOSUPPORT)) => format!(
            "this machine has no addresses of this kind (IPv6 may be switched off): set {host_setting} \
             to an address of the other kind"
        ),
        (_, Some(EMFILE | ENFILE)) => "raise the limit on open files (ulimit -n)".into(),
        (_, None) if is_name => format!(
            "the host name has no address here: correct {host_setting}, or the name in /etc/hosts or in \
             the DNS"
        ),
        _ => format!("choose another {port_setting}, or another address as {host_setting}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(error: &io::Error, address: &str) -> String {
        let port = ListeningPort {
            whom: "peers",
            address,
            port_setting: "`peer_port`",
            host_setting: "`peer_host`",
        };
        cannot_listen(error, port).trouble.action
    }

    #[test]
    fn each_error_of_a_bind_has_its_advice() {
        let errno = io::Error::from_raw_os_error;
        for (error, address, advice) in [
            (errno(98), "127.0.0.1:7050", "stop the program that has the port"),
            (errno(99), "192.0.2.1:7050", "does not have the address"),
            (errno(13), "127.0.0.1:80", "ports below 1024 need a privilege"),
            (errno(13), "[::1]:1023", "ports below 1024 need a privilege"),
            (errno(13), "127.0.0.1:1024", "a rule of this machine"),
            (errno(1), "127.0.0.1:7050", "a rule of this machine"),
            (errno(97), "[::1]:7050", "IPv6 may be switched off"),
            (errno(24), "127.0.0.1:7050", "raise the limit on open files"),
            (errno(23), "127.0.0.1:7050", "raise the limit on open files"),
            (io::Error::other("failed to lookup"), "no.such:7050", "has no address here"),
            (io::ErrorKind::NotFound.into(), "no.such:7050", "has no address here"),
            (errno(22), "127.0.0.1:7050", "choose another `peer_port`, or another address"),
        ] {
            let said = action(&error, address);
            assert!(said.contains(advice), "{error} at {address}: {said}");
            let is_in_use = error.kind() == io::ErrorKind::AddrInUse;
            assert_eq!(said.contains("stop the program"), is_in_use, "{error}: {said}");
        }
    }
}
