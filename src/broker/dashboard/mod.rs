//! The status as a page, for whoever is handed its address (`distcc --dashboard`).
//!
//! There is no port until the user asks, over the broker's own socket, which is theirs alone. Then there is
//! one of loopback, with a token that is new each time, until nobody with that token has come for an hour.
//! The page asks for the report as `--status` does, once a second while somebody looks, and may hold hosts.

pub mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::request::Wish;
use super::Shared;
use super::dispatch::Message;
use super::session::hold_host;
use super::visitors;
use crate::common::page::{Token, answer_page};

/// The page. It shows what the report says, as text: what a peer calls itself is never markup.
const PAGE: &str = include_str!("page.html");

/// Without a visitor who has the token for this long, the port is closed.
const IDLE: Duration = Duration::from_secs(3600);

/// Askers that wait at a time; more find it busy, and are told so.
const ASKERS_MAX: usize = 16;

/// Somebody who wants to know the address, or why there is none.
pub type Asker = oneshot::Sender<Result<String, String>>;

/// Where askers go, and where they arrive.
pub fn asking() -> (mpsc::Sender<Asker>, mpsc::Receiver<Asker>) {
    mpsc::channel(ASKERS_MAX)
}

/// Opens the page when somebody asks, and closes it when nobody comes; never returns.
pub async fn run(mut askers: mpsc::Receiver<Asker>, shared: Arc<Shared>) {
    loop {
        let Some(asker) = askers.recv().await else { return std::future::pending().await };
        match Door::open().await {
            Ok((door, listener)) => {
                let _ = asker.send(Ok(door.address.clone()));
                tracing::info!(port = door.port, "the dashboard is open");
                let (token, used, owner) = (door.token.clone(), Arc::clone(&door.used), Arc::clone(&shared));
                let answer = move |head: Vec<u8>| {
                    let (token, used, owner) = (token.clone(), Arc::clone(&used), Arc::clone(&owner));
                    async move { answer(&head, &token, &used, &owner).await }
                };
                door.serve(visitors::serve(listener, answer), &mut askers, IDLE).await;
                tracing::info!("the dashboard is closed: nobody came");
            }
            Err(why) => drop(asker.send(Err(why))),
        }
    }
}

/// A page that is open.
struct Door {
    token: Token,
    address: String,
    port: u16,
    /// When somebody with the token came last.
    used: Arc<Mutex<Instant>>,
}

impl Door {
    async fn open() -> Result<(Self, TcpListener), String> {
        let token = Token::generate().ok_or("the system has no random numbers")?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |error| format!("cannot listen on {}: {error}", loopback.ip());
        let listener = TcpListener::bind(loopback).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        let address = token.address(at);
        let door = Door { token, address, port: at.port(), used: Arc::new(Mutex::new(Instant::now())) };
        Ok((door, listener))
    }

    /// Receives visits until nobody has come for so long.
    async fn serve(
        self,
        visits: impl Future<Output = ()>,
        askers: &mut mpsc::Receiver<Asker>,
        idle: Duration,
    ) {
        tokio::pin!(visits);
        loop {
            let until = self.last_used() + idle;
            tokio::select! {
                () = &mut visits => return,
                Some(asker) = askers.recv() => {
                    use_now(&self.used);
                    let _ = asker.send(Ok(self.address.clone()));
                }
                () = sleep_until(until) => if self.last_used() + idle <= Instant::now() { return },
            }
        }
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn use_now(used: &Mutex<Instant>) {
    *used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

async fn answer(head: &[u8], token: &Token, used: &Mutex<Instant>, shared: &Shared) -> Vec<u8> {
    let wish = match request::read(head, token) {
        Ok(Wish::Page) => return answer_page(PAGE),
        Ok(wish) => wish,
        Err(refusal) => return refusal,
    };
    use_now(used);
    match wish {
        Wish::Hold(host, hold) => request::held(&hold_host(shared, host, hold).await),
        Wish::Page | Wish::Look => {
            let (reply, report) = oneshot::channel();
            // A dispatcher that is gone leaves an empty document.
            let _ = shared.inbox.send(Message::Status(reply)).await;
            let report = report.await.unwrap_or_default();
            request::document(&serde_json::to_string(&report).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::common::page::tests::check_page;

    #[tokio::test]
    async fn a_page_that_nobody_comes_to_is_closed_and_the_next_has_another_token() {
        let (sender, mut askers) = asking();
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let (door, listener) = Door::open().await.expect("a port");
            let (at, address) = (listener.local_addr().expect("an address"), door.address.clone());
            let (asker, answer) = oneshot::channel();
            sender.send(asker).await.expect("somebody listens");
            // Only this page answers so, whoever is given its port afterwards.
            let mark = address.clone();
            let visits = visitors::serve(listener, move |_| std::future::ready(mark.clone().into_bytes()));
            let served = door.serve(visits, &mut askers, Duration::from_millis(100));
            tokio::time::timeout(Duration::from_secs(20), served).await.expect("it closes");
            assert_eq!(
                answer.await.expect("an answer"),
                Ok(address.clone()),
                "who asks again is told the same"
            );
            assert_ne!(told_at(at).await, address.as_bytes(), "the port is still open");
            tokens.push(address.split_once('#').expect("a token").1.to_owned());
        }
        assert_ne!(tokens[0], tokens[1]);
    }

    /// What is said to whoever comes to that address.
    async fn told_at(at: SocketAddr) -> Vec<u8> {
        let Ok(mut stream) = TcpStream::connect(at).await else { return Vec::new() };
        let mut told = Vec::new();
        let talk = async {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
            (&mut stream).take(1000).read_to_end(&mut told).await
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), talk).await;
        told
    }

    #[test]
    fn the_page_runs_nothing_but_its_own_script_and_fetches_nothing_from_elsewhere() {
        check_page([answer_page(PAGE), answer_page(PAGE)]);
    }
}
