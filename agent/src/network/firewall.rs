//! The rules in front of session networks.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// One run of iptables, which itself waits 5 s for its lock.
const IPTABLES_S: u64 = 10;

/// The rules of one cluster, by the links they match.
#[derive(Debug)]
pub(super) struct Firewall {
    /// Of all its bridges.
    bridges: String,
    /// Of those over which nodes look for each other.
    shared: String,
    /// The port at which nodes take what comes from others.
    port: u16,
}

/// Chain for what is forwarded, hooked into the chain Docker leaves to administrators.
const FORWARD_CHAIN: &str = "LONGSHORE";
/// Chain for what is meant for the node itself.
const INPUT_CHAIN: &str = "LONGSHORE-IN";

impl Firewall {
    /// Those for links whose names begin so.
    pub(super) fn new(prefix: &str, port: u16) -> Self {
        Self {
            bridges: format!("{prefix}+"),
            shared: format!("{prefix}c+"),
            port,
        }
    }

    /// Makes chains, jumps and rules that are missing; the rest stays untouched.
    pub(super) async fn ensure(&self) -> Result<(), String> {
        let tables = Iptables::find()?;
        // Without Docker's own rules the administrators' chain does not exist.
        let hook = if tables.holds(&["-S", "DOCKER-USER"]).await? {
            "DOCKER-USER"
        } else {
            "FORWARD"
        };
        for (chain, from) in [(FORWARD_CHAIN, hook), (INPUT_CHAIN, "INPUT")] {
            if !tables.holds(&["-S", chain]).await? {
                tables.change(&["-N", chain]).await?;
            }
            if !tables.holds(&["-C", from, "-j", chain]).await? {
                tables.change(&["-I", from, "1", "-j", chain]).await?;
            }
        }
        // From the last to the first, each in front: one that a release before this did not
        // know must not come behind the one that drops the rest.
        for (chain, rule) in self.rules().into_iter().rev() {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            if !tables.holds(&[&["-C", chain], &rule[..]].concat()).await? {
                tables
                    .change(&[&["-I", chain, "1"], &rule[..]].concat())
                    .await?;
            }
        }
        for rule in self.of_another_port(&tables.list(FORWARD_CHAIN).await?) {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            tables.change(&[&["-D"], &rule[..]].concat()).await?;
        }
        Ok(())
    }

    /// Of the rules of a chain, as iptables lists them, ours in front of a port that was
    /// configured before: each with its chain.
    fn of_another_port(&self, listed: &str) -> Vec<Vec<String>> {
        let port = self.port.to_string();
        let rules = listed.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [
                    "-A",
                    chain,
                    "-i",
                    link,
                    "-p",
                    "udp",
                    "-m",
                    "udp",
                    "--dport",
                    other,
                    "-j",
                    "DROP",
                ] if link == self.bridges && other != port => {
                    let rule = ["-i", link, "-p", "udp", "--dport", other, "-j", "DROP"];
                    let rule = [&[chain][..], &rule[..]].concat();
                    Some(rule.into_iter().map(str::to_owned).collect())
                }
                _ => None,
            }
        });
        rules.collect()
    }

    /// Takes this cluster's rules away, and the chains once they are empty. Failures are
    /// left to the administrator.
    pub(super) async fn withdraw(&self) {
        let Ok(tables) = Iptables::find() else { return };
        for (chain, rule) in self.rules() {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            let _ = tables.holds(&[&["-D", chain], &rule[..]].concat()).await;
        }
        for (chain, from) in [
            (FORWARD_CHAIN, "DOCKER-USER"),
            (FORWARD_CHAIN, "FORWARD"),
            (INPUT_CHAIN, "INPUT"),
        ] {
            if tables.is_empty_chain(chain).await {
                let _ = tables.holds(&["-D", from, "-j", chain]).await;
                let _ = tables.holds(&["-X", chain]).await;
            }
        }
    }

    /// Every rule with its chain, in order.
    fn rules(&self) -> Vec<(&'static str, Vec<String>)> {
        let from_us = |rest: &[&str]| {
            let start = ["-i", self.bridges.as_str()];
            start
                .iter()
                .chain(rest)
                .map(|word| (*word).to_owned())
                .collect::<Vec<String>>()
        };
        let port = self.port.to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        vec![
            (
                FORWARD_CHAIN,
                from_us(&["-d", "169.254.0.0/16", "-j", "DROP"]),
            ),
            // What a node takes for a packet of another node: nobody else may send that, or it
            // would come out in the network of whoever has its number.
            (
                FORWARD_CHAIN,
                from_us(&["-p", "udp", "--dport", &port, "-j", "DROP"]),
            ),
            // Between two of our bridges, but not what is bridged within one.
            (
                FORWARD_CHAIN,
                from_us(&[
                    "-o",
                    "ls+",
                    "-m",
                    "physdev",
                    "!",
                    "--physdev-is-bridged",
                    "-j",
                    "DROP",
                ]),
            ),
            (
                INPUT_CHAIN,
                from_us(&[
                    "-m",
                    "conntrack",
                    "--ctstate",
                    "RELATED,ESTABLISHED",
                    "-j",
                    "RETURN",
                ]),
            ),
            // Nodes look for each other at their addresses in a session's network. No other
            // address of the node answers there.
            (
                INPUT_CHAIN,
                words(&[
                    "-i",
                    &self.shared,
                    "-p",
                    "icmp",
                    "--icmp-type",
                    "echo-request",
                    "-m",
                    "addrtype",
                    "--dst-type",
                    "LOCAL",
                    "--limit-iface-in",
                    "-j",
                    "RETURN",
                ]),
            ),
            (INPUT_CHAIN, from_us(&["-j", "DROP"])),
        ]
    }
}

/// The program that sets rules.
struct Iptables(PathBuf);

impl Iptables {
    fn find() -> Result<Self, String> {
        ["/usr/sbin/iptables", "/sbin/iptables", "/usr/bin/iptables"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .map(Self)
            .ok_or_else(|| {
                "iptables is not installed (or set network.firewall to \"off\")".to_owned()
            })
    }

    async fn run(&self, words: &[&str]) -> Result<std::process::Output, String> {
        let output = tokio::process::Command::new(&self.0)
            .args(["-w", "5"])
            .args(words)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(Duration::from_secs(IPTABLES_S), output).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(format!("{}: {error}", self.0.display())),
            Err(_) => Err(format!("{} does not return", self.0.display())),
        }
    }

    /// Whether a question is answered with yes.
    async fn holds(&self, words: &[&str]) -> Result<bool, String> {
        Ok(self.run(words).await?.status.success())
    }

    async fn change(&self, words: &[&str]) -> Result<(), String> {
        let output = self.run(words).await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("iptables {}: {}", words.join(" "), said.trim()))
    }

    /// The rules of a chain, a line each, after one of the chain itself.
    async fn list(&self, chain: &str) -> Result<String, String> {
        let output = self.run(&["-S", chain]).await?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("iptables -S {chain}: {}", said.trim()))
            }
        }
    }

    async fn is_empty_chain(&self, chain: &str) -> bool {
        let listed = self.list(chain).await;
        listed.is_ok_and(|listed| listed.lines().count() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_only_our_links() {
        let firewall = Firewall::new("ls0007-", 4789);
        let links: Vec<String> = firewall
            .rules()
            .iter()
            .map(|(_, r)| r[..2].join(" "))
            .collect();
        let of = |link: &str| links.iter().filter(|l| *l == link).count();
        assert_eq!(of("-i ls0007-+") + of("-i ls0007-c+"), links.len());
        assert_eq!(of("-i ls0007-c+"), 1, "only nodes look for each other");
        let last = firewall.rules().pop().unwrap().1;
        assert_eq!(last, ["-i", "ls0007-+", "-j", "DROP"]);
    }

    #[test]
    fn rules_of_a_port_that_was_configured_before_go_and_no_others() {
        let listed = "-N LONGSHORE\n\
            -A LONGSHORE -i ls0007-+ -d 169.254.0.0/16 -j DROP\n\
            -A LONGSHORE -i ls0007-+ -p udp -m udp --dport 8472 -j DROP\n\
            -A LONGSHORE -i ls0007-+ -p udp -m udp --dport 4789 -j DROP\n\
            -A LONGSHORE -i ls0008-+ -p udp -m udp --dport 8472 -j DROP\n\
            -A LONGSHORE -i ls0007-+ -p udp -m udp --dport 53 -j ACCEPT\n";
        let stale = Firewall::new("ls0007-", 4789).of_another_port(listed);
        let stale: Vec<String> = stale.iter().map(|rule| rule.join(" ")).collect();
        assert_eq!(stale, ["LONGSHORE -i ls0007-+ -p udp --dport 8472 -j DROP"]);
    }
}
