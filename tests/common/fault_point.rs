// SPDX-License-Identifier: MPL-2.0

//! A relay to a Postgres server that stops at a statement, so that a test can break something at that very moment.
//!
//! It reads the protocol as far as necessary: it passes on a client's data message by message, and counts the
//! answers. A stopped connection stays so until it is released or cut; all others continue. A script, which is many
//! statements in one message, is passed on in three messages if it must stop within it.
//!
//! Source: "Message Formats" of the frontend/backend protocol in the Postgres documentation. Without TLS only.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a statement may take to arrive, and a stopped one to be released.
const DEADLINE: Duration = Duration::from_secs(60);

/// The mark of a text that may be anywhere in a statement, not only at its beginning.
const ANYWHERE: char = '\u{1}';

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the server gets the statement.
    Before,
    /// The server has it; its answer is held back, if there is one.
    During,
    /// The server has done it; the client does not know it yet.
    After,
}

impl Moment {
    /// Every moment, in order of time.
    pub const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];

    /// Its name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        }
    }
}

/// A relay to a port on 127.0.0.1. Dropping it closes its port and its connections.
pub struct FaultPoint {
    port: u16,
    control: Arc<Control>,
    _end: watch::Sender<()>,
}

struct Control {
    state: watch::Sender<State>,
    /// Where to stop, until such a statement has arrived.
    armed: Mutex<Option<(String, Moment)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// A statement is at the point now.
    reached: bool,
    /// Counts the releases: a stopped connection continues when the number changes.
    releases: u32,
    /// Where the statement that is released stops next.
    next: Option<Moment>,
    /// Counts the cuts likewise.
    cuts: u32,
}

impl FaultPoint {
    /// Relays to `port`.
    pub fn start(port: u16) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening on loopback");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let own = listener.local_addr().expect("an address").port();
        let control = Arc::new(Control { state: watch::channel(State::default()).0, armed: Mutex::default() });
        let (end, ended) = watch::channel(());
        let shared = Arc::clone(&control);
        // On its own thread, so that a blocking test does not stop it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, port, shared, ended));
        });
        Self { port: own, control, _end: end }
    }

    /// The relay's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the next statement that begins with this text, at this moment.
    pub fn arm(&self, statement: &str, moment: Moment) {
        self.control.state.send_modify(|state| state.reached = false);
        *self.control.lock() = Some((statement.to_owned(), moment));
    }

    /// Stops the next statement that contains this text anywhere, at this moment.
    pub fn arm_within(&self, text: &str, moment: Moment) {
        self.arm(&format!("{ANYWHERE}{text}"), moment);
    }

    /// Stops at nothing any more. Stopped statements stay so.
    pub fn disarm(&self) {
        *self.control.lock() = None;
    }

    /// Waits until a statement has reached the point.
    ///
    /// # Panics
    /// When the deadline passes.
    pub async fn reached(&self) {
        let mut state = self.control.state.subscribe();
        let reached = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.reached)).await;
        assert!(reached.is_ok(), "no statement came to the fault point");
    }

    /// Whether a statement has reached the point.
    pub fn is_reached(&self) -> bool {
        self.control.state.borrow().reached
    }

    /// Lets the stopped statement continue.
    pub fn release(&self) {
        self.go_on(None);
    }

    /// Lets a statement that stopped before the server got it continue to a later moment.
    pub fn release_to(&self, moment: Moment) {
        self.go_on(Some(moment));
    }

    fn go_on(&self, next: Option<Moment>) {
        self.control.state.send_modify(|state| {
            *state = State { reached: false, releases: state.releases + 1, next, ..*state };
        });
    }

    /// Closes all connections, stopped or not.
    pub fn cut(&self) {
        self.control.state.send_modify(|state| (state.reached, state.cuts) = (false, state.cuts + 1));
    }
}

impl Control {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, Moment)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment to stop at for this statement; then no other statement is stopped.
    fn take(&self, statement: &str) -> Option<Moment> {
        self.lock().take_if(|(text, _)| is_it(text, statement)).map(|(_, moment)| moment)
    }

    /// The messages to pass on: a script is split into the part before the statement to stop at, that statement, and
    /// the rest.
    fn split(&self, message: Vec<u8>) -> Vec<Vec<u8>> {
        const END: &str = "\n;\n";
        let Some(script) = statement(&message).filter(|_| message[0] == b'Q') else { return vec![message] };
        let statements: Vec<_> = script.split_inclusive(END).collect();
        let armed = self.lock().clone();
        let at = armed.and_then(|(text, _)| statements.iter().position(|statement| is_it(&text, statement)));
        let Some(at) = at.filter(|_| statements.len() > 1) else { return vec![message] };
        let parts = [&statements[..at], &statements[at..=at], &statements[at + 1..]];
        parts.into_iter().filter(|part| !part.is_empty()).map(|part| query(&part.concat())).collect()
    }

    /// Reports that a statement is at the point, and waits until it may continue. Returns where it stops next.
    async fn stop(&self) -> Option<Moment> {
        let releases = self.state.borrow().releases;
        self.state.send_modify(|state| state.reached = true);
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.releases != releases).await.ok().and_then(|state| state.next)
    }
}

/// Whether a statement is one to stop at.
fn is_it(armed: &str, statement: &str) -> bool {
    // A plan's trial that is rolled back is not the real change.
    let is_real = !statement.contains("neonrepl_trial");
    is_real
        && match armed.strip_prefix(ANYWHERE) {
            Some(text) => statement.contains(text),
            None => statement.trim_start().starts_with(armed),
        }
}

async fn serve(listener: StdListener, target: u16, control: Arc<Control>, mut ended: watch::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.changed() => return,
        };
        let Ok((client, _)) = accepted else { continue };
        let control = Arc::clone(&control);
        let (mut cut, cuts) = (control.state.subscribe(), control.state.borrow().cuts);
        tokio::spawn(async move {
            tokio::select! {
                _ = relay(client, target, &control) => {}
                _ = cut.wait_for(|state| state.cuts != cuts) => {}
            }
        });
    }
}

/// The shared state of both directions of a connection.
#[derive(Default)]
struct Progress {
    /// How many answers the server must give: each ends with ReadyForQuery.
    asked: AtomicU32,
    /// How many of them it has given so far.
    answered: watch::Sender<u32>,
    /// The answers to parts of a script whose end the client must not get, because it waits for only one.
    unheard: Mutex<BTreeSet<u32>>,
    /// The answer that is held back, and the requested moment; 0 if there is none.
    held: watch::Sender<(u32, Option<Moment>)>,
}

async fn relay(client: TcpStream, target: u16, control: &Control) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    start_up(&mut from_client, &mut to_client, &mut to_server).await?;
    let progress = Progress::default();
    progress.asked.store(1, Ordering::SeqCst);
    let there = ask(from_client, to_server, control, &progress);
    let back = answer(from_server, to_client, control, &progress);
    // If one side has gone, the other connection is closed.
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}

/// Passes on the messages before the first one with a type; declines encryption for the server.
async fn start_up(
    client: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
    loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; length.saturating_sub(4) as usize];
        client.read_exact(&mut body).await?;
        let code = body.first_chunk().map(|code| u32::from_be_bytes(*code)).unwrap_or_default();
        if ENCRYPTION.contains(&code) {
            to_client.write_all(b"N").await?;
            continue;
        }
        return server.write_all(&[&length.to_be_bytes(), body.as_slice()].concat()).await;
    }
}

/// One message, whole.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 5];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    bytes.resize(length + 1, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok(bytes)
}

/// The statement in a message, if it has one: Query, or Parse after the name.
fn statement(message: &[u8]) -> Option<String> {
    let mut texts = message.get(5..)?.split(|byte| *byte == 0);
    let text = match message[0] {
        b'Q' => texts.next(),
        b'P' => texts.nth(1),
        _ => None,
    };
    text.map(|text| String::from_utf8_lossy(text).into_owned())
}

/// The message of a script.
fn query(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len() + 5).expect("a message of less than 4 GiB");
    [b"Q".as_slice(), &length.to_be_bytes(), text.as_bytes(), b"\0"].concat()
}

/// Passes on the client's messages, and stops at the requested statement.
async fn ask(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    control: &Control,
    progress: &Progress,
) -> io::Result<()> {
    let mut stop_at = None;
    loop {
        let parts = control.split(message(&mut client).await?);
        let last = parts.len() - 1;
        for (at, message) in parts.into_iter().enumerate() {
            let mut moment = statement(&message).and_then(|text| control.take(&text));
            if moment == Some(Moment::Before) {
                // The server has finished all earlier statements.
                let asked = progress.asked.load(Ordering::SeqCst);
                let _ = progress.answered.subscribe().wait_for(|answered| *answered >= asked).await;
                moment = control.stop().await;
            }
            let next = progress.asked.load(Ordering::SeqCst) + 1;
            if let Some(moment) = moment {
                stop_at = Some(moment);
                progress.held.send_replace((next, Some(moment)));
            }
            if at < last {
                progress.unheard.lock().unwrap_or_else(PoisonError::into_inner).insert(next);
            }
            server.write_all(&message).await?;
            if matches!(message[0], b'Q' | b'S') {
                progress.asked.fetch_add(1, Ordering::SeqCst);
                match stop_at.take() {
                    Some(Moment::During) => {
                        control.stop().await;
                        progress.held.send_replace((0, None));
                    }
                    // Later messages wait too, so that nothing after the statement is done.
                    Some(_) => drop(progress.held.subscribe().wait_for(|(held, _)| *held == 0).await),
                    None => {}
                }
            }
        }
    }
}

/// Passes on the server's messages, except an answer that is held back.
async fn answer(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    control: &Control,
    progress: &Progress,
) -> io::Result<()> {
    let (mut ready, mut kept) = (0, Vec::new());
    loop {
        let message = message(&mut server).await?;
        let (held, moment) = *progress.held.borrow();
        let is_held = held != 0 && ready + 1 >= held;
        ready += u32::from(message[0] == b'Z');
        progress.answered.send_replace(ready);
        let is_unheard =
            message[0] == b'Z' && progress.unheard.lock().unwrap_or_else(PoisonError::into_inner).remove(&ready);
        kept.extend(Some(message).filter(|_| !is_unheard).into_iter().flatten());
        if is_held && ready >= held {
            match moment {
                Some(Moment::After) => {
                    control.stop().await;
                    progress.held.send_replace((0, None));
                }
                _ => drop(progress.held.subscribe().wait_for(|(held, _)| *held == 0).await),
            }
        }
        if !is_held || ready >= held {
            client.write_all(&std::mem::take(&mut kept)).await?;
        }
    }
}
