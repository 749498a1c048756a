//! What the management API takes of one client and of a crowd, by both ways in. The limits of time are tried beside the code,
//! with shorter ones.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::harness::{Api, LISTEN, Runtime, SOON, Tls, connect, say, tls_config};

const FOREVER: u64 = 4_000_000_000;

/// A runtime, and the line that lets a request in at each of its ways in.
fn reached() -> (Runtime, String) {
    let runtime = Runtime::new().args(LISTEN).start();
    let token = format!("authorization: {}\r\n", runtime.token("owner", FOREVER));
    (runtime, token)
}

fn near(runtime: &Runtime) -> UnixStream {
    let stream = UnixStream::connect(runtime.state().join("dinrail.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// What is answered at each way in.
fn both(runtime: &Runtime, token: &str, line: &str, headers: &str, body: &[u8]) -> [String; 2] {
    let request = |token: &str| {
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{token}{headers}\r\n");
        [head.as_bytes(), body].concat()
    };
    [say(&mut near(runtime), &request("")), say(&mut runtime.tls(), &request(token))]
}

#[test]
fn a_request_beyond_its_bounds_is_refused_at_once_and_the_next_one_is_answered() {
    let (runtime, token) = reached();
    let long = format!("GET /logs?grep={}", "a".repeat(9_000));
    let large = format!("x-large: {}\r\n", "a".repeat(17_000));
    let many = "x: a\r\n".repeat(100);
    let hundred = "content-type: application/json\r\ncontent-length: 104857600\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    // In chunks, so that nobody knows beforehand.
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let table: [(&str, &str, Vec<u8>, &str); 8] = [
        ("PUT /deployment", hundred, vec![b' '; 2 << 20], "413"),
        ("PATCH /twins/Hannover01", hundred, Vec::new(), "413"),
        ("PUT /deployment", chunked, chunk.repeat(6), "413"),
        (&long, "", Vec::new(), "414"),
        ("GET /modules", &large, Vec::new(), "431"),
        ("GET /modules", &many, Vec::new(), "431"),
        ("GET /nonsense", "", Vec::new(), "404"),
        ("BREW /modules", "", Vec::new(), "405"),
    ];
    for (line, headers, body, status) in &table {
        for answer in both(&runtime, &token, line, headers, body) {
            let line = &line[..line.len().min(40)];
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {status}: {answer}");
        }
        assert!(
            both(&runtime, &token, "GET /modules", "", b"").iter().all(|answer| answer.starts_with("HTTP/1.1 200 "))
        );
    }
}

#[test]
fn a_thousand_connections_are_served_or_told_to_come_again_and_the_operator_is_not_locked_out() {
    let (runtime, token) = reached();
    let (port, config) = (runtime.port(), tls_config(&runtime));
    let request = format!("GET /modules HTTP/1.1\r\nhost: localhost\r\n{token}\r\n");
    // Silent ones take every seat that one address may have.
    let silent: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();

    let ask = |count: usize| {
        let (config, request) = (config.clone(), request.clone());
        std::thread::spawn(move || {
            (0..count).map(|_| say(&mut connect(port, &config), request.as_bytes())).collect::<Vec<_>>()
        })
    };
    let crowd: Vec<_> = (0..20).map(|_| ask(50)).collect();
    for _ in 0..20 {
        runtime.cli(&["list"]).ok();
    }
    let answers: Vec<String> = crowd.into_iter().flat_map(|asked| asked.join().unwrap()).collect();

    assert_eq!(answers.len(), 1000);
    for answer in &answers {
        let is_told = answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1");
        assert!(answer.starts_with("HTTP/1.1 200 ") || is_told, "{answer:?}");
    }
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 503 ")), "nobody was one too many");
    drop(silent);
    crate::harness::wait_until(SOON, "seats are given back", || {
        say(&mut connect(port, &config), request.as_bytes()).starts_with("HTTP/1.1 200 ")
    });
    assert!(runtime.cli(&["check"]).stdout.contains("connections too many"));
}

#[test]
fn a_crowd_at_the_socket_is_served_in_turn() {
    let (runtime, _) = reached();
    let state = runtime.state();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(Api::connect(state).unwrap().ask("GET", "/modules", None).unwrap().0, 200);
                }
            });
        }
    });
}

#[test]
fn what_was_answered_is_in_the_file_of_who_did_what_already() {
    let (runtime, _) = reached();
    let file = runtime.state().join("logs/audit.jsonl");
    let mut api = Api::connect(runtime.state()).unwrap();
    for n in 0..20 {
        let path = format!("/modules/nobody-{n}/stop");
        assert_eq!(api.ask("POST", &path, None).unwrap().0, 404);
        assert!(std::fs::read_to_string(&file).unwrap().contains(&path), "{path} is only on its way");
    }
}

#[test]
fn clients_that_break_off_leave_nothing_behind() {
    let (runtime, token) = reached();
    let (port, config) = (runtime.port(), tls_config(&runtime));
    let half = format!("PUT /deployment HTTP/1.1\r\nhost: localhost\r\n{token}content-length: 100\r\n\r\n{{");
    let open = |_: usize| -> Tls {
        let mut stream = connect(port, &config);
        stream.write_all(half.as_bytes()).unwrap();
        stream
    };
    let files = || std::fs::read_dir(format!("/proc/{}/fd", runtime.pid())).unwrap().count();
    let before = files();
    for _ in 0..5 {
        drop((0..40).map(open).collect::<Vec<_>>());
        let mut noise = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        noise.write_all(&[22, 3, 1, 255, 255, 0, 0, 0]).unwrap();
        let _ = noise.read(&mut [0; 16]);
    }
    crate::harness::wait_until(SOON, "their connections are closed", || files() <= before + 8);
    runtime.cli(&["list"]).ok();
}
