//! Routes to the virtual addresses of mesh services (rtnetlink(7)). They lead to `lo`, so that a program can connect to
//! such an address where no other route leads there; the packet is redirected before it would go anywhere.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use rustix::io::Errno;

use super::netlink::{Attributes, Attrs, CREATE, EXCL, Message, Socket};
use super::nft::{Failed, Step};
use super::rules::{VIRTUAL_V4, VIRTUAL_V6};
use crate::settings::Cidr;

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The length of struct rtmsg.
const HEAD: usize = 12;
/// RT_TABLE_MAIN.
const MAIN: u8 = 254;
/// Who made the route (rtm_protocol): a number that nobody else uses, so that ours are told from others.
const OURS: u8 = 158;
/// RT_SCOPE_LINK and RTN_UNICAST.
const LINK: u8 = 253;
const UNICAST: u8 = 1;
/// RTA_DST, RTA_OIF and RTA_PREFSRC.
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const SOURCE: u16 = 7;
/// `lo` is number 1 in every network namespace.
const LOOPBACK: u32 = 1;

/// The networks that need a route here: IPv6 only where there is IPv6.
pub fn wanted() -> Vec<Cidr> {
    let ipv6 = fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|text| text.trim() == "0");
    if ipv6 { vec![VIRTUAL_V4, VIRTUAL_V6] } else { vec![VIRTUAL_V4] }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn message(kind: u16, flags: u16, to: Cidr) -> Message {
    let family = if to.address.is_ipv4() { AF_INET } else { AF_INET6 };
    let head = [family, to.prefix, 0, 0, MAIN, OURS, LINK, UNICAST, 0, 0, 0, 0];
    let attributes =
        Attributes::default().bytes(DESTINATION, &octets(to.address)).bytes(INTERFACE, &LOOPBACK.to_ne_bytes());
    // Without it a namespace that has no other address yet would send from 0.0.0.0.
    let source = Ipv4Addr::LOCALHOST.octets();
    Message::new(kind, flags, &head).with(&if family == AF_INET {
        attributes.bytes(SOURCE, &source)
    } else {
        attributes
    })
}

/// A connection to the routing tables of the network namespace of this thread.
pub struct Routes(Socket);

impl Routes {
    /// Opens the connection.
    ///
    /// # Errors
    /// The kernel has no such sockets.
    pub fn open() -> Result<Self, Failed> {
        // NETLINK_ROUTE is number 0, the default.
        Socket::open(None).map(Self).map_err(failed)
    }

    /// Makes the routes that are missing, and says which.
    ///
    /// # Errors
    /// The kernel refused one, or somebody else's stands in its place. Those made before are taken back.
    pub fn add(&mut self) -> Result<Vec<Cidr>, Failed> {
        let mut made = Vec::new();
        for to in self.missing()? {
            if let Err(why) = self.0.request(message(NEW_ROUTE, CREATE | EXCL, to)) {
                self.remove(&made)?;
                return Err(failed(why));
            }
            made.push(to);
        }
        Ok(made)
    }

    /// Takes our routes to `networks` away; that one is not there is well.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn remove(&mut self, networks: &[Cidr]) -> Result<(), Failed> {
        for to in networks {
            match self.0.request(message(DELETE_ROUTE, 0, *to)) {
                Ok(()) | Err(Errno::SRCH | Errno::NOENT | Errno::NODEV | Errno::AFNOSUPPORT) => {}
                Err(why) => return Err(failed(why)),
            }
        }
        Ok(())
    }

    /// Takes all our routes away.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn remove_all(&mut self) -> Result<(), Failed> {
        self.remove(&wanted())
    }

    /// The networks that have no route of ours.
    ///
    /// # Errors
    /// The routes cannot be read.
    pub fn missing(&mut self) -> Result<Vec<Cidr>, Failed> {
        let mut missing = wanted();
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut head = [0; HEAD];
            head[0] = family;
            match self.0.dump(Message::new(GET_ROUTE, 0, &head)) {
                Ok(bodies) => found.extend(bodies),
                Err(_) if family == AF_INET6 => {} // A kernel without IPv6.
                Err(why) => return Err(failed(why)),
            }
        }
        missing.retain(|to| !found.iter().any(|body| is_ours(body, *to)));
        Ok(missing)
    }
}

/// True when the body of a message describes our route to `to`.
fn is_ours(body: &[u8], to: Cidr) -> bool {
    let (Some(head), Some(rest)) = (body.get(..HEAD), body.get(HEAD..)) else { return false };
    let attributes = Attrs(rest);
    head[1] == to.prefix
        && (head[4], head[5], head[7]) == (MAIN, OURS, UNICAST)
        && attributes.get(DESTINATION) == Some(&octets(to.address)[..])
        && attributes.get(INTERFACE) == Some(&LOOPBACK.to_ne_bytes()[..])
}

fn failed(why: Errno) -> Failed {
    Failed { step: Step::Route, why }
}
