// SPDX-License-Identifier: MPL-2.0

//! A TCP relay on loopback with any distance that a test needs, which can also disappear.
//!
//! It runs on its own thread, so that a blocking test does not stop it.

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::wait::block_until;

/// A relay to a port on 127.0.0.1. Dropping it closes its port and its connections.
pub struct Relay {
    port: u16,
    state: watch::Sender<State>,
    listening: Arc<AtomicBool>,
    waits: Arc<AtomicUsize>,
}

/// How long the relay may take to follow a command.
const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// How often all connections were cut: a connection ends when the number differs from its start.
    cuts: u32,
    /// The delay of a byte in one direction.
    delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Refusing,
}

impl Relay {
    /// Relays to `port`, adding `round_trip` to each question and answer, and to each connect.
    pub fn start(port: u16, round_trip: Duration) -> Self {
        let listener = listen(0).expect("listening on loopback");
        let own = listener.local_addr().expect("an address").port();
        let (state, changes) = watch::channel(State { mode: Mode::Open, cuts: 0, delay: round_trip / 2 });
        let listening = Arc::new(AtomicBool::new(true));
        let (flag, waits) = (Arc::clone(&listening), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&waits);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            // The end of `run` drops the runtime, and with it every connection.
            runtime.block_on(run(listener, port, changes, flag, counted));
        });
        Self { port: own, state, listening, waits }
    }

    /// The relay's own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many round trips clients have waited for: one for each connection, and one whenever a client sent something
    /// after it had received something. Data that it sends without such a wait counts once.
    pub fn round_trips(&self) -> usize {
        self.waits.load(Ordering::Relaxed)
    }

    /// Changes the added round-trip time for data that is sent from now on.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.state.send_modify(|state| state.delay = round_trip / 2);
    }

    /// Closes all connections; new ones are served.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Closes all connections and refuses new ones, like a stopped server, until `open`.
    pub fn refuse(&self) {
        self.state.send_modify(|state| (state.mode, state.cuts) = (Mode::Refusing, state.cuts + 1));
        self.until_listening(false);
    }

    /// Passes nothing on, like a network that drops packets, until `open`.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.mode = Mode::Stalled);
    }

    /// Ends `refuse` or `stall`.
    pub fn open(&self) {
        self.state.send_modify(|state| state.mode = Mode::Open);
        self.until_listening(true);
    }

    fn until_listening(&self, wanted: bool) {
        block_until("the relay to follow", DEADLINE, || {
            (self.listening.load(Ordering::Acquire) == wanted).then_some(())
        });
    }
}

/// Listens until told to refuse, then until told to open again; ends with the relay.
async fn run(
    first: StdListener,
    target: u16,
    state: watch::Receiver<State>,
    listening: Arc<AtomicBool>,
    waits: Arc<AtomicUsize>,
) {
    let port = first.local_addr().expect("an address").port();
    let mut next = Some(first);
    loop {
        let listener = next.take().map_or_else(|| listen(port), Ok);
        let Ok(listener) = listener.and_then(TcpListener::from_std) else {
            if state.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(POLL).await;
            continue;
        };
        listening.store(true, Ordering::Release);
        let told = tokio::select! {
            () = serve(&listener, target, &state, &waits) => Ok(()),
            told = refusing(state.clone(), true) => told,
        };
        drop(listener);
        listening.store(false, Ordering::Release);
        if told.is_err() || refusing(state.clone(), false).await.is_err() {
            return;
        }
    }
}

fn listen(port: u16) -> io::Result<StdListener> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Waits until the relay refuses connections, or until it does not. An error means that the relay is gone.
async fn refusing(mut state: watch::Receiver<State>, wanted: bool) -> Result<(), watch::error::RecvError> {
    state.wait_for(|state| (state.mode == Mode::Refusing) == wanted).await.map(|_| ())
}

async fn serve(listener: &TcpListener, target: u16, state: &watch::Receiver<State>, waits: &Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let (mut cut, state) = (state.clone(), state.clone());
        let State { mode, cuts, .. } = *state.borrow();
        if mode == Mode::Refusing {
            return;
        }
        let turns = Turns::of(Arc::clone(waits));
        tokio::spawn(async move {
            tokio::select! {
                _ = relay(client, target, state, turns) => {}
                _ = cut.wait_for(|state| state.cuts != cuts) => {}
            }
        });
    }
}

/// The message that ends a connection of Postgres.
const GOODBYE: &[u8] = b"X\0\0\0\x04";

/// Tracks whose turn it is on a connection. Data that a client sends after it has received something had to wait for
/// that.
#[derive(Clone)]
struct Turns {
    has_heard: Arc<AtomicBool>,
    /// When the client last sent something.
    spoke: Arc<Mutex<Option<Instant>>>,
    waits: Arc<AtomicUsize>,
}

impl Turns {
    /// The turns of a new connection, which counts as a wait too.
    fn of(waits: Arc<AtomicUsize>) -> Self {
        waits.fetch_add(1, Ordering::Relaxed);
        Self { has_heard: Arc::new(AtomicBool::new(true)), spoke: Arc::default(), waits }
    }

    fn client_speaks(&self, said: &[u8], round_trip: Duration) {
        let last = self.spoke.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        let has_waited = last.is_none_or(|last| last.elapsed() >= round_trip.mul_f64(0.9));
        // Nobody waits after the final message.
        if said != GOODBYE && has_waited && self.has_heard.swap(false, Ordering::Relaxed) {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client_hears(&self) {
        self.has_heard.store(true, Ordering::Relaxed);
    }
}

async fn relay(client: TcpStream, target: u16, state: watch::Receiver<State>, turns: Turns) -> io::Result<()> {
    let connect = state.borrow().delay * 2;
    tokio::time::sleep(connect).await;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let speaks = turns.clone();
    let distance = state.clone();
    let there = pass(
        from_client,
        to_server,
        state.clone(),
        move |said| speaks.client_speaks(said, distance.borrow().delay * 2),
        || {},
    );
    let back = pass(from_server, to_client, state, |_| {}, move || turns.client_hears());
    tokio::try_join!(there, back).map(|_| ())
}

/// Passes bytes in one direction. Reading continues while earlier bytes are delayed, so that the delay costs no
/// throughput.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    read_one: impl Fn(&[u8]),
    write_one: impl Fn(),
) -> io::Result<()> {
    let (sender, mut flying) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 || sender.send((Instant::now(), buffer[..read].to_vec())).is_err() {
                return io::Result::Ok(());
            }
            read_one(&buffer[..read]);
        }
    };
    let writing = async move {
        while let Some((sent, bytes)) = flying.recv().await {
            let delay = state.borrow().delay;
            tokio::time::sleep_until(sent + delay).await;
            let _ = state.wait_for(|state| state.mode != Mode::Stalled).await;
            write_one();
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}
