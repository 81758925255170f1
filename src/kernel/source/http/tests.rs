//! Against a server on loopback that behaves as told.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;
use crate::digest::sha256;
use crate::event::{Cancel, Events};
use crate::store::Cache;

/// Serves one connection after the other: gets the value of the request's `Range`, gives the raw answer, and holds the
/// connection open that long. Ends after as many connections as there are answers, and tells the ranges.
fn serve(answers: Vec<(Vec<u8>, Duration)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/linux.tar.xz", listener.local_addr().unwrap());
    let own = url.clone();
    let thread = std::thread::spawn(move || {
        let serve_one = |(answer, hold): (Vec<u8>, Duration)| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let mut range = String::new();
            for line in lines.take_while(|line| !line.is_empty()) {
                if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
                    range = value.into();
                }
            }
            let answer = String::from_utf8(answer).map(|text| text.replace("SELF", &own).into_bytes());
            let _ = stream.write_all(&answer.unwrap_or_default());
            std::thread::sleep(hold);
            range
        };
        answers.into_iter().map(serve_one).collect()
    });
    (url, thread)
}

fn answer(head: &str, body: &str) -> (Vec<u8>, Duration) {
    (format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").into_bytes(), Duration::ZERO)
}

/// What fetching `abcdefgh` comes to, after `had` was fetched before; the ranges that were asked for; what is kept.
fn fetch(had: &str, answers: Vec<(Vec<u8>, Duration)>) -> (Result<()>, Vec<String>, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().into()).unwrap();
    let (events, cancel) = (Events::none(), Cancel::default());
    let shop = Shop { cache: &cache, events: &events, cancel: &cancel };
    let partial = folder.path().join("partial");
    if !had.is_empty() {
        fs::write(&partial, had).unwrap();
    }
    let (url, server) = serve(answers);
    let client = Client::new(&shop).patient_for(Duration::from_millis(300));
    let result = client.fetch(&url, &sha256("abcdefgh"), &partial);
    (result, server.join().unwrap(), fs::read_to_string(partial).ok())
}

#[track_caller]
fn assert_fetched(had: &str, answers: Vec<(Vec<u8>, Duration)>, ranges: &[&str]) {
    let (result, asked, kept) = fetch(had, answers);
    result.unwrap();
    assert_eq!(
        (asked.iter().map(String::as_str).collect::<Vec<_>>(), kept.as_deref()),
        (ranges.to_vec(), Some("abcdefgh"))
    );
}

const WHOLE: &str = "200 OK\r\nContent-Length: 8";

#[test]
fn a_file_comes_whole() {
    assert_fetched("", vec![answer(WHOLE, "abcdefgh")], &[""]);
}

#[test]
fn a_file_that_is_cut_is_gone_on_with() {
    let rest = answer("206 Partial Content\r\nContent-Range: bytes 3-7/8\r\nContent-Length: 5", "defgh");
    assert_fetched("", vec![answer(WHOLE, "abc"), rest.clone()], &["", "bytes=3-"]);
    assert_fetched("abc", vec![rest], &["bytes=3-"]);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    assert_fetched("abc", vec![answer(WHOLE, "abcdefgh")], &["bytes=3-"]);
}

#[test]
fn what_is_there_already_is_not_fetched_again() {
    assert_fetched("abcdefgh", vec![answer("416 Range Not Satisfiable\r\nContent-Length: 0", "")], &["bytes=8-"]);
}

#[test]
fn a_server_that_stalls_is_left_and_asked_again() {
    let (stalled, _) = answer(WHOLE, "abc");
    let rest = answer("206 Partial Content\r\nContent-Range: bytes 3-7/8\r\nContent-Length: 5", "defgh");
    assert_fetched("", vec![(stalled, Duration::from_secs(1)), rest], &["", "bytes=3-"]);
}

#[test]
fn what_is_always_cut_is_kept_for_the_next_time() {
    let cut = || answer("206 Partial Content\r\nContent-Range: bytes 3-7/8\r\nContent-Length: 5", "");
    let (result, _, kept) = fetch("abc", (0..ATTEMPTS).map(|_| cut()).collect());
    let error = result.unwrap_err();
    assert!(error.message.contains("cannot fetch http://127.0.0.1:"), "{error}");
    assert_eq!(kept.as_deref(), Some("abc"));
}

#[test]
fn a_server_that_fails_after_a_cut_is_asked_again() {
    let rest = answer("206 Partial Content\r\nContent-Range: bytes 3-7/8\r\nContent-Length: 5", "defgh");
    let failing = || answer("503 Busy\r\nContent-Length: 0", "");
    assert_fetched("", vec![answer(WHOLE, "abc"), failing(), rest], &["", "bytes=3-", "bytes=3-"]);
    let (result, _, kept) = fetch("abc", (0..ATTEMPTS).map(|_| failing()).collect());
    let error = result.unwrap_err();
    assert!(error.message.contains("status 503") && error.hint.unwrap().contains("are kept"), "{}", error.message);
    assert_eq!(kept.as_deref(), Some("abc"));
}

#[test]
fn a_wrong_checksum_is_told_and_nothing_kept() {
    let (result, _, kept) = fetch("", vec![answer(WHOLE, "tampered")]);
    assert!(result.unwrap_err().message.contains("wrong checksum"));
    assert_eq!(kept, None);
}

#[test]
fn answers_that_are_no_file_are_errors() {
    let redirect = || answer("302 Found\r\nLocation: SELF\r\nContent-Length: 0", "");
    for (answers, text) in [
        (vec![answer("404 Not Found\r\nContent-Length: 0", "")], "no such file"),
        (vec![answer("500 Oops\r\nContent-Length: 0", "")], "status 500"),
        ((0..6).map(|_| redirect()).collect(), "redirect"),
        (vec![answer("nonsense", "")], "cannot fetch"),
    ] {
        let error = fetch("", answers).0.unwrap_err();
        assert!(error.message.contains(text), "{text}: {error}");
    }
}
