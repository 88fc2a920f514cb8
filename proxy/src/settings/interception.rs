//! `--transparent` and `--intercept`, and the flags of `leno-proxy intercept`: which traffic of the network namespace goes
//! through the sidecar.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::parse::{Problems, given_port};

/// The user that a sidecar runs as when it intercepts, and whose own traffic is therefore left alone.
pub const SIDECAR_UID: u32 = 15008;
/// Most entries of one list of `--include-…` or `--exclude-…`; the whole table must fit into one message to the kernel.
pub const MOST_ENTRIES: usize = 64;
/// Longest name of a network interface (IFNAMSIZ without its zero).
const INTERFACE_BYTES: usize = 15;

/// Traffic comes to the sidecar by itself, redirected in the network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// True for `--intercept`: the sidecar makes the rules itself and then gives up root. False for `--transparent`: they
    /// are there.
    pub apply: bool,
    /// What the rules are, or are taken to be.
    pub redirection: Redirection,
}

/// What is redirected, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// Where the sidecar takes what the app sends.
    pub outbound_port: u16,
    /// Where the sidecar takes what others send to the app.
    pub inbound_port: u16,
    /// The mesh port, which peers reach directly.
    pub mesh_port: u16,
    /// The port of health checks, which is reached directly.
    pub health_port: u16,
    /// Where the sidecar answers DNS; none leaves DNS alone.
    pub dns_port: Option<u16>,
    /// The sidecar's user.
    pub uid: u32,
    /// The sidecar's group, for when it gives up root. Rules go by the user alone.
    pub gid: u32,
    /// Further users whose traffic is left alone.
    pub exclude_users: Vec<u32>,
    /// Destination ports of what the app sends.
    pub outbound_ports: Selection<PortRange>,
    /// Destination addresses of what the app sends.
    pub cidrs: Selection<Cidr>,
    /// Interfaces by which traffic leaves and comes.
    pub interfaces: Selection<Interface>,
    /// Ports of the app.
    pub inbound_ports: Selection<PortRange>,
}

impl Default for Redirection {
    fn default() -> Self {
        Self {
            outbound_port: 15001,
            inbound_port: 15006,
            mesh_port: 15008,
            health_port: 15020,
            dns_port: Some(15053),
            uid: SIDECAR_UID,
            gid: SIDECAR_UID,
            exclude_users: Vec::new(),
            outbound_ports: Selection::default(),
            cidrs: Selection::default(),
            interfaces: Selection::default(),
            inbound_ports: Selection::default(),
        }
    }
}

/// Everything, or only what is included; in both cases without what is excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<T> {
    /// Only these; all when empty.
    pub include: Vec<T>,
    /// Not these.
    pub exclude: Vec<T>,
}

impl<T> Default for Selection<T> {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new() }
    }
}

impl<T> Selection<T> {
    /// True when nothing is said.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// A port, or the ports from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one, which belongs to it.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no port or range of ports, such as 5432 or 8000-8999");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let range = Self { first: port(first).ok_or_else(wrong)?, last: port(last).ok_or_else(wrong)? };
        if range.first <= range.last { Ok(range) } else { Err(wrong()) }
    }
}

/// A network: an address whose bits after the prefix are zero, and the length of the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The network's first address.
    pub address: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// The network of this one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network, such as 10.0.0.0/8, 192.0.2.7 or fd00::/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let whole = Self::host(address.parse().map_err(|_| wrong())?);
        let prefix = prefix.unwrap_or(whole.prefix);
        if prefix > whole.prefix {
            return Err(wrong());
        }
        let shift = u32::from(whole.prefix - prefix);
        let network = match whole.address {
            IpAddr::V4(ip) => IpAddr::V4((u32::MAX.checked_shl(shift).unwrap_or(0) & ip.to_bits()).into()),
            IpAddr::V6(ip) => IpAddr::V6((u128::MAX.checked_shl(shift).unwrap_or(0) & ip.to_bits()).into()),
        };
        if network == whole.address {
            Ok(Self { address: network, prefix })
        } else {
            Err(format!("{text:?} has bits set after its prefix; the network is {network}/{prefix}"))
        }
    }
}

/// The name of a network interface, or what the names of several begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name, or its beginning.
    pub name: String,
    /// True when any name is meant that begins so (`veth*`).
    pub prefix: bool,
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, prefix) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'*' | b'"' | b'\\');
        if name.is_empty() || name.len() > INTERFACE_BYTES || !name.bytes().all(good) || matches!(name, "." | "..") {
            return Err(format!("{text:?} is no network interface, such as eth0 or veth*"));
        }
        Ok(Self { name: name.to_owned(), prefix })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.prefix { "*" } else { "" })
    }
}

/// What is redirected, as clap reads it. Lists are separated by commas, and a flag may be given again.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RedirectionFlags {
    /// Ports to which the app connects directly, such as 5432,8000-8999.
    #[arg(long, value_name = "PORTS", value_delimiter = ',', help_heading = "Interception")]
    pub exclude_outbound_ports: Vec<String>,
    /// Only connections to these ports go through the sidecar.
    #[arg(long, value_name = "PORTS", value_delimiter = ',', help_heading = "Interception")]
    pub include_outbound_ports: Vec<String>,
    /// Ports of the app that others reach without the sidecar, in plaintext.
    #[arg(long, value_name = "PORTS", value_delimiter = ',', help_heading = "Interception")]
    pub exclude_inbound_ports: Vec<String>,
    /// Only these ports of the app are behind the sidecar.
    #[arg(long, value_name = "PORTS", value_delimiter = ',', help_heading = "Interception")]
    pub include_inbound_ports: Vec<String>,
    /// Networks to which the app connects directly, such as 10.0.0.0/8,fd00::/8.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', help_heading = "Interception")]
    pub exclude_cidr: Vec<String>,
    /// Only connections to these networks go through the sidecar.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', help_heading = "Interception")]
    pub include_cidr: Vec<String>,
    /// Network interfaces whose traffic is left alone in both directions, such as docker0 or veth*.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Interception")]
    pub exclude_interface: Vec<String>,
    /// Only traffic of these network interfaces goes through the sidecar.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Interception")]
    pub include_interface: Vec<String>,
    /// User ids whose traffic is left alone.
    #[arg(long, value_name = "UIDS", value_delimiter = ',', help_heading = "Interception")]
    pub exclude_user: Vec<String>,
    /// User that the sidecar runs as; its own traffic is left alone.
    #[arg(long, value_name = "UID", default_value_t = SIDECAR_UID, help_heading = "Interception")]
    pub sidecar_uid: u32,
    /// Group that the sidecar runs as [default: the number of its user].
    #[arg(long, value_name = "GID", help_heading = "Interception")]
    pub sidecar_gid: Option<u32>,
    /// Leave DNS alone.
    #[arg(long, help_heading = "Interception")]
    pub no_dns: bool,
}

impl RedirectionFlags {
    /// True when a flag chooses traffic, which only whoever makes the rules can do.
    pub(super) fn choose(&self) -> bool {
        let lists = [
            &self.exclude_outbound_ports,
            &self.include_outbound_ports,
            &self.exclude_inbound_ports,
            &self.include_inbound_ports,
            &self.exclude_cidr,
            &self.include_cidr,
            &self.exclude_interface,
            &self.include_interface,
            &self.exclude_user,
        ];
        lists.iter().any(|list| !list.is_empty())
    }

    /// The checked form. Ports are the defaults.
    pub(super) fn read(&self, p: &mut Problems) -> Redirection {
        // With the sidecar as root everything that root does would bypass it, and it could loop with the app's own root.
        if self.sidecar_uid == 0 {
            p.add(
                "--sidecar-uid",
                "0 is root, whose traffic is the app's as often as not; give the sidecar a user of its own",
            );
        }
        let default = Redirection::default();
        Redirection {
            dns_port: default.dns_port.filter(|_| !self.no_dns),
            uid: self.sidecar_uid,
            gid: self.sidecar_gid.unwrap_or(self.sidecar_uid),
            exclude_users: p.take("--exclude-user", list(&self.exclude_user, user)),
            outbound_ports: Selection {
                include: p.take("--include-outbound-ports", list(&self.include_outbound_ports, str::parse)),
                exclude: p.take("--exclude-outbound-ports", list(&self.exclude_outbound_ports, str::parse)),
            },
            cidrs: Selection {
                include: p.take("--include-cidr", list(&self.include_cidr, str::parse)),
                exclude: p.take("--exclude-cidr", list(&self.exclude_cidr, str::parse)),
            },
            interfaces: Selection {
                include: p.take("--include-interface", list(&self.include_interface, str::parse)),
                exclude: p.take("--exclude-interface", list(&self.exclude_interface, str::parse)),
            },
            inbound_ports: Selection {
                include: p.take("--include-inbound-ports", list(&self.include_inbound_ports, str::parse)),
                exclude: p.take("--exclude-inbound-ports", list(&self.exclude_inbound_ports, str::parse)),
            },
            ..default
        }
    }
}

fn user(text: &str) -> Result<u32, String> {
    // The image of a sidecar has no /etc/passwd, so names would mean nothing there.
    text.parse().map_err(|_| format!("{text:?} is no user id; `id -u NAME` prints the number of a user"))
}

fn list<T>(given: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if given.len() > MOST_ENTRIES {
        return Err(format!("{} entries are too many, at most {MOST_ENTRIES} are taken", given.len()));
    }
    given.iter().map(|text| read(text.trim())).collect()
}

/// `leno-proxy intercept`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InterceptArgs {
    /// Take the rules and routes away again.
    #[arg(long, conflicts_with_all = ["dry_run", "check"])]
    pub remove: bool,
    /// Print the rules as `nft list table inet leno` would, and change nothing.
    #[arg(long, conflicts_with = "check")]
    pub dry_run: bool,
    /// Compare what is in force with what these flags ask for; exit 1 and name each difference when there is one.
    #[arg(long)]
    pub check: bool,
    /// Which traffic.
    #[command(flatten)]
    pub redirection: RedirectionFlags,
    /// Port of the sidecar for what the app sends.
    #[arg(long, value_name = "PORT", default_value_t = 15001, help_heading = "Ports of the sidecar")]
    pub outbound_port: u16,
    /// Port of the sidecar for what others send to the app.
    #[arg(long, value_name = "PORT", default_value_t = 15006, help_heading = "Ports of the sidecar")]
    pub inbound_port: u16,
    /// Mesh port, which peers reach directly.
    #[arg(long, value_name = "PORT", default_value_t = 15008, help_heading = "Ports of the sidecar")]
    pub mesh_port: u16,
    /// Port of health checks, which is reached directly.
    #[arg(long, value_name = "PORT", default_value_t = 15020, help_heading = "Ports of the sidecar")]
    pub health_port: u16,
    /// Port of the sidecar for DNS.
    #[arg(long, value_name = "PORT", default_value_t = 15053, help_heading = "Ports of the sidecar")]
    pub dns_port: u16,
}

impl InterceptArgs {
    /// The checked form.
    ///
    /// # Errors
    /// Everything that is wrong with the flags.
    pub fn redirection(&self) -> Result<Redirection, Problems> {
        let mut problems = Problems::new();
        let p = &mut problems;
        let mut redirection = self.redirection.read(p);
        redirection.outbound_port = self.outbound_port;
        redirection.inbound_port = self.inbound_port;
        redirection.mesh_port = self.mesh_port;
        redirection.health_port = self.health_port;
        redirection.dns_port = redirection.dns_port.map(|_| self.dns_port);
        redirection.check_ports(p);
        problems.or(redirection)
    }
}

impl Redirection {
    /// Each port is the sidecar's own, and known before anything listens on it.
    fn check_ports(&self, p: &mut Problems) {
        let ports = [
            ("the outbound port", self.outbound_port),
            ("the inbound port", self.inbound_port),
            ("the mesh port", self.mesh_port),
            ("the health port", self.health_port),
            ("the DNS port", self.dns_port.unwrap_or(1)),
        ];
        for (n, (what, port)) in ports.iter().enumerate() {
            if *port == 0 {
                p.add(what, "0 is no port that rules can lead to; give it a number");
            } else if let Some((other, _)) = ports[..n].iter().find(|(_, other)| other == port) {
                p.add(what, &format!("{port} is {other} already; give each a port of its own"));
            }
        }
    }
}

impl Interception {
    /// From the flags of a sidecar; its listeners' addresses give the ports.
    pub(super) fn read(args: &super::Args, p: &mut Problems) -> Option<Self> {
        let flags = &args.redirection;
        if !args.intercept && (flags.choose() || (flags.no_dns && !args.transparent)) {
            let rules =
                "the rules are made by whoever runs with --intercept, or by `leno-proxy intercept`; give it there";
            p.add("--include-… and --exclude-…", rules);
        }
        if !args.intercept && !args.transparent {
            return None;
        }
        let mut redirection = flags.read(p);
        redirection.outbound_port = given_port(&args.http_proxy_addr);
        redirection.inbound_port = given_port(&args.inbound_addr);
        redirection.mesh_port = given_port(&args.mesh_addr);
        redirection.health_port = given_port(&args.health_addr);
        redirection.dns_port = redirection.dns_port.map(|_| given_port(&args.dns_addr));
        if args.intercept {
            redirection.check_ports(p);
        }
        Some(Self { apply: args.intercept, redirection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_networks_and_interfaces_are_read_or_refused_with_an_example() {
        assert_eq!("80".parse(), Ok(PortRange { first: 80, last: 80 }));
        assert_eq!("80-90".parse(), Ok(PortRange { first: 80, last: 90 }));
        for bad in ["", "0", "90-80", "-", "1-", "65536", "http", "1-2-3"] {
            assert!(bad.parse::<PortRange>().unwrap_err().contains("such as"), "{bad}");
        }
        assert_eq!("10.0.0.0/8".parse(), Ok(Cidr { address: [10, 0, 0, 0].into(), prefix: 8 }));
        assert_eq!("0.0.0.0/0".parse(), Ok(Cidr { address: [0, 0, 0, 0].into(), prefix: 0 }));
        assert_eq!("::/0".parse::<Cidr>().unwrap().prefix, 0);
        assert_eq!("::1".parse::<Cidr>().unwrap().prefix, 128);
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!("10.1.2.3/8".parse::<Cidr>().unwrap_err().contains("10.0.0.0/8"));
        assert_eq!("veth*".parse::<Interface>().unwrap().to_string(), "veth*");
        for bad in ["", "*", "a/b", "a b", "0123456789abcdef", "e*h", ".."] {
            assert!(bad.parse::<Interface>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let ports = |n: usize| vec!["80".to_owned(); n];
        assert!(list(&ports(MOST_ENTRIES), str::parse::<PortRange>).is_ok());
        assert!(list(&ports(MOST_ENTRIES + 1), str::parse::<PortRange>).is_err());
    }

    #[test]
    fn all_problems_of_the_flags_are_told_at_once() {
        let args = InterceptArgs {
            redirection: RedirectionFlags {
                exclude_cidr: vec!["10.0.0.1/8".into()],
                exclude_user: vec!["root".into()],
                ..RedirectionFlags::default()
            },
            outbound_port: 1,
            inbound_port: 1,
            ..InterceptArgs::default()
        };
        let problems = args.redirection().unwrap_err().to_string();
        for flag in ["--exclude-cidr", "--exclude-user", "id -u", "--sidecar-uid", "the inbound port", "the mesh port"]
        {
            assert!(problems.contains(flag), "{flag}: {problems}");
        }
    }
}
