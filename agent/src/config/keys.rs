//! Every key of the agent's configuration: its type, its default and what it does. The reference
//! in the documentation is made from here, and a test holds the defaults against those the
//! program uses.

use longshore_config::manual::{self, Page};
use longshore_config::schema::Acts::{Reload, Restart};
use longshore_config::schema::{self, Key, Kind, Schema};
use longshore_logging::{FORMS, LEVELS, TARGETS};

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        acts: Restart,
        help,
    }
}

/// A key that acts when the configuration is read again.
const fn reload(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        acts: Reload,
        ..key(path, kind, default, help)
    }
}

const MANY: i64 = 4_294_967_295;

/// The agent's keys.
pub const SCHEMA: Schema = Schema {
    roots: &["agent", "environment", "files", "logging"],
    foreign: &["daemon", "secure", "services", "work", "client"],
    renamed: &[
        (
            "agent.logging",
            "is a part of its own now, logging: logging.toml beside agent.toml",
        ),
        ("agent.logging.level", "is called logging.level now"),
    ],
    keys: &[
        key(
            "agent.state_dir",
            Kind::Path,
            "\"/var/lib/longshore-agent\"",
            "Identity, journal, output of containers; mode 0700.",
        ),
        key(
            "agent.run_dir",
            Kind::Path,
            "\"/run/longshore-agent\"",
            "Files of running sessions. A tmpfs of their own is mounted below it.",
        ),
        reload(
            "agent.vault_file_roots",
            Kind::List(&Kind::Path),
            "[\"/home/work\", \"/work\", \"/tmp\", \"/run/longshore/secrets\"]",
            "Directories inside sessions below which files of vaults may be put.",
        ),
        key(
            "agent.docker.socket",
            Kind::Text,
            "\"unix:///var/run/docker.sock\"",
            "The container engine.",
        ),
        key(
            "agent.docker.parallel_creates",
            Kind::Integer(1, 64),
            "4",
            "Containers created at once.",
        ),
        key(
            "agent.docker.parallel_pulls",
            Kind::Integer(1, 64),
            "2",
            "Images pulled at once.",
        ),
        reload(
            "agent.reserved.cpu",
            Kind::Integer(0, MANY),
            "1",
            "Cores the node keeps for itself.",
        ),
        reload(
            "agent.reserved.mem_mib",
            Kind::Integer(0, MANY),
            "1024",
            "Memory the node keeps for itself, in MiB.",
        ),
        reload(
            "agent.offered.cpu",
            Kind::Integer(0, MANY),
            "0",
            "Cores offered instead of what was found, for nodes shared with others; 0 = found less reserved.",
        ),
        reload(
            "agent.offered.mem_mib",
            Kind::Integer(0, MANY),
            "0",
            "Memory offered instead of what was found, in MiB; 0 = found less reserved.",
        ),
        reload(
            "agent.max_containers",
            Kind::Integer(0, MANY),
            "0",
            "Most containers at once; 0 = no limit.",
        ),
        reload(
            "agent.devices.mask",
            Kind::List(&Kind::Text),
            "[]",
            "UUIDs or PCI addresses of GPUs that are not offered; who has one when it comes to stand here keeps it.",
        ),
        key(
            "agent.devices.library",
            Kind::Path,
            "",
            "NVML elsewhere than where the loader finds it.",
        ),
        key(
            "agent.devices.device_dir",
            Kind::Path,
            "\"/dev\"",
            "Where device nodes are.",
        ),
        key(
            "agent.health.cordon_xids",
            Kind::List(&Kind::Integer(1, 100_000)),
            "[48, 62, 64, 74, 79, 92, 95, 119, 120, 140]",
            "XIDs after which a GPU is kept back until it was reset and is well.",
        ),
        key(
            "agent.health.warn_xids",
            Kind::List(&Kind::Integer(1, 100_000)),
            "[63]",
            "XIDs after which a GPU carries a warning until it was reset.",
        ),
        reload(
            "agent.health.on_foreign",
            Kind::OneOf(&["hold", "report"]),
            "\"hold\"",
            "Whether a GPU that a program outside Longshore uses is kept back, or only told.",
        ),
        reload(
            "agent.foreign.min_mem_mib",
            Kind::Integer(1, MANY),
            "64",
            "From so much GPU memory on such a program counts, in MiB.",
        ),
        reload(
            "agent.foreign.ignore",
            Kind::List(&Kind::Text),
            "[\"Xorg\", \"Xwayland\", \"gnome-shell\", \"nvidia-persistenced\", \"nvidia-cuda-mps-server\", \"nvidia-cuda-mps-control\"]",
            "Names of programs that never count.",
        ),
        reload(
            "agent.allocation.strategy",
            Kind::OneOf(&["even", "fill"]),
            "\"even\"",
            "How shares of GPUs are spread.",
        ),
        reload(
            "agent.allocation.quantum",
            Kind::Decimal,
            "0.01",
            "The smallest part of a shared device.",
        ),
        reload(
            "agent.allocation.fragmentation",
            Kind::Bool,
            "true",
            "Whether a share may be split over more devices than its size needs.",
        ),
        reload(
            "agent.allocation.affinity",
            Kind::OneOf(&["prefer-single-node", "interleaved"]),
            "\"prefer-single-node\"",
            "Whether devices near each other are taken together.",
        ),
        key(
            "agent.gpu_way",
            Kind::OneOf(&["auto", "cdi", "request", "nodes"]),
            "\"auto\"",
            "How containers get GPUs; auto = what a test at the start finds working.",
        ),
        key(
            "agent.network.pool",
            Kind::Network,
            "\"10.213.0.0/16\"",
            "From where subnets of sessions are cut.",
        ),
        key(
            "agent.network.prefix",
            Kind::Integer(8, 30),
            "27",
            "Size of each.",
        ),
        key(
            "agent.network.ready",
            Kind::Integer(0, 1024),
            "4",
            "Networks kept ready.",
        ),
        key(
            "agent.overlay.interface",
            Kind::Text,
            "",
            "The link whose address other nodes are told for sessions on several nodes; empty = the one that leads to the coordinator.",
        ),
        key(
            "agent.overlay.port",
            Kind::Integer(1, 65535),
            "4789",
            "The UDP port at which nodes take packets of such sessions, the same on all of them; open for the other nodes, and for nobody else.",
        ),
        key(
            "agent.local_policy.host_network",
            Kind::OneOf(&["deny", "allow"]),
            "\"deny\"",
            "Whether containers may be in the network of this node, for groups whose cluster_network is host.",
        ),
        reload(
            "agent.local_policy.sudo",
            Kind::OneOf(&["deny", "allow"]),
            "\"allow\"",
            "Whether users with that right may become root inside their containers.",
        ),
        reload(
            "agent.local_policy.root_in_container",
            Kind::OneOf(&["deny", "allow"]),
            "\"deny\"",
            "Whether processes may be root inside containers from their start, for policies with root_in_container.",
        ),
        reload(
            "agent.local_policy.uid_min",
            Kind::Integer(0, MANY),
            "10000",
            "No container has a user below this number, nor root's group; 0 = any.",
        ),
        reload(
            "agent.local_policy.registries",
            Kind::List(&Kind::Text),
            "[]",
            "HOST[/PATH] from which images may come, whole parts of the name compared; empty = whatever the coordinator allows.",
        ),
        reload(
            "agent.local_policy.max_mem_mib",
            Kind::Integer(0, MANY),
            "0",
            "MiB of memory that all containers together may have; 0 = no limit.",
        ),
        reload(
            "agent.local_policy.max_containers",
            Kind::Integer(0, MANY),
            "0",
            "Containers at once, whatever is offered; 0 = no limit.",
        ),
        reload(
            "agent.local_policy.min_free_disk",
            Kind::Integer(0, 95),
            "10",
            "With less of the disk of containers free, in percent, none is made; 0 = no limit.",
        ),
        reload(
            "agent.images.low_water",
            Kind::Integer(0, 95),
            "10",
            "So much of the disk of images a pull leaves free, in percent.",
        ),
        reload(
            "agent.images.gc",
            Kind::Bool,
            "true",
            "Images that nothing uses are removed when the disk fills up; of those this agent pulled, least recently used first.",
        ),
        reload(
            "agent.images.keep",
            Kind::List(&Kind::Text),
            "[]",
            "Images that are never removed, by reference.",
        ),
        reload(
            "agent.logs.container_cap_mib",
            Kind::Integer(1, MANY),
            "64",
            "Stored output per container, in MiB; of containers that begin to write after a change.",
        ),
        reload(
            "agent.logs.node_cap_mib",
            Kind::Integer(1, MANY),
            "20480",
            "Stored output on the node, in MiB.",
        ),
        reload(
            "agent.logs.retention_days",
            Kind::Integer(0, MANY),
            "30",
            "Days output is kept after the end.",
        ),
        key(
            "agent.metrics.listen",
            Kind::Text,
            "\"127.0.0.1:7421\"",
            "TCP address at which metrics are shown to everybody who reaches it, in the clear: GET /metrics. Empty = nowhere. docs/metrics.md names them.",
        ),
        reload(
            "agent.local_cordon",
            Kind::Bool,
            "false",
            "Refuse new work, whatever the coordinator says.",
        ),
        reload(
            "agent.redact",
            Kind::List(&Kind::Text),
            "[]",
            "Variables whose values the log shows as a mask, beside those that it always does and those of the coordinator, and so do the sessions on this node; * at either end of a name stands for anything.",
        ),
        key(
            "agent.quic.gso",
            Kind::Bool,
            "true",
            "Segmentation offload; off where a network card gets it wrong.",
        ),
        key(
            "agent.firewall",
            Kind::OneOf(&["require", "off"]),
            "\"require\"",
            "Whether sessions run without the firewall in front of their networks.",
        ),
        reload(
            "logging.level",
            Kind::Text,
            "\"info\"",
            "error, warn, info, debug, trace, or filters per module. LONGSHORE_LOG wins over it.",
        ),
        reload(
            "logging.levels",
            Kind::MapOf(&Kind::OneOf(LEVELS)),
            "{}",
            "Levels by module, over logging.level: { longshore_agent = \"debug\" }.",
        ),
        reload(
            "logging.access_log",
            Kind::Bool,
            "true",
            "Of the coordinator, which may read the same file; an agent has no requests.",
        ),
        reload(
            "logging.audit_head_interval_s",
            Kind::Duration(60, 604_800),
            "3600",
            "Of the coordinator as well; an agent has no audit log.",
        ),
        reload(
            "logging.format",
            Kind::OneOf(FORMS),
            "\"auto\"",
            "json: one object a line. auto: json into a file, text to standard error and to the journal.",
        ),
        reload(
            "logging.target",
            Kind::OneOf(TARGETS),
            "\"stderr\"",
            "Where lines of the running agent go; journal: that of systemd, by its own socket. What cannot be written there goes to standard error.",
        ),
        reload(
            "logging.file.path",
            Kind::Path,
            "\"/var/log/longshore/agent.log\"",
            "The file of the target file; its directory is made. Turned files lie beside it, with .1 (the newest) and so on. Reading the configuration again opens it again.",
        ),
        reload(
            "logging.file.max_size",
            Kind::Size(64 << 10, 1 << 40),
            "\"100M\"",
            "The line that would go beyond it begins another file.",
        ),
        reload(
            "logging.file.keep",
            Kind::Integer(0, 1000),
            "10",
            "So many turned files are kept.",
        ),
    ],
};

/// All keys as a commented file.
#[must_use]
pub fn reference() -> String {
    let heading = "Configuration of the agent. Every key stands here with its default; take the hash\n\
        away to set it. The file agent.toml in /etc/longshore holds the keys without their first\n\
        part, and logging.toml those that begin with it. What sessions on this node are given (environment, files, agent.git, agent.pip,\n\
        agent.registries, agent.apply_environment, agent.apply_files) may stand here too: see\n\
        docs/vaults.md.";
    schema::reference(&SCHEMA, heading)
}

/// All keys as a page of the manual.
#[must_use]
pub fn manual() -> String {
    let page = Page {
        name: "longshore-agent.toml",
        program: "longshore-agent",
        version: env!("CARGO_PKG_VERSION"),
        example: ("agent.max_containers", "8"),
    };
    manual::page(&SCHEMA, &page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use longshore_common::redact::MASK;
    use std::collections::BTreeMap;

    #[test]
    fn defaults_that_are_told_are_those_that_hold() {
        let told = SCHEMA.defaults().into_iter();
        let told = told.map(|(path, text)| ("--set".to_owned(), path, text));
        let told: Vec<(String, String, String)> = told.collect();
        assert!(told.len() > 25);
        let nowhere = ("LONGSHORE_CONFIG_DIR".to_owned(), "/nowhere".to_owned());
        let environment = BTreeMap::from([nowhere]);
        let (config, _) = Config::load(None, &environment, told).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_reference_is_the_one_in_the_documentation() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        for (name, made) in [
            ("agent.toml", reference()),
            ("man/longshore-agent.toml.5", manual()),
        ] {
            let path = format!("{docs}/{name}");
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &made).unwrap();
            }
            let known = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(known == made, "UPDATE=1 writes {path}");
        }
    }

    #[test]
    fn every_setting_has_a_key() {
        let settings = serde_json::to_value(Config::default()).unwrap();
        let without = SCHEMA.without_key(&settings, "agent");
        assert!(without.is_empty(), "without a key: {without:?}");
    }

    #[test]
    fn no_vault_can_set_a_key_of_the_machine() {
        let reach: Vec<&str> = SCHEMA
            .keys
            .iter()
            .map(|key| key.path)
            // The list of hidden names is the agent's for its log, and a vault's for sessions.
            .filter(|path| path.starts_with("agent.") && *path != "agent.redact")
            .filter(|path| !longshore_config::work::keys::is_of_machine(path))
            .collect();
        assert!(reach.is_empty(), "{reach:?}");
    }

    /// Each key that holds a secret, wherever it may be set, is shown as a mask in each form.
    #[test]
    fn nothing_secret_is_shown() {
        use longshore_config::show;
        use longshore_config::work::keys::{FREE, KNOWN, Kind as Work};
        const CANARY: &str = "hunter2canary";
        let own = SCHEMA.keys.iter().filter(|key| key.kind == Kind::Secret);
        let own = own.map(|key| (key.path.to_owned(), CANARY.to_owned()));
        let entries = |members: &[&str]| {
            let one: Vec<String> = members
                .iter()
                .map(|name| match *name {
                    "host" => "\"host\":\"h.lab\"".to_owned(),
                    name if name.starts_with("user") => format!("\"{name}\":\"u\""),
                    name => format!("\"{name}\":\"{CANARY}\""),
                })
                .collect();
            format!("[{{{}}}]", one.join(","))
        };
        let of_sessions = KNOWN.iter().filter_map(|(path, kind)| {
            let text = match kind {
                Work::Secret => CANARY.to_owned(),
                Work::Entries(members) => entries(members),
                Work::Url => format!("https://u:{CANARY}@h.lab/"),
                Work::Urls => format!("[\"https://u:{CANARY}@h.lab/\"]"),
                Work::Bool | Work::Text | Work::Texts => return None,
            };
            Some(((*path).to_owned(), text))
        });
        let free = FREE.iter().map(|root| match *root {
            "files" => {
                let file = format!("{{\"path\":\"/tmp/x\",\"contents\":\"{CANARY}\"}}");
                ("files.x".to_owned(), file)
            }
            root => (format!("{root}.X"), CANARY.to_owned()),
        });
        let all: Vec<(String, String)> = own.chain(of_sessions).chain(free).collect();
        assert!(all.len() >= 7, "{all:?}");
        let nowhere = ("LONGSHORE_CONFIG_DIR".to_owned(), "/nowhere".to_owned());
        for (path, text) in all {
            let name = format!("LONGSHORE__{}", path.replace('.', "__").to_uppercase());
            let name = name.replace("FILES__X", "FILES__x");
            let environment = BTreeMap::from([nowhere.clone(), (name, text)]);
            let (config, loaded) = Config::load(None, &environment, Vec::new())
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            for form in [(false, false), (true, false), (false, true), (true, true)] {
                let shown = show::print(&SCHEMA, &loaded, None, form, &BTreeMap::new());
                let shown = shown.unwrap();
                assert!(!shown.contains(CANARY), "{path}: {shown}");
                assert!(shown.contains(MASK), "{path} is shown: {shown}");
            }
            assert!(!format!("{config:?}").contains(CANARY), "{path}");
        }
    }
}
