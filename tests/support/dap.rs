//! A client of the Debug Adapter Protocol: what an editor is to a debug adapter, as far as the tests play one.
//!
//! The protocol is JSON with a header, `Content-Length`
//! (<https://microsoft.github.io/debug-adapter-protocol/specification>, "Base protocol"). Every wait has a deadline.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Place;

/// How long an answer, or an event, may take: GDB reads a kernel's symbols meanwhile.
const LIMIT: Duration = Duration::from_secs(60);
/// The adapter's entry for what GDB attaches to, where `cargo xtask setup` has put it.
const PROGRAM: &str = "adapter/node_modules/cdt-gdb-adapter/dist/debugTargetAdapter.js";

/// A debug adapter, and the debugger behind it. Dropping it kills it.
pub(crate) struct Adapter {
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    /// Events that nobody has waited for yet.
    events: Vec<Value>,
    sent: u64,
}

impl Adapter {
    /// Starts CDT GDB's, and greets it.
    pub(crate) fn start(place: &Place) -> Adapter {
        let mut node = place.surround(Command::new("node"));
        node.arg(program()).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = node.spawn().unwrap();
        let (sender, messages) = channel();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = read(&mut from) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let requests = child.stdin.take().unwrap();
        let mut adapter = Adapter { child, requests, messages, events: Vec::new(), sent: 0 };
        adapter.request("initialize", json!({ "adapterID": "gdbtarget", "pathFormat": "path", "linesStartAt1": true }));
        adapter
    }

    /// The body of the answer to a request, which must succeed.
    pub(crate) fn request(&mut self, command: &str, arguments: Value) -> Value {
        self.send(command, arguments);
        let answer = self.answer(self.sent, command);
        assert_eq!(answer["success"], true, "{command}: {answer}");
        answer["body"].clone()
    }

    fn send(&mut self, command: &str, arguments: Value) {
        self.sent += 1;
        let mut message = json!({ "seq": self.sent, "type": "request", "command": command });
        message["arguments"] = arguments;
        let text = message.to_string();
        write!(self.requests, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    }

    /// The body of the next event of this kind, that has come already or is to come.
    pub(crate) fn event(&mut self, kind: &str) -> Value {
        let is = |message: &Value| message["event"] == kind;
        let found = self.events.iter().position(is);
        let event = match found {
            Some(at) => self.events.remove(at),
            None => self.next(kind, |message| is(message)),
        };
        event["body"].clone()
    }

    /// Waits for the next stop. Why it is one, and the thread.
    pub(crate) fn stopped(&mut self) -> (String, Value) {
        let body = self.event("stopped");
        (body["reason"].as_str().unwrap().to_string(), body["threadId"].clone())
    }

    /// The frames of a thread, the innermost first.
    pub(crate) fn frames(&mut self, thread: &Value) -> Vec<Value> {
        let body = self.request("stackTrace", json!({ "threadId": thread, "startFrame": 0, "levels": 100 }));
        body["stackFrames"].as_array().unwrap().clone()
    }

    /// The variables of a frame, arguments and locals, as name and value.
    pub(crate) fn variables(&mut self, frame: &Value) -> Vec<(String, String)> {
        let scopes = self.request("scopes", json!({ "frameId": frame["id"] }));
        let scope = scopes["scopes"].as_array().unwrap().iter().find(|scope| scope["name"] != "Registers").cloned();
        let reference = scope.expect("a scope of variables")["variablesReference"].clone();
        let body = self.request("variables", json!({ "variablesReference": reference }));
        let variables = body["variables"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
    }

    /// Has GDB do this, as its console would. What it says comes as events of output.
    pub(crate) fn console(&mut self, frame: &Value, command: &str) {
        let expression = format!(">{command}");
        self.request("evaluate", json!({ "expression": expression, "context": "repl", "frameId": frame["id"] }));
    }

    fn answer(&mut self, to: u64, command: &str) -> Value {
        self.next(command, |message| message["type"] == "response" && message["request_seq"] == to)
    }

    /// The next message that is wanted; events before it are kept.
    fn next(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left).unwrap_or_else(|error| {
                panic!("waited in vain for {what} ({error}); events since: {:#?}", self.events)
            });
            if is(&message) {
                return message;
            }
            if message["type"] == "event" {
                self.events.push(message);
            }
        }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the adapter is.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join(PROGRAM);
    assert!(program.is_file(), "there is no debug adapter to test with: `cargo xtask setup` installs it");
    program
}

/// The next message; none when the adapter has ended.
fn read(from: &mut impl BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => length = line.strip_prefix("Content-Length: ").and_then(|length| length.parse().ok()).or(length),
        }
    }
    let mut body = vec![0; length?];
    from.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
