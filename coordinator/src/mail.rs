//! Mail: a bounded queue, and one task that gives it to a server. No request waits for it, and
//! no answer says what became of it.
//!
//! | input | output |
//! |---|---|
//! | a text to somebody | a message at the mail server of the settings, or a line in the log |

use crate::api::GUARDED;
use crate::config::{ConfigError, MailSettings, Tls as Encryption};
use crate::pki::random;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Messages that wait; more than people ask for while a server is slow.
const WAITING: usize = 256;
/// How long a server may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Address of whom it is for.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text; links in it open doors.
    pub text: String,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut mail = f.debug_struct("Mail");
        mail.field("to", &self.to).field("subject", &self.subject);
        mail.finish_non_exhaustive()
    }
}

/// Why a message did not go.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The address of whom it is for is no address to the mail library.
    #[error("the address cannot be written to: {0}")]
    Address(#[from] lettre::address::AddressError),
    /// It cannot be put together.
    #[error("the message cannot be made: {0}")]
    Message(#[from] lettre::error::Error),
    /// The server did not take it.
    #[error("the mail server did not take it: {0}")]
    Server(#[from] lettre::transport::smtp::Error),
    /// The server took too long.
    #[error("the mail server did not answer in time")]
    Late,
    /// Mail is not set up.
    #[error("mail is not set up")]
    Off,
}

/// Giving one message away.
pub type Carrying<'a> = Pin<Box<dyn Future<Output = Result<(), MailError>> + Send + 'a>>;

/// Whoever takes messages.
pub trait Carrier: Send + Sync + 'static {
    /// Takes one.
    fn carry<'a>(&'a self, mail: &'a Mail) -> Carrying<'a>;
}

/// Where messages are handed in.
#[derive(Clone, Default)]
pub struct Mailer(Option<Handing>);

#[derive(Clone)]
struct Handing {
    queue: mpsc::Sender<Mail>,
    carrier: Arc<dyn Carrier>,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mailer").field(&self.is_on()).finish()
    }
}

impl Mailer {
    /// Messages go to a server from now on, until the coordinator stops.
    #[must_use]
    pub fn start(carrier: Arc<dyn Carrier>, stopping: watch::Receiver<bool>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(carry_all(Arc::clone(&carrier), waiting, stopping));
        Self(Some(Handing { queue, carrier }))
    }

    /// Whether mail is set up.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Gives a message to the server now, past those that wait: for who keeps it until it is
    /// taken.
    ///
    /// # Errors
    /// [`MailError`]: the server has not taken it.
    pub async fn deliver(&self, mail: Mail) -> Result<(), MailError> {
        let Some(Handing { carrier, .. }) = &self.0 else {
            return Err(MailError::Off);
        };
        carry(Arc::clone(carrier), mail).await
    }

    /// Hands a message in. Without mail, and while too many wait, it goes nowhere.
    pub fn post(&self, mail: Mail) {
        let Some(Handing { queue, .. }) = &self.0 else {
            return;
        };
        if let Err(error) = queue.try_send(mail) {
            tracing::warn!(%error, "a mail is not sent: too many wait already");
        }
    }
}

async fn carry_all(
    carrier: Arc<dyn Carrier>,
    mut waiting: mpsc::Receiver<Mail>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let mail = tokio::select! {
            biased; // or a stop waits for chance while messages do
            _ = stopping.wait_for(|stop| *stop) => None,
            mail = waiting.recv() => mail,
        };
        let Some(mail) = mail else {
            let left = waiting.len();
            if left > 0 {
                tracing::warn!(
                    left,
                    "mails that wait are not sent: the coordinator is stopping"
                );
            }
            return;
        };
        let (to, subject) = (mail.to.clone(), mail.subject.clone());
        if let Err(error) = carry(Arc::clone(&carrier), mail).await {
            tracing::warn!(to, subject, %error, "a mail was not sent");
        }
    }
}

/// On a task of its own: what a server answers ends one message and not the process.
async fn carry(carrier: Arc<dyn Carrier>, mail: Mail) -> Result<(), MailError> {
    let carried = tokio::spawn(GUARDED.scope((), async move {
        let carried = tokio::time::timeout(PATIENCE, carrier.carry(&mail)).await;
        carried.unwrap_or(Err(MailError::Late))
    }));
    carried.await.unwrap_or(Err(MailError::Late)) // a panic there has been logged
}

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut smtp = f.debug_struct("Smtp");
        smtp.field("from", &self.from).finish_non_exhaustive()
    }
}

/// What hinders to speak with a mail server at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Whom mail comes from is no address.
    #[error("services.notify.mail.from: {0}")]
    From(#[from] lettre::address::AddressError),
    /// The certificates of this machine, or the name of the server.
    #[error("mail cannot be encrypted: {0}")]
    Tls(#[from] lettre::transport::smtp::Error),
}

impl Smtp {
    /// The server of the settings. It is not asked before there is a message.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(settings: &MailSettings) -> Result<Self, SetUpError> {
        let tls = match settings.tls {
            Encryption::None => Tls::None,
            Encryption::Starttls => Tls::Required(TlsParameters::new(settings.host.clone())?),
            Encryption::Tls => Tls::Wrapper(TlsParameters::new(settings.host.clone())?),
        };
        // All that is dangerous about it is the missing TLS, which is said above.
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host);
        let mut builder = builder.port(settings.port).tls(tls).timeout(Some(PATIENCE));
        let password = settings.password.read("services.notify.mail.password")?;
        if !settings.username.is_empty() {
            let (name, password) = (settings.username.clone(), password.expose().to_owned());
            builder = builder.credentials(Credentials::new(name, password));
        }
        Ok(Self {
            transport: builder.build(),
            from: settings.from.parse()?,
        })
    }

    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let to: Address = mail.to.parse()?;
        let number: [u8; 16] = random();
        let number = u128::from_le_bytes(number);
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(Some(format!(
                "<{number:032x}@{}>",
                self.from.email.domain()
            )))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())?;
        self.transport.send(message).await?;
        Ok(())
    }
}

impl Carrier for Smtp {
    fn carry<'a>(&'a self, mail: &'a Mail) -> Carrying<'a> {
        Box::pin(self.send(mail))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    /// A mail server that takes everything, in the clear: its settings, and what it took.
    pub(crate) async fn server() -> (MailSettings, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = MailSettings {
            enabled: true,
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: Encryption::None,
            from: "Longshore <gpu@lab.example>".to_owned(),
            ..MailSettings::default()
        };
        let (took, taken) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, took.clone()));
            }
        });
        (settings, taken)
    }

    async fn speak(stream: TcpStream, took: mpsc::UnboundedSender<String>) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test\r\n").await?;
        let mut envelope = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let verb = line.trim().to_ascii_uppercase();
            let answer: &[u8] = match verb.get(..4).unwrap_or_default() {
                "EHLO" => b"250-test\r\n250 8BITMIME\r\n",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut text = std::mem::take(&mut envelope);
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await?;
                        if line == ".\r\n" {
                            break;
                        }
                        text.push_str(&line);
                    }
                    let _ = took.send(text);
                    b"250 taken\r\n"
                }
                "RCPT" if verb.contains("REFUSED") => b"550 nobody of that name\r\n",
                "RCPT" | "MAIL" => {
                    envelope.push_str(&line);
                    b"250 ok\r\n"
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => b"250 ok\r\n",
            };
            stream.write_all(answer).await?;
        }
    }

    fn to(to: &str, text: &str) -> Mail {
        Mail {
            to: to.to_owned(),
            subject: "Grüße".to_owned(),
            text: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn messages_go_one_after_the_other_and_one_that_is_refused_holds_up_nobody() {
        let (settings, mut taken) = server().await;
        let (_stop, stopping) = watch::channel(false);
        let mailer = Mailer::start(Arc::new(Smtp::new(&settings).unwrap()), stopping);
        assert!(mailer.is_on() && !Mailer::default().is_on());
        Mailer::default().post(to("nobody@lab.example", ""));
        for name in ["no address", "refused@lab.example", "dana@lab.example"] {
            mailer.post(to(name, "https://test:7420/invite#abc\n"));
        }
        let text = taken.recv().await.unwrap();
        for part in [
            "MAIL FROM:<gpu@lab.example>",
            "RCPT TO:<dana@lab.example>",
            "From: Longshore <gpu@lab.example>",
            "Subject: =?utf-8?",
            "https://test:7420/invite#abc",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// Never answers.
    struct Stuck;

    impl Carrier for Stuck {
        fn carry<'a>(&'a self, _: &'a Mail) -> Carrying<'a> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_holds_up_no_request() {
        let (stop, stopping) = watch::channel(false);
        let mailer = Mailer::start(Arc::new(Stuck), stopping);
        for n in 0..2 * WAITING {
            mailer.post(to("dana@lab.example", &n.to_string()));
        }
        let Mailer(Some(Handing { queue, .. })) = mailer else {
            panic!("it is on")
        };
        assert_eq!(queue.capacity(), 0);
        // One is given up after a while; what waits goes when the coordinator stops.
        let room = tokio::time::timeout(PATIENCE * 2, queue.reserve()).await;
        drop(room.expect("one was given up").unwrap());
        stop.send(true).unwrap();
        tokio::time::timeout(PATIENCE * 3, queue.closed())
            .await
            .unwrap();
    }

    #[test]
    fn a_log_shows_no_link() {
        let mail = to("dana@lab.example", "https://test/reset#secret");
        assert!(!format!("{mail:?}").contains("secret"));
    }
}
