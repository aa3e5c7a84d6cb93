//! Telling a shim that its request has come, where it does not hear of more soon.

use std::io;
use std::pin::{Pin, pin};

use interprocess::local_socket::tokio::Stream;
use tokio::time::{Sleep, sleep};

use super::write;
use crate::common::protocol::local::{ACK_DELAY, Kind};

/// The `Ack` that is due when the answer is not there soon.
pub struct Due(Option<Pin<Box<Sleep>>>);

impl Due {
    /// Of a request that has come just now.
    pub fn new() -> Self {
        Due(Some(Box::pin(sleep(ACK_DELAY))))
    }

    /// Ends when it is to be written; never, where it was.
    pub async fn wait(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }

    /// What `work` comes to, with the `Ack` written meanwhile when it is due.
    pub async fn during<T>(&mut self, stream: &mut Stream, work: impl Future<Output = T>) -> io::Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = self.wait() => write(stream, Kind::Ack, &[]).await?,
            }
        }
    }
}
