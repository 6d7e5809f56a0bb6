//! The lab itself: what it promises to those who test with it.

use super::lab::{Lab, installed, skip};

fn received(lab: &Lab, from: &str, to: &str, count: u32) -> u32 {
    let count = count.to_string();
    let output = lab.run(from, "ping", &["-q", "-c", &count, "-i", "0.01", "-W", "3", to]);
    let text = String::from_utf8(output.stdout).unwrap();
    let word = text.split(", ").nth(1).unwrap_or_else(|| panic!("{text}"));
    word.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_lab_cuts_splits_drops_and_delays_and_reaches_nothing_outside() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout", "--second-interface", "--docker-bridge"])
    else {
        return;
    };
    if !installed("ping") {
        return skip("ping is missing; install iputils-ping");
    }
    let (thor, sprout) = ("10.77.0.2", "10.77.0.3");
    assert_eq!(received(&lab, "legion", thor, 3), 3);
    assert_eq!(received(&lab, "legion", "10.78.0.2", 3), 3, "over the second interface");
    lab.lan(&["cut", "thor"]);
    assert_eq!((received(&lab, "legion", thor, 2), received(&lab, "legion", sprout, 2)), (0, 2));
    lab.lan(&["heal"]);
    lab.lan(&["split", "legion", "thor,sprout"]);
    assert_eq!((received(&lab, "legion", sprout, 2), received(&lab, "thor", sprout, 2)), (0, 2));
    lab.lan(&["heal"]);
    lab.lan(&["drop", "30"]);
    let kept = received(&lab, "legion", thor, 300);
    assert!((90..210).contains(&kept), "30 % each way leave about 147 of 300, not {kept}");
    lab.lan(&["drop", "0"]);
    lab.lan(&["delay", "20"]);
    let output = lab.run("legion", "ping", &["-q", "-c", "3", "-i", "0.01", thor]);
    let text = String::from_utf8(output.stdout).unwrap();
    let fastest: f64 = text.split("= ").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    assert!(fastest >= 40.0, "20 ms each way: {text}");
    lab.lan(&["delay", "0"]);
    assert_eq!(String::from_utf8(lab.run("sprout", "hostname", &[]).stdout).unwrap(), "sprout\n");
    let hosts = lab.lan(&["hosts"]);
    assert!(hosts.contains("docker0 172.17.0.1/16"), "{hosts}");
    let outside = lab.run("legion", "ping", &["-c", "1", "-W", "1", "192.0.2.1"]);
    assert!(!outside.status.success(), "there is no way out");
}

#[test]
fn a_router_joins_subnets_without_multicast_and_cuts_hold_through_it_whatever_the_address() {
    let Some(lab) = Lab::start(&["--subnets", "thor,oak/sprout/legion"]) else { return };
    if !installed("ping") {
        return skip("ping is missing; install iputils-ping");
    }
    assert_eq!((received(&lab, "thor", "sprout", 2), received(&lab, "thor", "oak", 2)), (2, 2));
    lab.run("thor", "ping", &["-c", "2", "-i", "0.01", "-W", "1", "224.0.0.1"]);
    let heard = |host: &str| -> u64 {
        let counters = lab.lan(&["on", host, "cat", "/proc/net/netstat"]);
        let rows: Vec<Vec<&str>> = counters
            .lines()
            .filter(|line| line.starts_with("IpExt:"))
            .map(|line| line.split(' ').collect())
            .collect();
        let place = rows[0].iter().position(|name| *name == "InMcastPkts").unwrap();
        rows[1][place].parse().unwrap()
    };
    assert_eq!((heard("oak"), heard("sprout"), heard("legion")), (2, 0, 0), "two to a group");
    lab.lan(&["cut", "thor", "sprout"]);
    lab.lan(&["address", "thor", "10.77.0.77"]);
    assert_eq!((received(&lab, "sprout", "thor", 2), received(&lab, "sprout", "legion", 2)), (0, 2));
    assert_eq!(received(&lab, "legion", "10.77.0.77", 2), 2, "its new address");
    assert!(lab.lan(&["hosts"]).contains("thor: eth0 10.77.0.77/24"));
    lab.lan(&["heal"]);
    assert_eq!(received(&lab, "sprout", "thor", 2), 2, "by its name");
}

#[test]
fn frames_come_twice_and_out_of_order() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor"]) else { return };
    if !installed("ping") {
        return skip("ping is missing; install iputils-ping");
    }
    let ping = || {
        let output = lab.run("legion", "ping", &["-c", "100", "-i", "0.01", "-W", "1", "10.77.0.2"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<u32> = text
            .lines()
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        let twice = text.lines().filter(|line| line.ends_with("(DUP!)")).count();
        let late = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
        (twice, late)
    };
    lab.lan(&["duplicate", "25"]);
    assert!((20..90).contains(&ping().0), "a quarter each way makes 56 of a hundred");
    lab.lan(&["duplicate", "0"]);
    lab.lan(&["reorder", "10", "35"]);
    let (twice, late) = ping();
    assert!(twice == 0 && (5..40).contains(&late), "a tenth each way, {late}");
    lab.lan(&["reorder", "0"]);
    assert_eq!(ping(), (0, 0));
}
