//! The command line as clap reads it. One file per command lies in `commands/`.

use crate::app::{App, Global, most};
use crate::commands::{
    admin, api, attach, check, config, context, cp, down, exec, explain, forward, gpus, history,
    idle, join, key, leave, links, login, logs, nodes, notify, preset, prolong, ps, queue, quota,
    run, show, simulate, ssh, start, status, steer, stop, token, top, up, usage, vault, version,
    wait, whoami,
};
use crate::error::Failure;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;

/// Share GPU servers: run programs on them, watch them, stop them.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What was typed.
    ///
    /// # Errors
    /// What clap says of it, and flags of lists on a command that shows none: they would be
    /// obeyed by nobody.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut grammar = Self::command();
        let matches = grammar.try_get_matches_from_mut(words)?;
        let cli = Self::from_arg_matches(&matches)?;
        let mut words = Vec::new();
        let mut at = &matches;
        while let Some((word, below)) = at.subcommand() {
            words.push(word);
            at = below;
        }
        let (shows, limit) = (lists(&words), cli.global.limit.as_deref());
        let flag = match shows {
            Lists::Whole | Lists::Nothing | Lists::Limit if !cli.global.filters.is_empty() => {
                "--filter"
            }
            Lists::Nothing if limit.is_some() => "--limit",
            Lists::Filtered | Lists::Whole if limit.is_some_and(|text| most(text).is_none()) => {
                let text = "--limit is a number from 1, or all";
                return Err(grammar.error(ErrorKind::ValueValidation, text));
            }
            _ => return Ok(cli),
        };
        let text = format!(
            "{flag} is for lists of the API; {} is none",
            words.join(" ")
        );
        Err(grammar.error(ErrorKind::ArgumentConflict, text))
    }
}

/// What a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// A list that the API filters.
    Filtered,
    /// A list that comes whole.
    Whole,
    /// No list.
    Nothing,
    /// No list, and `--limit` is a member of what it makes.
    Limit,
}

fn lists(words: &[&str]) -> Lists {
    match words {
        ["preset" | "logins" | "context", "ls"] => Lists::Whole,
        ["notify", "ls"] => Lists::Nothing,
        ["notify", "log"] => Lists::Limit,
        ["ps" | "nodes" | "gpus" | "history"] | [.., "ls"] => Lists::Filtered,
        [
            "admin",
            "pool" | "profile" | "allocation",
            "create" | "edit",
        ] => Lists::Limit,
        _ => Lists::Nothing,
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command as a session and stay with it
    Run(run::Args),
    /// Run a command as a session and return at once (run --detach)
    Submit(run::Args),
    /// Start an interactive session
    Start(start::Args),
    /// Say whether a session would start now, later or never; starts nothing
    Check(check::Args),
    /// List sessions
    Ps(ps::Args),
    /// Show a session
    Show(show::OneSession),
    /// Say why a session is where it is
    Explain(show::OneSession),
    /// Show the states a session went through
    History(show::OneSession),
    /// Show what will stop a session, and when
    Idle(show::OneSession),
    /// Show who waits for what
    Queue(queue::Args),
    /// Show what one may use, and what is used
    Quota(quota::Args),
    /// Show what one used, by month
    Usage(usage::Args),
    /// List one's projects, or leave one
    Projects {
        #[command(subcommand)]
        verb: Option<admin::tenant::Own>,
    },
    /// Keypairs of one's own
    #[command(alias = "keypair", subcommand)]
    Key(key::Verb),
    /// What one's sessions get: a document of one's own, and what comes of all of them
    #[command(subcommand)]
    Vault(vault::Verb),
    /// What the flags of this program default to, and who says so
    #[command(subcommand)]
    Config(config::Verb),
    /// What one is told of by mail and by calls
    #[command(subcommand)]
    Notify(notify::Verb),
    /// Amounts under a name
    #[command(subcommand)]
    Preset(preset::Verb),
    /// Show the output of a session
    Logs(logs::Args),
    /// Wait for the end of sessions
    Wait(wait::Args),
    /// Stop sessions
    Stop(stop::Args),
    /// Let the life of a session end later
    Extend(prolong::Args),
    /// Do not stop a session for being idle for a while
    Keep(show::OneSession),
    /// Hold waiting sessions back until they are released
    Hold(steer::Sessions),
    /// Hold sessions back no longer
    Release(steer::Sessions),
    /// Run a session anew on the same agents and devices
    Restart(show::OneSession),
    /// Change how a session waits: its priority, its earliest start
    Edit(steer::EditArgs),
    /// Follow a session to its end and return its exit code
    Attach(attach::Args),
    /// Run a command in a running session
    Exec(exec::ExecArgs),
    /// Open a login shell in a running session
    Terminal(exec::TerminalArgs),
    /// Copy files into a running session or out of it
    Cp(cp::Args),
    /// List what can be reached in a session
    Apps(show::OneSession),
    /// Reach ports of a running session on this machine
    Forward(forward::Args),
    /// Open an app of a running session in a browser
    Open(forward::OpenArgs),
    /// Open Jupyter of a running session on this machine
    Jupyter(forward::JupyterArgs),
    /// Run ssh to a running session; its image needs an sshd
    Ssh(ssh::Args),
    /// List the nodes
    #[command(alias = "agents")]
    Nodes,
    /// Look at a node or change it
    #[command(alias = "agent", subcommand)]
    Node(nodes::Verb),
    /// List the GPUs and who holds them
    Gpus,
    /// Watch GPUs, sessions, queue and nodes; keys: ?
    Top,
    /// Tokens that let further nodes join
    #[command(subcommand)]
    Token(token::Verb),
    /// Administration
    #[command(subcommand)]
    Admin(Admin),
    /// Show the versions of this program and of the coordinator
    Version,
    /// Sign in at a coordinator with a password, or store a keypair
    Login(login::LoginArgs),
    /// End the login of the context in use
    Logout,
    /// Show who is signed in
    Whoami,
    /// Choose another password; all other logins end
    Passwd {
        /// Keypairs open nothing any more either
        #[arg(long)]
        revoke_keypairs: bool,
        /// The link of somebody who forgot it, or got it from an administrator
        #[arg(long, value_name = "LINK", conflicts_with = "revoke_keypairs")]
        link: Option<links::Link>,
    },
    /// Do what a link is for: make an account, join projects, prove an address
    AcceptInvitation {
        /// The whole link, in quotes
        link: links::Link,
    },
    /// Two-factor codes
    #[command(subcommand)]
    Totp(login::TotpVerb),
    /// One's own logins
    #[command(subcommand)]
    Logins(login::LoginsVerb),
    /// Coordinators and how to sign in there
    #[command(subcommand)]
    Context(context::Verb),
    /// Start a coordinator and an agent on this machine
    Up(up::Args),
    /// Stop what up started
    Down(down::Args),
    /// Make this machine a node of a coordinator elsewhere
    Join(join::Args),
    /// Take this machine out of the cluster it joined: emptied first, then removed
    Leave(leave::Args),
    /// Show what runs on this machine
    Status(status::Args),
    /// Send any request to the API
    Api(api::Args),
    /// Run the scheduler on a cluster described in a file; starts nothing
    Simulate(simulate::Args),
    /// Becomes a program of its own: used by up
    #[command(name = "__detached", hide = true)]
    Detached(crate::process::Detached),
}

/// Nouns of administration.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Nodes
    #[command(alias = "node", subcommand)]
    Agent(nodes::Verb),
    /// Tokens that let further nodes join
    #[command(subcommand)]
    Token(token::Verb),
    /// What keypairs, people and projects may use
    #[command(subcommand)]
    Policy(admin::policy::Noun),
    /// Resource groups: agents that are scheduled together
    #[command(subcommand)]
    ResourceGroup(admin::group::Verb),
    /// Pools of the draft: numbers of resources that queues share
    #[command(subcommand)]
    Pool(admin::pools::Verb),
    /// Profiles of the draft: kinds of jobs
    #[command(subcommand)]
    Profile(admin::pools::Verb),
    /// Allocation policies of the draft: what people may have of the pools
    #[command(subcommand)]
    Allocation(admin::pools::Verb),
    /// The document of pools and queues: draft and live
    #[command(subcommand)]
    Config(admin::config::Verb),
    /// Queues
    #[command(subcommand)]
    Queue(admin::queue::Verb),
    /// Containers of this installation that no order names
    #[command(subcommand)]
    Unclaimed(admin::unclaimed::Verb),
    /// Custom actions of the configuration
    #[command(subcommand)]
    Action(admin::action::Verb),
    /// What everybody is to read
    #[command(subcommand)]
    Announce(admin::announce::Verb),
    /// What stops sessions without a sign of life: its cycles, and what it stopped
    Watchdog,
    /// Amounts under a name
    #[command(subcommand)]
    Preset(admin::preset::Verb),
    /// The least that sessions of an image get
    #[command(subcommand)]
    Image(admin::image::Verb),
    /// Domains
    #[command(subcommand)]
    Domain(admin::tenant::DomainVerb),
    /// Projects
    #[command(subcommand)]
    Project(admin::tenant::ProjectVerb),
    /// People
    #[command(subcommand)]
    User(admin::user::Verb),
    /// Who is asked to join
    #[command(subcommand)]
    Invitation(admin::invitation::Verb),
    /// Keypairs
    #[command(alias = "keypair", subcommand)]
    Key(admin::key::Verb),
    /// Groups of users
    #[command(subcommand)]
    Group(admin::user_group::Verb),
    /// Access rules: who may do what with projects, sessions and queues
    #[command(subcommand)]
    Access(admin::access::Verb),
    /// Service accounts: programs that call
    #[command(subcommand)]
    ServiceAccount(admin::service_account::Verb),
    /// Documents with what sessions of groups of users get
    #[command(subcommand)]
    Vault(admin::vault::Verb),
    /// Write a table as CSV
    Export(admin::export::Export),
    /// Who used what
    #[command(subcommand)]
    Usage(usage::Verb),
    /// Who did what, and whether the log of it is whole
    #[command(subcommand)]
    Audit(admin::audit::Verb),
    /// The configuration of the coordinator, and what is stored of it
    #[command(subcommand)]
    Settings(admin::settings::Verb),
    /// Compare the books with what the nodes report
    UsageAudit(admin::export::Audit),
    /// Make groups, policies, presets and pools what a document says
    Apply(admin::document::File),
    /// Show what apply would do; ends with 1 when that is something
    Diff(admin::document::File),
    /// Write the document of groups, policies, presets and pools
    ExportConfig,
}

/// Whether a command stays with one session, so that its exit codes are the program's.
pub(crate) const fn is_attached(command: &Command) -> bool {
    match command {
        Command::Run(args) => !args.detach,
        Command::Attach(_) | Command::Exec(_) | Command::Ssh(_) | Command::Wait(_) => true,
        _ => false,
    }
}

/// Whether a command deals with `--timeout` itself.
pub(crate) const fn keeps_time(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(_) | Command::Submit(_) | Command::Attach(_) | Command::Logs(_)
    )
}

/// Refuses `--dry-run` where there is no rehearsal: it would be done all the same.
fn can_rehearse(command: &Command) -> Result<(), Failure> {
    let hint = match command {
        Command::Run(_) | Command::Submit(_) | Command::Start(_) => {
            "longshore check, with the same flags, says whether it would start"
        }
        Command::Api(_) => "add dry_run=true to the path of a request that knows it",
        Command::Up(_) | Command::Down(_) | Command::Join(_) => {
            "longshore status shows what is on this machine"
        }
        Command::Stop(_)
        | Command::Exec(_)
        | Command::Terminal(_)
        | Command::Cp(_)
        | Command::Forward(_)
        | Command::Open(_)
        | Command::Jupyter(_)
        | Command::Ssh(_)
        | Command::Context(context::Verb::Use { .. })
        | Command::Login(_)
        | Command::Logout
        | Command::Passwd { .. }
        | Command::AcceptInvitation { .. }
        | Command::Totp(_)
        | Command::Notify(notify::Verb::Test { .. })
        | Command::Logins(login::LoginsVerb::End { .. }) => "leave --dry-run out",
        Command::Node(verb) | Command::Admin(Admin::Agent(verb)) if verb.writes() => {
            "longshore node show NAME shows how it is"
        }
        Command::Token(verb) | Command::Admin(Admin::Token(verb)) if verb.writes() => {
            "longshore token ls shows those there are"
        }
        _ => return Ok(()),
    };
    Err(
        Failure::usage("this command cannot be rehearsed, so --dry-run is refused")
            .why("nothing was changed")
            .hint(hint),
    )
}

/// The noun of administration that somebody took for a command of its own.
pub(crate) fn noun_of_administration(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let ContextValue::String(word) = error.get(ContextKind::InvalidSubcommand)? else {
        return None;
    };
    let all = Cli::command();
    let noun = all.find_subcommand("admin")?.find_subcommand(word)?;
    Some(noun.get_name().to_owned())
}

/// Does it, and says what the program ends with.
pub(crate) async fn dispatch(app: &App, command: Command) -> Result<u8, Failure> {
    if app.global.dry_run {
        can_rehearse(&command)?;
    }
    match command {
        Command::Run(args) => Box::pin(run::run(app, args)).await,
        Command::Submit(args) => {
            Box::pin(run::run(
                app,
                run::Args {
                    detach: true,
                    ..args
                },
            ))
            .await
        }
        Command::Start(args) => Box::pin(start::run(app, args)).await,
        Command::Ps(args) => Box::pin(ps::run(app, args)).await,
        Command::Show(args) => Box::pin(show::run(app, args)).await,
        Command::Explain(args) => Box::pin(explain::run(app, args)).await,
        Command::History(args) => Box::pin(history::run(app, args)).await,
        Command::Idle(args) => Box::pin(idle::run(app, args)).await,
        Command::Usage(args) => Box::pin(usage::own(app, args)).await,
        Command::Queue(args) => Box::pin(queue::run(app, args)).await,
        Command::Logs(args) => Box::pin(logs::run(app, args)).await,
        Command::Wait(args) => Box::pin(wait::run(app, args)).await,
        Command::Stop(args) => Box::pin(stop::run(app, args)).await,
        Command::Extend(args) => Box::pin(prolong::extend(app, args)).await,
        Command::Keep(args) => Box::pin(prolong::keep(app, args)).await,
        Command::Hold(args) => Box::pin(steer::hold(app, args, true)).await,
        Command::Release(args) => Box::pin(steer::hold(app, args, false)).await,
        Command::Restart(args) => Box::pin(steer::restart(app, args)).await,
        Command::Edit(args) => Box::pin(steer::edit(app, args)).await,
        Command::Attach(args) => Box::pin(attach::run(app, args)).await,
        Command::Exec(args) => Box::pin(exec::exec(app, args)).await,
        Command::Terminal(args) => Box::pin(exec::terminal(app, args)).await,
        Command::Cp(args) => Box::pin(cp::run(app, args)).await,
        Command::Apps(args) => forward::apps(app, args).await,
        Command::Forward(args) => Box::pin(forward::forward(app, args)).await,
        Command::Open(args) => Box::pin(forward::open(app, args)).await,
        Command::Jupyter(args) => Box::pin(forward::jupyter(app, args)).await,
        Command::Ssh(args) => Box::pin(ssh::run(app, args)).await,
        Command::Nodes => Box::pin(nodes::list(app)).await,
        Command::Node(verb) => Box::pin(nodes::run(app, verb)).await,
        Command::Admin(noun) => Box::pin(administer(app, noun)).await,
        Command::Check(args) => Box::pin(check::run(app, args)).await,
        Command::Quota(args) => Box::pin(quota::run(app, args)).await,
        Command::Projects { verb } => Box::pin(admin::tenant::own(app, verb)).await,
        Command::Key(verb) => Box::pin(key::run(app, verb)).await,
        Command::Vault(verb) => Box::pin(vault::run(app, verb)).await,
        Command::Config(verb) => Box::pin(config::run(app, verb)).await,
        Command::Notify(verb) => Box::pin(notify::run(app, verb)).await,
        Command::Preset(verb) => Box::pin(preset::run(app, verb)).await,
        Command::Gpus => Box::pin(gpus::run(app)).await,
        Command::Top => Box::pin(top::run(app)).await,
        Command::Token(verb) => Box::pin(token::run(app, verb)).await,
        Command::Version => Box::pin(version::run(app)).await,
        Command::Whoami => Box::pin(whoami::run(app)).await,
        Command::Login(args) => Box::pin(login::login(app, args)).await,
        Command::Logout => Box::pin(login::logout(app)).await,
        Command::Passwd {
            link: Some(link), ..
        } => Box::pin(links::choose_password(app, &link)).await,
        Command::Passwd {
            revoke_keypairs, ..
        } => Box::pin(login::passwd(app, revoke_keypairs)).await,
        Command::AcceptInvitation { link } => Box::pin(links::accept(app, &link)).await,
        Command::Totp(verb) => Box::pin(login::totp(app, verb)).await,
        Command::Logins(verb) => Box::pin(login::logins(app, verb)).await,
        Command::Context(verb) => context::run(app, verb),
        Command::Up(args) => Box::pin(up::run(app, args)).await,
        Command::Down(args) => Box::pin(down::run(app, args)).await,
        Command::Join(args) => Box::pin(join::run(app, args)).await,
        Command::Leave(args) => Box::pin(leave::run(app, args)).await,
        Command::Status(args) => Box::pin(status::run(app, args)).await,
        Command::Api(args) => Box::pin(api::run(app, args)).await,
        Command::Simulate(args) => simulate::run(app, &args),
        Command::Detached(detached) => Err(crate::process::become_program(&detached)),
    }
}

async fn administer(app: &App, noun: Admin) -> Result<u8, Failure> {
    use admin::pools::{self, Part};
    use admin::tenant;
    match noun {
        Admin::Agent(verb) => nodes::run(app, verb).await,
        Admin::Token(verb) => token::run(app, verb).await,
        Admin::Policy(noun) => admin::policy::run(app, noun).await,
        Admin::ResourceGroup(verb) => admin::group::run(app, verb).await,
        Admin::Pool(verb) => pools::run(app, Part::Pool, verb).await,
        Admin::Profile(verb) => pools::run(app, Part::Profile, verb).await,
        Admin::Allocation(verb) => pools::run(app, Part::Allocation, verb).await,
        Admin::Config(verb) => admin::config::run(app, verb).await,
        Admin::Queue(verb) => admin::queue::run(app, verb).await,
        Admin::Unclaimed(verb) => admin::unclaimed::run(app, verb).await,
        Admin::Action(verb) => admin::action::run(app, verb).await,
        Admin::Announce(verb) => admin::announce::run(app, verb).await,
        Admin::Watchdog => admin::watchdog::run(app).await,
        Admin::Image(verb) => admin::image::run(app, verb).await,
        Admin::Preset(verb) => admin::preset::run(app, verb).await,
        Admin::Domain(verb) => tenant::domain(app, verb).await,
        Admin::Project(verb) => tenant::project(app, verb).await,
        Admin::User(verb) => admin::user::run(app, verb).await,
        Admin::Invitation(verb) => admin::invitation::run(app, verb).await,
        Admin::Key(verb) => admin::key::run(app, verb).await,
        Admin::Group(verb) => admin::user_group::run(app, verb).await,
        Admin::Access(verb) => admin::access::run(app, verb).await,
        Admin::ServiceAccount(verb) => admin::service_account::run(app, verb).await,
        Admin::Vault(verb) => admin::vault::run(app, verb).await,
        Admin::Usage(verb) => usage::run(app, verb).await,
        Admin::Export(args) => admin::export::run(app, args).await,
        Admin::Audit(verb) => admin::audit::run(app, verb).await,
        Admin::Settings(verb) => admin::settings::run(app, verb).await,
        Admin::UsageAudit(args) => admin::export::audit(app, args).await,
        Admin::Apply(args) => admin::document::apply(app, args).await,
        Admin::Diff(args) => admin::document::diff(app, args).await,
        Admin::ExportConfig => admin::document::export(app).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_behind_the_command_are_the_commands() {
        let cli = Cli::try_parse_from([
            "longshore",
            "run",
            "--gpu",
            "1",
            "nvidia-smi",
            "-L",
            "-o",
            "x",
        ])
        .unwrap();
        let Command::Run(args) = cli.command else {
            panic!("run")
        };
        assert_eq!(args.command, ["nvidia-smi", "-L", "-o", "x"]);
        let cli = Cli::try_parse_from(["longshore", "run", "--", "sh", "-c", "--"]).unwrap();
        let Command::Run(args) = cli.command else {
            panic!("run")
        };
        assert_eq!(args.command, ["sh", "-c", "--"]);
    }

    #[test]
    fn what_stands_behind_the_session_is_the_command() {
        let words = [
            "longshore",
            "exec",
            "s-1",
            "-t",
            "-c",
            "sub1",
            "ls",
            "-l",
            "-c",
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        assert!(is_attached(&cli.command));
        let Command::Exec(args) = cli.command else {
            panic!("exec")
        };
        assert!(
            args.tty
                && args
                    .container
                    .is_some_and(|rank| rank.to_string() == "sub1")
        );
        assert_eq!(args.command, ["ls", "-l", "-c"]);
        let cli = Cli::try_parse_from(["longshore", "exec", "s-1", "--", "sh", "-c", "--"]);
        let Command::Exec(args) = cli.unwrap().command else {
            panic!("exec")
        };
        assert_eq!(args.command, ["sh", "-c", "--"]);
        assert!(Cli::try_parse_from(["longshore", "exec", "s-1"]).is_err());
    }

    #[test]
    fn what_cannot_be_rehearsed_is_not_done_either() {
        let table = [
            ("run x", false),
            ("stop s-1", false),
            ("exec s-1 true", false),
            ("terminal s-1", false),
            ("down --purge", false),
            ("node cordon gpu01", false),
            ("admin agent expel gpu01", false),
            ("admin token create", false),
            ("context use lab", false),
            ("login gpu01", false),
            ("passwd", false),
            ("accept-invitation https://x/invite#t", false),
            ("admin invitation create a@b", true),
            ("logins end x", false),
            ("logins ls", true),
            ("admin user unblock x", true),
            ("api DELETE /users/x", false),
            ("node ls", true),
            ("token ls", true),
            ("ps", true),
            ("extend s-1 +2h", true),
            ("keep s-1", true),
            ("hold s-1 s-2", true),
            ("restart s-1", true),
            ("edit s-1 --set priority=3", true),
            ("admin agent confirm-loss gpu01 gpu02", true),
            ("check --gpu 1", true),
            ("admin config provision", true),
            ("admin apply x", true),
            ("admin resource-group rm x", true),
        ];
        for (line, can) in table {
            let words = ["longshore", "--dry-run"]
                .into_iter()
                .chain(line.split(' '));
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(can_rehearse(&cli.command).is_ok(), can, "{line}");
        }
    }

    #[test]
    fn flags_of_lists_are_for_lists() {
        let read = |line: &str| Cli::read(line.split(' ').map(OsString::from)).is_ok();
        for line in [
            "longshore ps --filter state=RUNNING --limit 3",
            "longshore admin user ls --filter status=inactive --limit all",
            "longshore preset ls --limit 1",
            "longshore admin allocation create a --limit 8g",
        ] {
            assert!(read(line), "{line}");
        }
        for line in [
            "longshore preset ls --filter a=b",
            "longshore --limit 3 show s-1",
            "longshore stop s-1 --filter a=b",
            "longshore ps --limit 0",
            "longshore ps --filter a",
        ] {
            assert!(!read(line), "{line}");
        }
    }

    #[test]
    fn a_noun_of_administration_is_found() {
        let noun = |words: &[&str]| {
            let words = ["longshore"].iter().chain(words);
            noun_of_administration(&Cli::try_parse_from(words).unwrap_err())
        };
        assert_eq!(noun(&["user", "ls"]).as_deref(), Some("user"));
        assert_eq!(noun(&["access", "ls"]).as_deref(), Some("access"));
        assert_eq!(noun(&["fly"]), None);
        assert_eq!(noun(&["admin", "usr"]), None);
    }

    #[test]
    fn usage() {
        for line in [
            &["longshore", "run"][..],
            &["longshore", "run", "--timeout-after", "soon", "x"],
            &["longshore", "stop"],
            &["longshore", "show", "a/b"],
            &["longshore", "fly"],
        ] {
            let error = Cli::try_parse_from(line.iter().copied()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }
}
