//! The lab itself: what it promises to those who test with it.

use super::lab::{Lab, installed, skip};

fn received(lab: &Lab, from: &str, to: &str, count: u32) -> u32 {
    let count = count.to_string();
    let output = lab.run(from, "ping", &["-q", "-c", &count, "-i", "0.01", "-W", "1", to]);
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
