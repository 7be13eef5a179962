//! The running viewer, and a client that speaks to it over a socket as a browser does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `wsi view`; killed with its value.
pub(crate) struct Viewing {
    pub(crate) process: Child,
    pub(crate) port: u16,
    /// Lines that it prints.
    lines: Receiver<String>,
}

impl Viewing {
    /// Starts the program and waits for its link.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Result<(Self, String)> {
        let mut process = Command::new(program)
            .arg("view")
            .args(arguments)
            .env("SSH_CONNECTION", "a test")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the program starts")?;
        let (send, lines) = channel();
        let out = process.stdout.take().context("its output")?;
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut viewing = Self { process, port: 0, lines };
        let tunnel = viewing.line()?;
        let link = viewing.link()?;
        viewing.port = link.split(':').nth(2).and_then(|rest| rest.split('/').next()).context("a port")?.parse()?;
        let port = viewing.port;
        anyhow::ensure!(tunnel.contains(&format!("ssh -N -L {port}:127.0.0.1:{port} <this machine>")), "{tunnel}");
        Ok((viewing, link))
    }

    fn line(&mut self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).map_err(|_| {
            let _ = self.process.kill();
            let mut said = String::new();
            let _ = self.process.stderr.take().map(|mut err| err.read_to_string(&mut said));
            anyhow::anyhow!("the viewer printed nothing more: {said}")
        })
    }

    /// The next link that it prints.
    pub(crate) fn link(&mut self) -> Result<String> {
        let line = self.line()?;
        line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned).with_context(|| format!("no link in '{line}'"))
    }

    /// A client that the link has let in.
    pub(crate) fn enter(&self, link: &str) -> Result<Visitor> {
        let mut visitor = Visitor::new(self.port);
        let path = link.split_once(&format!(":{}", self.port)).context("the port's link")?.1;
        let answer = visitor.get(path)?;
        anyhow::ensure!(answer.status == 303, "the link was answered by {}: {}", answer.status, answer.text());
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next()).context("a cookie")?;
        visitor.cookie = format!("Cookie: {cookie}\r\n");
        Ok(visitor)
    }

    /// A number of `/proc/<pid>/status`, kB.
    pub(crate) fn memory_kb(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Files, sockets included, that it has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(Path::new("/proc").join(self.process.id().to_string()).join("fd"))?.count())
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client with one connection, which it opens again where the server has closed it.
#[derive(Clone)]
pub(crate) struct Visitor {
    port: u16,
    /// The whole header, or nothing.
    pub(crate) cookie: String,
    connection: Connection,
}

#[derive(Default)]
struct Connection(Option<BufReader<TcpStream>>);

impl Clone for Connection {
    /// Another client has another connection.
    fn clone(&self) -> Self {
        Self(None)
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Visitor {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, cookie: String::new(), connection: Connection::default() }
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{}\r\n", self.port, self.cookie);
        self.send(head.as_bytes())
    }

    /// Sends bytes as they are and reads one answer; once more over a new connection if the old one was at its end.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer> {
        let kept = self.connection.0.is_some();
        match self.turn(request) {
            Err(_) if kept => {
                self.connection.0 = None;
                self.turn(request)
            }
            outcome => outcome,
        }
    }

    fn turn(&mut self, request: &[u8]) -> Result<Answer> {
        let mut connection = match self.connection.0.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        connection.get_mut().write_all(request)?;
        let answer = read(&mut connection)?;
        if answer.header("connection") != Some("close") {
            self.connection.0 = Some(connection);
        }
        Ok(answer)
    }
}

fn read(source: &mut BufReader<TcpStream>) -> Result<Answer> {
    let mut line = String::new();
    source.read_line(&mut line)?;
    let status = line.split(' ').nth(1).with_context(|| format!("'{line}' is no answer"))?.parse()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        source.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None if line.trim().is_empty() => break,
            None => bail!("'{line}' is no header"),
        }
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").context("a length")?.parse()?;
    answer.body = vec![0; length];
    source.read_exact(&mut answer.body)?;
    Ok(answer)
}
