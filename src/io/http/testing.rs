//! A server that answers what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use url::Url;

pub(crate) struct Server {
    pub(crate) url: Url,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Gives each connection one of `answers`, in turn, and further ones none. An answer without `Connection: close` leaves
    /// its connection open, and an empty one closes it.
    pub(crate) fn start<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let known = heads.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            let mut answers = answers.into_iter();
            for mut stream in listener.incoming().map(Result::unwrap) {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    head.push_str(&std::mem::take(&mut line));
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
                known.lock().unwrap().push(head);
                let Some(answer) = answers.next() else { continue };
                // Who asked may have gone.
                let _ = stream.write_all(answer.as_bytes());
                if !answer.is_empty() && !answer.contains("Connection: close") {
                    open.push(stream);
                }
            }
        });
        Self { url, heads }
    }

    /// What each request began with.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
