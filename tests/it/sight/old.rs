//! A volunteer of an older protocol: it has a key that the client knows, and says another version.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use distcc::common::protocol::io::push_message;
use distcc::common::protocol::link::{ToBroker, VERSION};
use distcc::remote::trust::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::farm::Farm;

/// How long it listens to one client.
const VISIT_MAX: Duration = Duration::from_secs(2);

/// It runs until it is dropped.
pub struct OldVolunteer {
    /// The port that it listens on.
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OldVolunteer {
    /// Starts it.
    pub fn start(farm: &Farm) -> Self {
        let state = farm.home().with_file_name("old").join("state");
        farm.introduce(&state);
        let trust = Trust::open(&state).expect("keys");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(Ok((client, _))) = timeout(Duration::from_millis(50), listener.accept()).await {
                        // Whoever connects to see whether the port is open says nothing.
                        let _ = timeout(VISIT_MAX, serve(&trust, client)).await;
                    }
                }
            });
        });
        OldVolunteer { port, stop, thread: Some(thread) }
    }
}

async fn serve(trust: &Trust, client: tokio::net::TcpStream) -> std::io::Result<()> {
    let (mut stream, _) = trust.shake_hands(client).await?;
    let mut hello = [0; 1024];
    let _ = stream.read(&mut hello).await?;
    let mut words = Vec::new();
    push_message(&mut words, &ToBroker::Hello { version: VERSION - 1, build: "0.0.1".to_owned(), slots: 4 });
    stream.write_all(&words).await?;
    stream.flush().await?;
    stream.read(&mut hello).await.map(drop)
}

impl Drop for OldVolunteer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
