//! Files from a server: into the cache, resumed after a cut, and believed only with the right hash.
//!
//! A body is read by a thread of its own, so that silence has a deadline and an interrupt is heard.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::{Shop, unpack};
use crate::error::{Error, IoContext, Result};
use crate::event::{Event, Phase, Unit};

/// How long a server may take to be reached, and to begin to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long it may be silent in the middle of a file.
const SILENCE: Duration = Duration::from_secs(30);
/// How often what was waited for is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a server is left alone before it is asked again.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a file is asked for, from where it was cut.
const ATTEMPTS: u32 = 4;
/// The longest text that is read into memory; kernel.org's list of hashes has a few hundred kilobytes.
const LONGEST_TEXT: usize = 8 << 20;

/// Asks servers for files.
pub(super) struct Client<'a> {
    shop: &'a Shop<'a>,
    agent: Agent,
    silence: Duration,
    pause: Duration,
}

/// What a request came to.
enum Answer {
    Found(Response<Body>),
    NotFound,
    /// Not now: it cannot be reached, or fails itself.
    Failed(String),
}

/// How the transfer of a body ended.
enum End {
    Whole,
    Cut(String),
}

impl<'a> Client<'a> {
    pub(super) fn new(shop: &'a Shop<'a>) -> Client<'a> {
        let config = Agent::config_builder()
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .max_redirects(5)
            .http_status_as_error(false)
            .user_agent(concat!("kdbg/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { shop, agent: config.into(), silence: SILENCE, pause: PAUSE }
    }

    /// With another deadline for silence, and no pause.
    #[cfg(test)]
    pub(super) fn patient_for(self, silence: Duration) -> Client<'a> {
        Client { silence, pause: Duration::ZERO, ..self }
    }

    /// A small file as text; none where the server has no such file.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer in time, or answers with something else.
    pub(super) fn text(&self, url: &str) -> Result<Option<String>> {
        let response = match self.ask(url, 0)? {
            Answer::Found(response) => response,
            Answer::NotFound => return Ok(None),
            Answer::Failed(why) => return Err(unreachable(url, &why)),
        };
        let mut text = Vec::new();
        let end = self.transfer(response, &mut |chunk| {
            text.extend_from_slice(chunk);
            if text.len() > LONGEST_TEXT {
                Err(Error::kernel(format!("{url} is no list: it is too long")))
            } else {
                Ok(())
            }
        })?;
        match end {
            End::Whole => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            End::Cut(why) => Err(unreachable(url, &why)),
        }
    }

    /// Fetches a file to `partial`, going on from what is there already.
    ///
    /// # Errors
    /// As [`Client::text`]; there is no such file; or it does not have that hash (it is deleted then). What was fetched
    /// before a cut stays.
    pub(super) fn fetch(&self, url: &str, sha256: &str, partial: &Path) -> Result<()> {
        let had = || fs::metadata(partial).map_or(0, |metadata| metadata.len());
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.rest()?;
            }
            self.shop.cancel.check()?;
            let from = had();
            let end = match self.ask(url, from)? {
                // 416: there is nothing beyond what is there. The hash tells whether that is the file.
                Answer::Found(response) if response.status() == 416 => End::Whole,
                Answer::Found(response) => self.save(url, response, from, partial)?,
                Answer::NotFound => return Err(Error::kernel(format!("{url}: the server has no such file"))),
                Answer::Failed(why) if from == 0 => return Err(unreachable(url, &why)),
                Answer::Failed(why) => End::Cut(why),
            };
            match end {
                End::Cut(why) => last = why,
                End::Whole => return verify(url, sha256, partial),
            }
        }
        let error = unreachable(url, &last);
        match had() {
            0 => Err(error),
            kept => {
                let hint = format!("{} MB of it are kept: run again to go on from there", kept / 1_000_000);
                Err(Error { hint: Some(hint), ..error })
            }
        }
    }

    /// Leaves the server alone for a while.
    fn rest(&self) -> Result<()> {
        let mut left = self.pause;
        while !left.is_zero() {
            self.shop.cancel.check()?;
            std::thread::sleep(TICK.min(left));
            left = left.saturating_sub(TICK);
        }
        Ok(())
    }

    fn ask(&self, url: &str, from: u64) -> Result<Answer> {
        let request = self.agent.get(url).header("Accept-Encoding", "identity");
        let request = if from > 0 { request.header("Range", format!("bytes={from}-")) } else { request };
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Answer::Failed(error.to_string())),
        };
        match response.status().as_u16() {
            200 | 206 => Ok(Answer::Found(response)),
            416 if from > 0 => Ok(Answer::Found(response)),
            404 | 410 => Ok(Answer::NotFound),
            status if status >= 500 => Ok(Answer::Failed(format!("the server answers with status {status}"))),
            other => Err(unreachable(url, &format!("the server answers with status {other}"))),
        }
    }

    /// Appends to what is there, or begins anew where the server does not go on from there.
    fn save(&self, url: &str, response: Response<Body>, had: u64, partial: &Path) -> Result<End> {
        let doing = || format!("write {}", partial.display());
        let resumed = response.status() == 206 && begins_at(&response) == Some(had);
        let mut file: File = match resumed {
            true => OpenOptions::new().append(true).open(partial).or_host(doing())?,
            false if response.status() == 206 => {
                return Err(unreachable(url, "the server sends another part than it was asked for"));
            }
            false => File::create(partial).or_host(doing())?,
        };
        let mut done = if resumed { had } else { 0 };
        let total = response.body().content_length().map(|length| done + length);
        if let Some(total) = total {
            // Nothing else than the usual kind of archive is that large.
            let unpacked = total.saturating_mul(unpack::Packing::Xz.factor());
            self.shop
                .cache
                .needs_room((total - done).saturating_add(unpacked), format!("fetching and unpacking {url}"))?;
        }
        let end = self.transfer(response, &mut |chunk| {
            file.write_all(chunk).or_host(doing())?;
            done += chunk.len() as u64;
            self.shop.events.send(Event::PhaseProgress { phase: Phase::Fetch, done, total, unit: Unit::Bytes });
            Ok(())
        })?;
        Ok(match (end, total) {
            (End::Whole, Some(total)) if done < total => End::Cut(format!("it ends after {done} of {total} bytes")),
            (end, _) => end,
        })
    }

    fn transfer(&self, response: Response<Body>, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<End> {
        let chunks = read_in_thread(response);
        let mut silent = Duration::ZERO;
        loop {
            match chunks.recv_timeout(TICK) {
                Ok(Ok(chunk)) => {
                    silent = Duration::ZERO;
                    take(&chunk)?;
                }
                Ok(Err(why)) => return Ok(End::Cut(why)),
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Whole),
                Err(RecvTimeoutError::Timeout) => silent += TICK,
            }
            self.shop.cancel.check()?;
            if silent >= self.silence {
                let patience = humantime::format_duration(self.silence);
                return Ok(End::Cut(format!("the server was silent for {patience}")));
            }
        }
    }
}

/// A thread that reads a body until it ends, or nobody wants it any more.
fn read_in_thread(response: Response<Body>) -> Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = bounded(16);
    std::thread::spawn(move || {
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let chunk = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) => Err(error.to_string()),
            };
            let failed = chunk.is_err();
            if sender.send(chunk).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The first byte of a `Content-Range: bytes 100-199/200`.
fn begins_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn verify(url: &str, sha256: &str, file: &Path) -> Result<()> {
    let found = unpack::hash(file)?;
    if found == sha256 {
        return Ok(());
    }
    let _ = fs::remove_file(file);
    Err(Error::kernel(format!("{url} has the wrong checksum: SHA-256 {found}, not {sha256}")).hint(
        "nothing of it is kept; check the `sha256`, or whether the server was changed or the transfer tampered with",
    ))
}

fn unreachable(url: &str, why: &str) -> Error {
    Error::kernel(format!("cannot fetch {url}: {why}")).hint("check the network and the address")
}

#[cfg(test)]
mod tests;
