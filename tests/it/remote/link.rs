//! The broker's end of a link, as simple as the protocol allows.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;

use distcc::broker::unpack::Piece;
use distcc::common::action::{Action, Argument, Blob, InputSet, OutputName};
use distcc::common::bytes::Bytes;
use distcc::common::protocol::io::{push_data, push_message};
use distcc::common::protocol::link::{
    FrameHeader, FrameKind, JobResult, OPENING, Part, Refusal, ToBroker, ToVolunteer, VERSION,
};
use distcc::common::protocol::wire;
use distcc::common::toolchain::{Digest, Toolchain};
use distcc::common::trust::key::Identity;
use distcc::common::trust::tls;
use rustls::{ClientConnection, StreamOwned};

use super::volunteer::PATIENCE;

/// A connection without TLS.
pub fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The broker's end of a link.
pub struct Link {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    /// Data of jobs that nobody has taken yet.
    data: HashMap<u32, Vec<u8>>,
    messages: VecDeque<ToBroker>,
}

impl Link {
    /// Connects with this key to whichever volunteer is there.
    pub fn connect(port: u16, client: &Identity) -> Self {
        let config = tls::client(client, Box::new(|_| true)).unwrap().config;
        let connection = ClientConnection::new(config, tls::nobody_in_particular()).unwrap();
        Link {
            stream: StreamOwned::new(connection, dial(port)),
            data: HashMap::new(),
            messages: VecDeque::new(),
        }
    }

    pub fn hello(&mut self) {
        self.stream.write_all(&OPENING).unwrap();
        self.send(&ToVolunteer::Hello { version: VERSION, build: "test".into(), client: "test".into() });
        assert!(matches!(self.next(), ToBroker::Hello { version: VERSION, slots: 2, .. }));
        self.wait(|message| matches!(message, ToBroker::Credit { .. }));
    }

    pub fn send(&mut self, message: &ToVolunteer) {
        let mut bytes = Vec::new();
        push_message(&mut bytes, message);
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn frame(&mut self) -> (FrameHeader, Vec<u8>) {
        let mut head = [0; FrameHeader::LEN];
        self.stream.read_exact(&mut head).unwrap();
        let header = FrameHeader::decode(&head).unwrap();
        let mut body = vec![0; header.length as usize];
        self.stream.read_exact(&mut body).unwrap();
        (header, body)
    }

    /// The next message; data that come before it are kept for who takes that job's.
    pub fn next(&mut self) -> ToBroker {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            self.take_in();
        }
    }

    /// Takes in one frame.
    fn take_in(&mut self) {
        let (header, body) = self.frame();
        match header.kind {
            FrameKind::Data => self.data.entry(header.job).or_default().extend(body),
            _ => self.messages.push_back(wire::decode(&body).unwrap()),
        }
    }

    /// The next message that is wanted; keep-alives and credits pass.
    pub fn wait(&mut self, wanted: impl Fn(&ToBroker) -> bool) -> ToBroker {
        loop {
            match self.next() {
                message if wanted(&message) => return message,
                // A broker is never silent for long: it says something when the volunteer does.
                ToBroker::Pong { token: 0 } => self.send(&ToVolunteer::Ping { token: 1 }),
                ToBroker::Pong { .. }
                | ToBroker::Credit { .. }
                | ToBroker::Window { .. }
                | ToBroker::Able { .. }
                | ToBroker::Clock { .. }
                | ToBroker::Draining => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub fn submit(&mut self, job: u32, toolchain: &Toolchain, text: &[u8], options: &[&str]) -> Vec<u8> {
        let packed = zstd::encode_all(text, 1).unwrap();
        let plain = |word: &&str| Argument::Plain(Bytes::from(*word));
        let mut arguments: Vec<Argument> = options.iter().map(plain).collect();
        arguments.extend([plain(&"-c"), Argument::Input, plain(&"-o"), Argument::Output(0)]);
        let action = Action {
            toolchain: toolchain.clone(),
            arguments,
            environment: vec![],
            inputs: InputSet::Preprocessed {
                source: Blob {
                    digest: Digest::of(text),
                    size: text.len() as u64,
                    packed: packed.len() as u64,
                },
                suffix: ".i".to_owned(),
            },
            outputs: vec![OutputName { suffix: ".o".to_owned() }],
        };
        self.send(&ToVolunteer::Job { job, action: Box::new(action), deadline_ms: 60_000 });
        packed
    }

    /// Submits a job whose input is not there yet, and sends it.
    pub fn start_job(&mut self, job: u32, toolchain: &Toolchain, text: &[u8]) {
        let packed = self.submit(job, toolchain, text, &[]);
        self.wait(|message| *message == ToBroker::NeedInput { job });
        let mut bytes = Vec::new();
        for chunk in packed.chunks(1000) {
            push_data(&mut bytes, job, chunk);
        }
        self.stream.write_all(&bytes).unwrap();
    }

    pub fn result(&mut self) -> (JobResult, Vec<Vec<u8>>) {
        let result = self.wait(|message| matches!(message, ToBroker::Result(_)));
        let ToBroker::Result(result) = result else { unreachable!("waited for a result") };
        let parts = self.parts_of(&result);
        (result, parts)
    }

    /// So many bytes of a job; what belongs to others may come between.
    pub fn data_of(&mut self, job: u32, total: u64) -> Vec<u8> {
        let mut data = Vec::new();
        while (data.len() as u64) < total {
            match self.data.remove(&job) {
                Some(more) => {
                    let bytes = more.len() as u32;
                    data.extend(more);
                    self.send(&ToVolunteer::Window { job, bytes });
                }
                None => self.take_in(),
            }
        }
        assert_eq!(data.len() as u64, total);
        data
    }

    /// What a result has announced.
    pub fn parts_of(&mut self, result: &JobResult) -> Vec<Vec<u8>> {
        let parts: Vec<Part> =
            [result.stdout, result.stderr].into_iter().chain(result.outputs.iter().copied()).collect();
        let total: u64 = parts.iter().map(|part| part.packed).sum();
        let data = self.data_of(result.job, total);
        let mut rest = &data[..];
        let unpacked = parts.iter().map(|part| Piece::take(&mut rest, part).and_then(Piece::to_vec).unwrap());
        unpacked.collect()
    }

    pub fn refusal(&mut self) -> Refusal {
        match self.wait(|message| matches!(message, ToBroker::Refused { .. })) {
            ToBroker::Refused { why, .. } => why,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Whether the volunteer closes, after whatever it still says.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            // Cut off, which TLS tells from an end.
            Err(error) => {
                use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
            }
        }
    }
}
