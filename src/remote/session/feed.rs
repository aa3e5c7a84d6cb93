//! Data on its way from a link's loop to the task that takes it, piece by piece.

use tokio::sync::mpsc;

/// What has arrived and waits until the task is ready for it.
#[derive(Debug)]
pub struct Feed {
    sender: mpsc::Sender<Vec<u8>>,
    pending: Vec<u8>,
    /// Whether the task works on a piece.
    busy: bool,
    /// What is still to come.
    missing: u64,
}

impl Feed {
    /// A feed of so many bytes, and the task's end of it.
    pub fn new(bytes: u64) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Feed { sender, pending: Vec::new(), busy: false, missing: bytes }, receiver)
    }

    /// What is still to come.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Takes a piece; false when it is more than was announced.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(missing) = self.missing.checked_sub(bytes.len() as u64) else { return false };
        self.missing = missing;
        self.pending.extend_from_slice(bytes);
        self.hand_over();
        true
    }

    /// The task is done with its piece.
    pub fn consumed(&mut self) {
        self.busy = false;
        self.hand_over();
    }

    fn hand_over(&mut self) {
        if !self.busy && !self.pending.is_empty() {
            // A full or closed channel cannot be: the task is idle, or over and soon removed.
            self.busy = self.sender.try_send(std::mem::take(&mut self.pending)).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_together_while_the_task_is_busy() {
        let (mut feed, mut pieces) = Feed::new(6);
        assert!(feed.take(b"1"));
        assert!(feed.take(b"23") && feed.take(b"45"));
        assert_eq!(pieces.try_recv().unwrap(), b"1");
        assert!(pieces.try_recv().is_err());
        feed.consumed();
        assert_eq!(pieces.try_recv().unwrap(), b"2345");
        assert_eq!(feed.missing(), 1);
        assert!(!feed.take(b"67"));
    }
}
