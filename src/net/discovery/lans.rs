//! Lans: which interfaces of this machine a node would announce itself on, and whether mDNS would work there. For whoever wants to know
//! without running a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
};

use super::{
    Interfaces, Net,
    echo::{Family, echo},
    interfaces::Nic,
    preflight::{Obstacle, preflight},
    watch::LISTENERS_MAX,
};

/// IFF_UP (netdevice(7)).
const FLAG_UP: u32 = 1;

/// This machine's interfaces at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lans {
    /// Those that a node announces itself on.
    pub used: Vec<Lan>,
    /// The others by name, and why they are left out.
    pub left_out: BTreeMap<String, &'static str>,
}

/// An interface that leads to a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    nic: Nic,
    nets: BTreeSet<Net>,
}

impl Lans {
    /// Looks at the interfaces now.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn look(interfaces: &Interfaces) -> io::Result<Self> {
        let snapshot = interfaces.look()?;
        // Where there are more, a node uses the first.
        let used = snapshot.announce.into_iter().take(LISTENERS_MAX).map(|(nic, nets)| Lan { nic, nets });
        let used: Vec<Lan> = used.collect();
        let mut left_out = without_addresses();
        left_out.retain(|name, _| used.iter().all(|lan| lan.nic.name != *name));
        left_out.extend(snapshot.left_out);
        Ok(Self { used, left_out })
    }
}

impl Lan {
    /// As the operating system calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.nic.name
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.nets.iter().map(|net| net.ip).collect()
    }

    /// Joins the groups of mDNS there for an instant, as a node would. Nothing is announced or asked; but a membership report (IGMP,
    /// MLD) is what a kernel sends for itself when somebody joins, so on an interface other than loopback one may leave the machine.
    ///
    /// # Errors
    /// What keeps a node from joining.
    pub fn join_and_leave(&self) -> Result<(), Obstacle> {
        preflight(&self.nic, &self.nets)
    }

    /// In which versions of the Internet protocol it has an address.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        [Family::V4, Family::V6].into_iter().filter(|family| self.net(*family).is_some()).collect()
    }

    /// Whether this machine hears there what it says there. Sends one question of mDNS to the LAN, which nobody has an answer to, and blocks until it comes
    /// back, for 2 s at most.
    ///
    /// # Errors
    /// It does not come back, or what keeps it from being asked.
    pub fn echo(&self, family: Family) -> Result<(), Obstacle> {
        self.net(family).map_or(Ok(()), |net| echo(&self.nic, *net))
    }

    fn net(&self, family: Family) -> Option<&Net> {
        self.nets.iter().find(|net| match family {
            Family::V4 => net.ip.is_ipv4(),
            Family::V6 => net.ip.is_ipv6(),
        })
    }
}

/// All interfaces, as those are that have no address: the system lists interfaces by their addresses, so whatever has none is left to
/// Linux's own list. Empty where there is no such list.
fn without_addresses() -> BTreeMap<String, &'static str> {
    let Ok(listed) = fs::read_dir("/sys/class/net") else { return BTreeMap::new() };
    let each = listed.flatten().filter_map(|entry| {
        let flags = fs::read_to_string(entry.path().join("flags")).ok()?;
        let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
        let why = if flags & FLAG_UP == 0 { "down" } else { "without an address" };
        Some((entry.file_name().into_string().ok()?, why))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_used_where_it_is_named_and_its_groups_can_be_joined() {
        let lans = Lans::look(&Interfaces::Named(vec!["lo".to_owned()])).unwrap();
        let [lan] = &lans.used[..] else { panic!("{lans:?}") };
        assert!(lan.name() == "lo" && lan.addresses().iter().all(IpAddr::is_loopback), "{lan:?}");
        assert_eq!(lan.join_and_leave(), Ok(()));
        assert_eq!(lan.families().first(), Some(&Family::V4));
        assert_eq!(lan.echo(Family::V4), Ok(()));
    }
}
